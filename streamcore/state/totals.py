"""The values of accumulators, with a place per entry: what tables of windows keep beside their keys and bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamcore.batch import Columns, Field
from streamcore.kernels.accumulate import set_all
from streamcore.state.accumulators import Accumulating, Numbers, fresh

IntArray = np.ndarray[Any, np.dtype[np.int64]]

Values = list[list[Numbers]]
"""Of each accumulator the array of each part; (n,) each."""


class Totals:
    """The accumulated values of entries 0 to `capacity`, to which nothing has been added."""

    def __init__(self, accumulators: Sequence[Accumulating], capacity: int = 256) -> None:
        self.accumulators = tuple(accumulators)
        self.capacity = capacity
        self.arrays: Values = [fresh(accumulator, capacity) for accumulator in self.accumulators]

    def grow(self, capacity: int) -> None:
        """Makes room for more entries; those to which nothing has been added must `begin`."""
        self.capacity = capacity
        for accumulator, arrays in zip(self.accumulators, self.arrays, strict=True):
            for place, part in enumerate(accumulator.parts):
                bigger = np.empty(capacity, part.dtype)
                bigger[: len(arrays[place])] = arrays[place]
                arrays[place] = bigger

    def begin(self, entries: IntArray) -> None:
        """Takes entries back to where nothing has been added."""
        for accumulator, arrays in zip(self.accumulators, self.arrays, strict=True):
            for array, part in zip(arrays, accumulator.parts, strict=True):
                if part.dtype == object:
                    array[entries] = part.initial
                else:
                    set_all(array, entries, part.initial)

    def add(self, entries: IntArray, batch: Columns) -> None:
        """Adds records in order, the i-th to entries[i]."""
        for accumulator, arrays in zip(self.accumulators, self.arrays, strict=True):
            accumulator.add(arrays, entries, batch)

    def merge(self, entries: IntArray, values: Values) -> None:
        """Adds accumulated values, the i-th to entries[i]."""
        for accumulator, arrays, more in zip(self.accumulators, self.arrays, values, strict=True):
            accumulator.merge(arrays, entries, more)

    def take(self, entries: IntArray) -> Values:
        """The values of some entries; copies."""
        return [[array[entries] for array in arrays] for arrays in self.arrays]

    def snapshot(self, entries: IntArray) -> Values:
        """The values of some entries, which stay as they are whatever is added later: `take` shares objects."""
        values = self.take(entries)
        for place, accumulator in enumerate(self.accumulators):
            if any(part.dtype == np.dtype(object) for part in accumulator.parts):
                copies = fresh(accumulator, len(entries))
                accumulator.merge(copies, np.arange(len(entries)), values[place])
                values[place] = copies
        return values

    def put(self, entries: IntArray, values: Values) -> None:
        """Replaces the values of some entries; of an entry that is given twice, the later ones stay."""
        for arrays, replacing in zip(self.arrays, values, strict=True):
            for array, value in zip(arrays, replacing, strict=True):
                array[entries] = value

    def release(self, entries: IntArray) -> None:
        """Drops the objects that entries hold which are not in use any more: they may be large."""
        for accumulator, arrays in zip(self.accumulators, self.arrays, strict=True):
            for array, part in zip(arrays, accumulator.parts, strict=True):
                if part.dtype == np.dtype(object):
                    array[entries] = part.initial

    def by_accumulator(self, values: Values) -> dict[Accumulating, list[Numbers]]:
        """Values by accumulator, part by part, as aggregates ask for them."""
        return dict(zip(self.accumulators, values, strict=True))

    def fields(self, names: Sequence[str]) -> list[Field]:
        """The columns of a snapshot under these names, one for each part."""
        parts = [part for accumulator in self.accumulators for part in accumulator.parts]
        return [part.field(name) for name, part in zip(names, parts, strict=True)]

    def encoded(self, names: Sequence[str], values: Values) -> dict[str, Any]:
        """Values as these columns."""
        pairs = zip(self.accumulators, values, strict=True)
        columns = [part.encode(array) for a, arrays in pairs for part, array in zip(a.parts, arrays, strict=True)]
        return dict(zip(names, columns, strict=True))

    def decoded(self, names: Sequence[str], rows: Columns) -> Values:
        """The values that such columns stand for."""
        free = iter(names)
        return [[part.decode(rows[next(free)]) for part in accumulator.parts] for accumulator in self.accumulators]


def concat_values(parts: Sequence[Values]) -> Values:
    """The values of all parts, at least one, in order."""
    if len(parts) == 1:
        return parts[0]
    return [
        [np.concatenate([part[a][p] for part in parts]) for p in range(len(parts[0][a]))] for a in range(len(parts[0]))
    ]
