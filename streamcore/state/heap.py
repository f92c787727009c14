"""The heap backend: Python values in dictionaries, and the handles through which operators use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from streamcore.batch import plain
from streamcore.state.descriptors import ListState, MapState, ReducingState, ValueState
from streamcore.state.key_groups import groups_of
from streamcore.state.object_table import CurrentKey, ObjectState, ObjectTable, Saved, StateBackend

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class _Handle:
    __slots__ = ("_current", "_table")

    def __init__(self, current: CurrentKey, table: dict[Any, Any]) -> None:
        self._current = current
        self._table = table

    def all_keys(self) -> list[Any]:
        """All keys that there is something for, whatever the current one is."""
        return list(self._table)

    def clear(self) -> None:
        """Forgets the current key."""
        self._table.pop(self._current.key, None)


class ValueHandle(_Handle, Generic[T]):
    """One value per key."""

    __slots__ = ("_default",)

    def __init__(self, current: CurrentKey, table: dict[Any, Any], default: T) -> None:
        super().__init__(current, table)
        self._default = default

    def get(self) -> T:
        """The value, or the descriptor's default."""
        value: T = self._table.get(self._current.key, self._default)
        return value

    def set(self, value: T) -> None:
        """Replaces the value."""
        self._table[self._current.key] = value


class ListHandle(_Handle, Generic[T]):
    """A list per key."""

    __slots__ = ()

    def add(self, value: T) -> None:
        """Appends a value."""
        self._table.setdefault(self._current.key, []).append(value)

    def get(self) -> list[T]:
        """A copy of the list, empty if nothing was added."""
        return list(self._table.get(self._current.key, ()))

    def set(self, values: list[T]) -> None:
        """Replaces the list."""
        self._table[self._current.key] = list(values)


class MapHandle(_Handle, Generic[K, V]):
    """A dictionary per key."""

    __slots__ = ()

    def get(self, key: K, default: V | None = None) -> V | None:
        """The value under `key` in the current key's map."""
        return self._table.get(self._current.key, {}).get(key, default)  # type: ignore[no-any-return]

    def put(self, key: K, value: V) -> None:
        """Sets the value under `key`."""
        self._table.setdefault(self._current.key, {})[key] = value

    def remove(self, key: K) -> None:
        """Removes `key`, if it is there."""
        self._table.get(self._current.key, {}).pop(key, None)

    def items(self) -> Iterator[tuple[K, V]]:
        """The pairs of the current key's map, as they are now."""
        return iter(list(self._table.get(self._current.key, {}).items()))


class ReducingHandle(_Handle, Generic[T]):
    """A folded value per key."""

    __slots__ = ("_reduce",)

    def __init__(self, current: CurrentKey, table: dict[Any, Any], reduce: Callable[[T, T], T]) -> None:
        super().__init__(current, table)
        self._reduce = reduce

    def add(self, value: T) -> T:
        """Folds a value in and returns the result."""
        key, table = self._current.key, self._table
        table[key] = result = self._reduce(table[key], value) if key in table else value
        return result

    def get(self) -> T | None:
        """The folded value, None before the first."""
        return self._table.get(self._current.key)


class HeapTable(ObjectTable):
    """A dictionary."""

    def __init__(self, kind: str, max_parallelism: int, *, allow_pickle: bool) -> None:
        self._kind = kind
        self._max_parallelism = max_parallelism
        self._allow_pickle = allow_pickle
        self.values: dict[Any, Any] = {}

    @property
    def bare(self) -> dict[Any, Any] | None:
        return self.values

    def batch(self, keys: Sequence[Any]) -> dict[Any, Any]:
        return self.values

    def get(self, key: Any, default: Any = None) -> Any:
        return self.values.get(key, default)

    def for_update(self, key: Any, default: Any = None) -> Any:
        return self.values.get(key, default)

    def put(self, key: Any, value: Any) -> None:
        self.values[key] = value

    def remove(self, key: Any) -> None:
        self.values.pop(key, None)

    def clear(self) -> None:
        self.values.clear()

    def all_keys(self) -> list[Any]:
        return list(self.values)

    def items(self) -> Iterator[tuple[Any, Any]]:
        return iter(self.values.items())

    def __len__(self) -> int:
        return len(self.values)

    def restore(self, saved: Saved, groups: range) -> None:
        for group, body in saved["groups"].items():
            if group in groups:
                pairs = plain.decode(body, allow_pickle=self._allow_pickle)
                self.values.update((key, value) for key, value in pairs)

    def captured(self) -> Saved:
        table = self.values
        keys = list(table)
        by_group: dict[int, list[list[Any]]] = {}
        for key, group in zip(keys, groups_of(keys, self._max_parallelism).tolist(), strict=True):
            by_group.setdefault(group, []).append([key, table[key]])
        encode, allow_pickle = plain.encode, self._allow_pickle
        return {
            "kind": self._kind,
            "groups": {group: encode(entries, allow_pickle=allow_pickle) for group, entries in by_group.items()},
        }


class HeapBackend(StateBackend):
    """State in this process's memory."""

    def __init__(self, max_parallelism: int, *, allow_pickle: bool) -> None:
        self._max_parallelism = max_parallelism
        self._allow_pickle = allow_pickle

    def table(self, name: str, kind: str) -> HeapTable:
        return HeapTable(kind, self._max_parallelism, allow_pickle=self._allow_pickle)

    def handle(self, descriptor: ObjectState, table: ObjectTable, current: CurrentKey) -> Any:
        assert isinstance(table, HeapTable), "a handle on another backend's table"
        match descriptor:
            case ValueState():
                return ValueHandle(current, table.values, descriptor.default)
            case ListState():
                return ListHandle(current, table.values)
            case MapState():
                return MapHandle(current, table.values)
            case ReducingState():
                return ReducingHandle(current, table.values, descriptor.reduce)
