"""State descriptors: what an operator declares, by name, to get a handle on its state for the current key.

Every descriptor may have a `version`, 0 unless told, and a `migrate` function, which is given what a snapshot of an
older version has, and that version, and returns what the new version has in its place. Objects come to it as plain
data: records as dictionaries of their fields (`streamcore.batch.record_forms.SavedRecord`). It is called once for each
old value when a snapshot is restored. Changes that `streamcore.state.evolution` knows what to do with need no version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from streamcore.batch import Array, Columns, Schema
from streamcore.errors import TopologyError

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class ValueState(Generic[T]):
    """One value per key; `default` until it is set. Replace the value, don't mutate it in place.

    Attributes:
        migrate: `migrate(old value, old version)` gives the new value.
    """

    name: str
    default: T
    version: int = 0
    migrate: Callable[[Any, int], T] | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class ListState(Generic[T]):
    """A list of values per key.

    Attributes:
        migrate: `migrate(old value, old version)` gives the new value; called for each value of the list.
    """

    name: str
    version: int = 0
    migrate: Callable[[Any, int], T] | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class MapState(Generic[K, V]):
    """A dictionary per key.

    Attributes:
        migrate: `migrate(old value, old version)` gives the new value; called for each value of the dictionary.
    """

    name: str
    version: int = 0
    migrate: Callable[[Any, int], V] | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class ReducingState(Generic[T]):
    """One value per key: all values added so far, folded by `reduce`.

    Attributes:
        migrate: `migrate(old value, old version)` gives the new value.
    """

    name: str
    reduce: Callable[[T, T], T]
    version: int = 0
    migrate: Callable[[Any, int], T] | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class ColumnarState:
    """A struct of fixed-width fields per key, in NumPy arrays: one array per field, one row (slot) per key.

    Attributes:
        schema: the fields; only fixed-width ones.
        initial: gives the first values of new keys: called with the keys (n,), returns an array (n,) or
            (n, width) for some or all of the fields; fields it leaves out start at zero.
        migrate: `migrate(old columns, old version)` gives an array for some or all of the fields, in the order of the
            rows; fields it leaves out start as those of new keys.
    """

    name: str
    schema: Schema
    initial: Callable[[Array], Mapping[str, Array]] | None = None
    version: int = 0
    migrate: Callable[[Columns, int], Mapping[str, Array]] | None = None

    def __post_init__(self) -> None:
        _check(self)
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
        migrate: `migrate(old rows, old version)` gives the new rows, of the same keys.
    """

    name: str
    key: str | tuple[str, ...]
    capture: Callable[[], Columns]
    restore: Callable[[Columns], None]
    schema: Schema | None = None
    version: int = 0
    migrate: Callable[[Columns, int], Columns] | None = None

    def __post_init__(self) -> None:
        _check(self)


Versioned = ValueState[Any] | ListState[Any] | MapState[Any, Any] | ReducingState[Any] | ColumnarState | TableState
"""Any descriptor."""


def _check(descriptor: Any) -> None:
    version = descriptor.version
    if not isinstance(version, int) or version < 0 or (descriptor.migrate is not None and version == 0):
        raise TopologyError(
            f"state {descriptor.name!r}: version {version!r}{' with migrate' if descriptor.migrate else ''}",
            hint="a version is 0, 1, 2, ...; one with migrate is above that of the snapshots it is for: at least 1",
        )
