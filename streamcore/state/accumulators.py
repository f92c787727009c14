"""Accumulators: mergeable running values, one number per entry of an array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

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

    def values(self, batch: Columns) -> Numbers:
        """What one record adds, for each record of a batch; (n,)."""
        if self.kind == "count":
            return np.ones(len(batch), np.int64)
        return np.asarray(batch[self.field], self.dtype)

    def add(self, totals: Numbers, entries: Entries, batch: Columns) -> None:
        """Adds records: record i to totals[entries[i]]."""
        if self.kind == "count":
            add_ones(totals, entries)
        else:
            self.merge(totals, entries, self.values(batch))

    def merge(self, totals: Numbers, entries: Entries, partial: Numbers) -> None:
        """Adds accumulated values: partial[i] to totals[entries[i]]."""
        _MERGE[self.kind](totals, entries, partial)


COUNT = Accumulator("count")
