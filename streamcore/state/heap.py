"""The heap backend: Python values in dictionaries, and the handles through which operators use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from streamcore.batch import plain
from streamcore.state.key_groups import groups_of

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class CurrentKey:
    """The key of the record at hand; handles look their value up under it."""

    __slots__ = ("key",)

    def __init__(self) -> None:
        self.key: Any = None


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


def capture_table(table: dict[Any, Any], kind: str, max_parallelism: int, *, allow_pickle: bool) -> dict[str, Any]:
    """The entries of a table, encoded by key group."""
    keys = list(table)
    by_group: dict[int, list[list[Any]]] = {}
    for key, group in zip(keys, groups_of(keys, max_parallelism).tolist(), strict=True):
        by_group.setdefault(group, []).append([key, table[key]])
    return {
        "kind": kind,
        "groups": {group: plain.encode(entries, allow_pickle=allow_pickle) for group, entries in by_group.items()},
    }


def restore_table(table: dict[Any, Any], saved: dict[str, Any], groups: range, *, allow_pickle: bool) -> None:
    """Adds the entries of `saved` that belong to this subtask's key groups."""
    for group, body in saved["groups"].items():
        if group in groups:
            table.update((key, value) for key, value in plain.decode(body, allow_pickle=allow_pickle))
