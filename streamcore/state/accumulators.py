"""Accumulators: mergeable running values, kept in arrays with a place per entry."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from streamcore.batch import Columns
from streamcore.kernels.accumulate import add_ones, add_values, keep_highest, keep_lowest

Kind = Literal["count", "sum", "min", "max"]
Numbers = np.ndarray[Any, Any]
Entries = np.ndarray[Any, np.dtype[np.int64]]

_MERGE: dict[Kind, Callable[[Numbers, Entries, Numbers], None]] = {
    "count": add_values,
    "sum": add_values,
    "min": keep_lowest,
    "max": keep_highest,
}


class Part(NamedTuple):
    """One of the arrays that an accumulator keeps, with the value before anything was added."""

    name: str
    dtype: np.dtype[Any]
    initial: float | int


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
    """What is kept of the values of `field`: their number, sum, lowest or highest.

    Integers are kept as int64, and a sum beyond it wraps round, as in NumPy; floats as float64.
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
        if self.kind == "count":
            add_ones(totals[0], entries)
        else:
            _MERGE[self.kind](totals[0], entries, np.asarray(batch[self.field], self.dtype))

    def merge(self, totals: Sequence[Numbers], entries: Entries, partial: Sequence[Numbers]) -> None:
        """Adds accumulated values: partial[0][i] to totals[0][entries[i]]."""
        _MERGE[self.kind](totals[0], entries, partial[0])


COUNT = Accumulator("count")
