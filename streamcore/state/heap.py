"""The heap backend: Python values in dictionaries, and the handles through which operators use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from streamcore.state.capture import Capture
from streamcore.state.changed_keys import ChangedKeys
from streamcore.state.descriptors import ListState, MapState, ReducingState, ValueState
from streamcore.state.heap_table import HeapTable, Values
from streamcore.state.object_table import CurrentKey, ObjectState, ObjectTable, StateBackend

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class _Handle:
    __slots__ = ("_current", "_table")
    _table: Values

    def __init__(self, current: CurrentKey, table: HeapTable) -> None:
        self._current = current
        table.attach(self)

    def all_keys(self) -> list[Any]:
        """All keys that there is something for, whatever the current one is."""
        return list(self._table)

    def clear(self) -> None:
        """Forgets the current key."""
        self._table.pop(self._current.key, None)


class ValueHandle(_Handle, Generic[T]):
    """One value per key."""

    __slots__ = ("_default",)

    def __init__(self, current: CurrentKey, table: HeapTable, default: T) -> None:
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

    def __init__(self, current: CurrentKey, table: HeapTable, reduce: Callable[[T, T], T]) -> None:
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


class HeapBackend(StateBackend):
    """State in this process's memory."""

    def __init__(self, max_parallelism: int, *, allow_pickle: bool) -> None:
        self._max_parallelism = max_parallelism
        self._allow_pickle = allow_pickle
        self._tables: dict[str, HeapTable] = {}
        self._changed = ChangedKeys()

    def table(self, name: str, kind: str) -> HeapTable:
        table = HeapTable(kind, self._max_parallelism, self._changed, allow_pickle=self._allow_pickle)
        self._tables[name] = table
        return table

    def handle(self, descriptor: ObjectState, table: ObjectTable, current: CurrentKey) -> Any:
        assert isinstance(table, HeapTable), "a handle on another backend's table"
        match descriptor:
            case ValueState():
                return ValueHandle(current, table, descriptor.default)
            case ListState():
                return ListHandle(current, table)
            case MapState():
                return MapHandle(current, table)
            case ReducingState():
                return ReducingHandle(current, table, descriptor.reduce)

    def touch(self, keys: Sequence[Any]) -> None:
        self._changed.add(keys)

    def capture(self, checkpoint_id: int, since: int | None) -> Mapping[str, Capture]:
        changed = self._changed.since(since) if since is not None else None
        captures = {name: table.capture(changed) for name, table in self._tables.items()}
        self._changed.begin(checkpoint_id, max(map(len, self._tables.values()), default=0))
        return captures
