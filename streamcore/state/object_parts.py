"""Parts of accumulators that are Python objects, one per entry: how they are kept as Arrow columns, and the loop over
the entries of a batch.

`None` stands for an entry to which nothing has been added. Objects of one table are never shared with another:
what is merged into an empty place is copied.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.kernels.grouping import number_entries
from streamcore.kernels.partition import group_rows
from streamcore.state.values import Rows, column_of, objects

Objects = np.ndarray[Any, np.dtype[np.object_]]


@dataclass(frozen=True)
class ValueCodec:
    """One Python value per entry, in a column of the values' type."""

    type: pa.DataType

    def encode(self, values: Objects) -> pa.Array:
        """The column; values may be missing."""
        return column_of(values.tolist(), self.type)

    def decode(self, column: pa.Array) -> Objects:
        """What `encode` was given."""
        return object_array(objects(column))


@dataclass(frozen=True)
class ListCodec:
    """A list or set of Python values per entry, in a column of Arrow lists.

    Args:
        item: the values' type.
        make: what holds the values of an entry: `list` or `set`.
    """

    item: pa.DataType
    make: Callable[[list[Any]], Any] = list

    @property
    def type(self) -> pa.DataType:
        """The column's type."""
        return pa.list_(self.item)

    def encode(self, values: Objects) -> pa.Array:
        """The column; nothing yet is an empty list."""
        held = [value if value is not None else () for value in values.tolist()]
        offsets = np.zeros(len(held) + 1, np.int32)
        np.cumsum(np.fromiter(map(len, held), np.int64, len(held)), out=offsets[1:])
        flat = column_of(list(itertools.chain.from_iterable(held)), self.item)
        return pa.ListArray.from_arrays(pa.array(offsets), flat)

    def decode(self, column: pa.Array) -> Objects:
        """What `encode` was given, an empty list or set where there was nothing."""
        bounds, flat = (column.offsets.to_numpy() - column.offsets[0].as_py()).tolist(), objects(column.flatten())
        return object_array([self.make(flat[start:stop]) for start, stop in itertools.pairwise(bounds)])


@dataclass(frozen=True)
class BytesCodec:
    """An object per entry that has a form in bytes."""

    to_bytes: Callable[[Any], bytes]
    from_bytes: Callable[[bytes], Any]

    @property
    def type(self) -> pa.DataType:
        """The column's type."""
        return pa.large_binary()

    def encode(self, values: Objects) -> pa.Array:
        """The column; nothing yet is missing."""
        return pa.array([None if value is None else self.to_bytes(value) for value in values.tolist()], self.type)

    def decode(self, column: pa.Array) -> Objects:
        """What `encode` was given."""
        return object_array([None if value is None else self.from_bytes(value) for value in column.to_pylist()])


def object_array(values: list[Any]) -> Objects:
    """The objects side by side, also those that NumPy would take for arrays themselves; (n,)."""
    return np.fromiter(values, object, len(values))


def by_entry(entries: Rows) -> tuple[Rows, Iterator[tuple[int, int, int]]]:
    """Rows grouped by entry: the rows in that order, int64 (n,), and (entry, start, stop) of each group among them."""
    distinct, numbers = number_entries(entries)
    rows, starts = group_rows(numbers, len(distinct))
    bounds = starts.tolist()
    return rows, zip(distinct.tolist(), bounds[:-1], bounds[1:], strict=True)


def last_rows(entries: Rows) -> tuple[Rows, Rows]:
    """The distinct entries, and the last row of each; int64 (g,)."""
    distinct, numbers = number_entries(entries)
    last = np.empty(len(distinct), np.int64)
    last[numbers] = np.arange(len(entries))  # what is written last stays
    return distinct, last
