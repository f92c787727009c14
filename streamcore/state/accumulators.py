"""Accumulators: mergeable running values, kept in arrays with a place per entry."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from streamcore.batch import Columns, Field
from streamcore.kernels.accumulate import (
    add_moments,
    add_ones,
    add_values,
    keep_highest,
    keep_lowest,
    merge_moments,
)
from streamcore.state.values import numbers, present_rows, rows_of

Kind = Literal["count", "sum", "min", "max"]
Numbers = np.ndarray[Any, Any]
Entries = np.ndarray[Any, np.dtype[np.int64]]

_MERGE: dict[Kind, Callable[[Numbers, Entries, Numbers], None]] = {
    "count": add_values,
    "sum": add_values,
    "min": keep_lowest,
    "max": keep_highest,
}


class Codec(Protocol):
    """How the objects of a part are kept as an Arrow column: in partial results, on their way, and in snapshots."""

    @property
    def type(self) -> pa.DataType:
        """The column's type."""
        ...

    def encode(self, values: Numbers) -> pa.Array:
        """The column of some objects; (n,)."""
        ...

    def decode(self, column: pa.Array) -> Numbers:
        """The objects of a column; (n,) of dtype object, shared with nobody."""
        ...


class Part(NamedTuple):
    """One of the arrays that an accumulator keeps, with the value before anything was added. An array of objects
    needs a codec."""

    name: str
    dtype: np.dtype[Any]
    initial: Any
    codec: Codec | None = None

    def field(self, name: str) -> Field:
        """The column of partial results that the part becomes."""
        if self.codec is not None:
            return Field(name, self.codec.type, nullable=True)
        return Field(name, pa.from_numpy_dtype(self.dtype))

    def encode(self, values: Numbers) -> Any:
        """Values of the part as a column of partial results; (n,)."""
        return self.codec.encode(values) if self.codec is not None else values

    def decode(self, column: Any) -> Numbers:
        """The values that a column of partial results stands for; (n,)."""
        values: Numbers = self.codec.decode(column) if self.codec is not None else column
        return values


class Accumulating(Protocol):
    """What a table of entries asks of an accumulator. `totals` has the array of each part, (capacity,) each."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The arrays that it keeps."""
        ...

    def add(self, totals: Sequence[Numbers], entries: Entries, batch: Columns) -> None:
        """Adds records in order: record i to entries[i]."""
        ...

    def merge(self, totals: Sequence[Numbers], entries: Entries, partial: Sequence[Numbers]) -> None:
        """Adds accumulated values, (n,) per part: the i-th to entries[i], as if its records came after those that are
        there. `partial` is left as it is, also where its values are objects, and nothing of it is kept in `totals`."""
        ...


@dataclass(frozen=True)
class Accumulator:
    """What is kept of the values of `field`: their number, sum, lowest or highest. Missing values are left out.

    Integers and times are kept as int64, and a sum beyond it wraps round, as in NumPy; floats as float64.
    """

    kind: Kind
    field: str = ""
    is_float: bool = False

    @property
    def name(self) -> str:
        """Its name among the accumulators of one stream."""
        return f"{self.kind}_{self.field}" if self.field else self.kind

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64 or int64."""
        return np.dtype(np.float64 if self.is_float else np.int64)

    @property
    def initial(self) -> float | int:
        """The value before anything was added."""
        if self.kind in ("count", "sum"):
            return 0
        if self.is_float:
            return np.nan
        bounds = np.iinfo(np.int64)
        return bounds.max if self.kind == "min" else bounds.min

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """The one array."""
        return (Part(self.name, self.dtype, self.initial),)

    def add(self, totals: Sequence[Numbers], entries: Entries, batch: Columns) -> None:
        """Adds records: record i to totals[0][entries[i]]."""
        rows = None
        if self.field:
            column = batch[self.field] if self.kind != "count" else batch.encoded(self.field)
            rows = present_rows(column)
        if rows is not None:
            entries, column = entries[rows], rows_of(column, rows)
        if self.kind == "count":
            add_ones(totals[0], entries)
        else:
            _MERGE[self.kind](totals[0], entries, numbers(column))

    def merge(self, totals: Sequence[Numbers], entries: Entries, partial: Sequence[Numbers]) -> None:
        """Adds accumulated values: partial[0][i] to totals[0][entries[i]]."""
        _MERGE[self.kind](totals[0], entries, partial[0])


COUNT = Accumulator("count")


@dataclass(frozen=True)
class Moments:
    """The number of the values of `field`, their mean, and the sum of their squared distances from it.

    Kept so that values far from zero lose nothing (Welford 1962), and merged so (Chan, Golub and LeVeque 1979).
    """

    field: str

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """Number, mean, sum of squares."""
        wide = np.dtype(np.float64)
        return (
            Part(f"number_{self.field}", np.dtype(np.int64), 0),
            Part(f"center_{self.field}", wide, 0.0),
            Part(f"squares_{self.field}", wide, 0.0),
        )

    def add(self, totals: Sequence[Numbers], entries: Entries, batch: Columns) -> None:
        """Adds records: record i to the moments of entries[i]."""
        column = batch[self.field]
        rows = present_rows(column)
        entries = entries if rows is None else entries[rows]
        counts, means, squares = totals
        values = numbers(rows_of(column, rows)).astype(np.float64, copy=False)
        add_moments(counts, means, squares, entries, values)

    def merge(self, totals: Sequence[Numbers], entries: Entries, partial: Sequence[Numbers]) -> None:
        """Adds accumulated moments: the i-th to those of entries[i]."""
        counts, means, squares = totals
        merge_moments(counts, means, squares, entries, partial[0], partial[1], partial[2])


def fresh(accumulator: Accumulating, count: int) -> list[Numbers]:
    """The arrays of an accumulator with a place for each of `count` entries, to which nothing has been added."""
    return [np.full(count, part.initial, part.dtype) for part in accumulator.parts]
