"""State descriptors: what an operator declares, by name, to get a handle on its state for the current key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from streamcore.batch import Array, Columns, Schema
from streamcore.errors import TopologyError

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class ValueState(Generic[T]):
    """One value per key; `default` until it is set. Replace the value, don't mutate it in place."""

    name: str
    default: T


@dataclass(frozen=True, slots=True)
class ListState(Generic[T]):
    """A list of values per key."""

    name: str


@dataclass(frozen=True, slots=True)
class MapState(Generic[K, V]):
    """A dictionary per key."""

    name: str


@dataclass(frozen=True, slots=True)
class ReducingState(Generic[T]):
    """One value per key: all values added so far, folded by `reduce`."""

    name: str
    reduce: Callable[[T, T], T]


@dataclass(frozen=True, slots=True)
class ColumnarState:
    """A struct of fixed-width fields per key, in NumPy arrays: one array per field, one row (slot) per key.

    Attributes:
        schema: the fields; only fixed-width ones.
        initial: gives the first values of new keys: called with the keys (n,), returns an array (n,) or
            (n, width) for some or all of the fields; fields it leaves out start at zero.
    """

    name: str
    schema: Schema
    initial: Callable[[Array], Mapping[str, Array]] | None = None

    def __post_init__(self) -> None:
        for field in self.schema.fields:
            if field.dtype is None:
                raise TopologyError(f"columnar state {self.name!r}: field {field} is not of fixed width")


@dataclass(frozen=True, slots=True)
class TableState:
    """Keyed state in a form of the operator's own (a compiled pool, a sketch), saved as a table of rows.

    Attributes:
        key: the column that holds each row's key, or the columns of a key of several fields; none: all rows have one.
        capture: gives the rows at the moment of a snapshot; the arrays must not change afterwards.
        restore: takes the rows of this subtask's keys, in captured order within each key.
        schema: the columns that `restore` reads; a snapshot may have more. None: it finds out by itself.
    """

    name: str
    key: str | tuple[str, ...]
    capture: Callable[[], Columns]
    restore: Callable[[Columns], None]
    schema: Schema | None = None
