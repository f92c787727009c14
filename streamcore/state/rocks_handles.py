"""The handles on state in RocksDB. What they are given is saved soon, so it must not be changed in place after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from streamcore.state.heap import ListHandle, MapHandle, ReducingHandle, ValueHandle
from streamcore.state.object_table import CurrentKey
from streamcore.state.rocks_tables import ListTable, MapTable, ValueTable

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class RocksValue(ValueHandle[T]):
    """One value per key."""

    __slots__ = ("_rocks",)

    def __init__(self, current: CurrentKey, table: ValueTable, default: T) -> None:
        self._current = current
        self._rocks = table
        self._default = default

    def all_keys(self) -> list[Any]:
        return self._rocks.all_keys()

    def clear(self) -> None:
        self._rocks.remove(self._current.key)

    def get(self) -> T:
        value: T = self._rocks.get(self._current.key, self._default)
        return value

    def set(self, value: T) -> None:
        self._rocks.set(self._current.key, value)


class RocksList(ListHandle[T]):
    """A list per key."""

    __slots__ = ("_rocks",)

    def __init__(self, current: CurrentKey, table: ListTable) -> None:
        self._current = current
        self._rocks = table

    def all_keys(self) -> list[Any]:
        return self._rocks.all_keys()

    def clear(self) -> None:
        self._rocks.remove(self._current.key)

    def add(self, value: T) -> None:
        self._rocks.add(self._current.key, value)

    def get(self) -> list[T]:
        values: list[T] = self._rocks.get(self._current.key, [])
        return values

    def set(self, values: list[T]) -> None:
        self._rocks.write(self._current.key, values)


class RocksMap(MapHandle[K, V]):
    """A dictionary per key. Its pairs come in the order of their saved keys."""

    __slots__ = ("_rocks",)

    def __init__(self, current: CurrentKey, table: MapTable) -> None:
        self._current = current
        self._rocks = table

    def all_keys(self) -> list[Any]:
        return self._rocks.all_keys()

    def clear(self) -> None:
        self._rocks.remove(self._current.key)

    def get(self, key: K, default: V | None = None) -> V | None:
        value: V | None = self._rocks.get_item(self._current.key, key, default)
        return value

    def put(self, key: K, value: V) -> None:
        self._rocks.put_item(self._current.key, key, value)

    def remove(self, key: K) -> None:
        self._rocks.remove_item(self._current.key, key)

    def items(self) -> Iterator[tuple[K, V]]:
        return self._rocks.pairs(self._current.key)


class RocksReducing(ReducingHandle[T]):
    """A folded value per key."""

    __slots__ = ("_rocks",)

    def __init__(self, current: CurrentKey, table: ValueTable, reduce: Callable[[T, T], T]) -> None:
        self._current = current
        self._rocks = table
        self._reduce = reduce

    def all_keys(self) -> list[Any]:
        return self._rocks.all_keys()

    def clear(self) -> None:
        self._rocks.remove(self._current.key)

    def add(self, value: T) -> T:
        key = self._current.key
        before = self._rocks.get(key, _NONE)
        result = value if before is _NONE else self._reduce(before, value)
        self._rocks.set(key, result)
        return result

    def get(self) -> T | None:
        value: T | None = self._rocks.get(self._current.key)
        return value


_NONE: Any = object()
