"""Accumulators per key and slice of event time: the state of windows, and of partial aggregates before an exchange.

A slice is a stretch of event time that every window contains as a whole or not at all (Traub et al. 2021, "Scotty"),
so a record is added once, however many windows it belongs to. Each (key, slice) with records is an *entry*.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from streamcore.batch import Columns, Field, Schema
from streamcore.kernels.accumulate import rows_by_key
from streamcore.kernels.pair_grid import PairGrid
from streamcore.kernels.pairs import PairIndex, SingleSlice
from streamcore.kernels.partition import split_by_number
from streamcore.state.accumulators import COUNT, Accumulating, Numbers, fresh
from streamcore.state.key_slots import IntArray, KeySlots, free_names
from streamcore.state.totals import Totals, Values

SLICE = "slice"
"""The column of partial results with the number of the slice, unless a key has that name."""


class Groups(NamedTuple):
    """Accumulated values of some keys."""

    slots: IntArray
    """The number of each key in its table; int64 (n,)."""
    values: Values
    """The arrays of each accumulator, one per part; (n,) each. Read-only."""


class SliceTable:
    """Entries for the keys of `key_schema`'s fields; without fields all records have one key. Without windows all
    records belong to slice 0.

    `accumulators`, each once, with `COUNT` among them.
    """

    def __init__(self, key_schema: Schema, accumulators: Sequence[Accumulating], *, has_windows: bool = True) -> None:
        self.key_schema = key_schema
        self.accumulators = tuple(accumulators)
        self._keys = KeySlots(key_schema)
        self._pairs: PairGrid | PairIndex | SingleSlice = PairGrid() if has_windows else SingleSlice()
        self._totals = Totals(self.accumulators, self._pairs.capacity)
        parts = [part for accumulator in self.accumulators for part in accumulator.parts]
        self._has_objects = any(part.dtype == object for part in parts)
        wanted = (SLICE, *(part.name for part in parts))
        self._slice_name, *self._names = free_names(wanted, key_schema.names)
        values = self._totals.fields(self._names)
        self.partial_schema = Schema((*key_schema.fields, Field(self._slice_name, pa.int64()), *values))
        counted = [part for a in self.accumulators[: self.accumulators.index(COUNT)] for part in a.parts]
        self._count_name = self._names[len(counted)]
        self._buckets: dict[int, list[IntArray]] = {}
        self._numbers: list[int] = []
        self._scratch = np.empty(0, np.int64)
        self.numbering = 0
        """Changes when keys get other slots."""

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def slices(self) -> list[int]:
        """The slices that have entries, in order; not to be changed."""
        return self._numbers

    @property
    def keys_size(self) -> int:
        """Slots are below it."""
        return len(self._keys)

    @property
    def slice_name(self) -> str:
        """The column of partial results with the number of the slice."""
        return self._slice_name

    def present(self, slices: range) -> list[int]:
        """Those of some neighbouring slices that have entries, in order."""
        return self._numbers[bisect_left(self._numbers, slices.start) : bisect_left(self._numbers, slices.stop)]

    def slots_of(self, batch: Columns) -> IntArray:
        """The slot of each record's key, new keys getting new ones; int64 (n,)."""
        return self._keys.slots(batch)

    def add(self, batch: Columns, slices: IntArray) -> None:
        """Adds records to their slices."""
        self._totals.add(self._entries(self.slots_of(batch), slices), batch)

    def add_partials(self, partials: Columns) -> None:
        """Adds partial results, columns of `partial_schema`."""
        entries = self._entries(self.slots_of(partials), self.slices_of(partials))
        self._totals.merge(entries, self._totals.decoded(self._names, partials))

    def restore(self, partials: Columns) -> None:
        """Takes up what `partials` gave: each key and slice once, none of them here yet."""
        entries = self._entries(self.slots_of(partials), self.slices_of(partials))
        self._totals.put(entries, self._totals.decoded(self._names, partials))

    def slices_of(self, partials: Columns) -> IntArray:
        """The slice of each partial result; int64 (n,)."""
        slices: IntArray = partials[self._slice_name]
        return slices

    def counts_of(self, partials: Columns) -> IntArray:
        """How many records each partial result stands for; int64 (n,)."""
        counts: IntArray = partials[self._count_name]
        return counts

    def as_partials(self, batch: Columns, slices: IntArray) -> Columns:
        """Records as partial results of one record each, for keys that hardly ever come twice."""
        columns = {name: batch.encoded(name) for name in self.key_schema.names}
        columns[self._slice_name], each = slices, Totals(self.accumulators, len(batch))
        each.add(np.arange(len(batch)), batch)
        return Columns(self.partial_schema, {**columns, **each.encoded(self._names, each.arrays)})

    def partials(self, slices: Iterable[int]) -> Columns:
        """The entries of some slices as partial results."""
        entries = self._entries_of(slices)
        columns = self.key_columns(self._pairs.first(entries))
        columns[self._slice_name] = self._pairs.second(entries)
        return Columns(
            self.partial_schema, {**columns, **self._totals.encoded(self._names, self._totals.take(entries))}
        )

    def entries(self, slices: Iterable[int]) -> Groups:
        """The entries of slices that have some, slice after slice; in each slice a key comes once."""
        entries = self._entries_of(slices)
        return Groups(self._pairs.first(entries), self._totals.take(entries))

    def count(self, slices: Iterable[int]) -> int:
        """How many entries some slices have."""
        return sum(len(part) for number in slices for part in self._buckets[number])

    def merged(self, slices: range) -> Groups:
        """The entries of neighbouring slices, merged by key, those of earlier slices first."""
        present = self.present(slices)
        entries = self.entries(present)
        if len(present) == 1:
            return entries
        distinct, rows = self.rows_of(entries.slots)
        return Groups(distinct, self.merge(len(distinct), [(rows, entries.values)]))

    def merged_at(self, slots: IntArray, starts: IntArray, length: int) -> tuple[np.ndarray[Any, Any], Groups]:
        """The entries of `length` slices from `starts[i]` on of the key `slots[i]`, merged, for each i (n,).

        Returns:
            Which i have entries, bool (n,), and the values of these.
        """
        assert not isinstance(self._pairs, SingleSlice), "windows of a table without windows"
        numbers = (starts[:, None] + np.arange(length)).ravel()
        entries = self._pairs.find(np.repeat(slots, length), numbers)
        known = entries >= 0
        rows, entries = np.flatnonzero(known) // length, entries[known]
        found = np.zeros(len(slots), np.bool_)
        found[rows] = True
        if length == 1:
            return found, Groups(slots[found], self._totals.take(entries))
        places = np.cumsum(found) - 1
        merged = self.merge(int(found.sum()), [(places[rows], self._totals.take(entries))])
        return found, Groups(slots[found], merged)

    def merge(self, count: int, parts: Iterable[tuple[IntArray, Values]]) -> Values:
        """The values of `count` groups into which parts are merged in order: (the group of each value, the values)."""
        merged = [fresh(accumulator, count) for accumulator in self.accumulators]
        for rows, values in parts:
            self.merge_into(merged, rows, values)
        return merged

    def merge_into(self, merged: Values, rows: IntArray, values: Values) -> None:
        """Merges the i-th value into the group rows[i] of `merged`."""
        for accumulator, totals, partial in zip(self.accumulators, merged, values, strict=True):
            accumulator.merge(totals, rows, partial)

    def extended(self, values: Values, count: int) -> Values:
        """A copy of the values of some groups, with places behind them up to `count` to which nothing was added."""
        size = len(values[0][0])
        if self._has_objects:  # a copy would share them
            return self.merge(count, [(np.arange(size), values)])
        if size == count:
            return [[array.copy() for array in arrays] for arrays in values]
        behind = [fresh(accumulator, count - size) for accumulator in self.accumulators]
        pairs = zip(values, behind, strict=True)
        return [[np.concatenate(pair) for pair in zip(old, new, strict=True)] for old, new in pairs]

    def rows_of(self, slots: IntArray) -> tuple[IntArray, IntArray]:
        """The distinct slots in order of first appearance, and the place of each slot among them; int64."""
        if len(self._scratch) < self.keys_size:
            self._scratch = np.full(2 * self.keys_size, -1, np.int64)
        distinct = np.empty(len(slots), np.int64)
        rows, count = rows_by_key(slots, self._scratch, distinct)
        return distinct[:count], rows

    def remove(self, slices: Iterable[int]) -> None:
        """Forgets the entries of some slices."""
        gone = [number for number in slices if number in self._buckets]
        if gone:
            entries = self._entries_of(gone)
            self._pairs.remove(entries)
            self._totals.release(entries)
            for number in gone:
                del self._buckets[number]
            self._numbers = [number for number in self._numbers if number in self._buckets]
            if isinstance(self._pairs, PairIndex) and not len(self._pairs):
                self._pairs = PairGrid()
            if self._keys.has_many_unused(len(self._pairs)):
                self._forget_keys()

    def _entries(self, slots: IntArray, slices: IntArray) -> IntArray:
        if isinstance(self._pairs, PairGrid) and len(slices):
            lowest, highest = int(slices.min()), int(slices.max())
            if self._numbers:
                lowest, highest = min(lowest, self._numbers[0]), max(highest, self._numbers[-1])
            if not self._pairs.reserve(self.keys_size, lowest, highest):
                self._pairs = self._pairs.hashed()
        entries, added = self._pairs.find_or_add(slots, slices)
        if len(added):
            self._begin(added)
        return entries

    def _begin(self, added: IntArray) -> None:
        if self._totals.capacity < self._pairs.capacity:
            self._totals.grow(self._pairs.capacity)
        self._totals.begin(added)
        for number, entries in split_by_number(added, self._pairs.second(added)):
            self._put(number, entries)

    def _put(self, number: int, entries: IntArray) -> None:
        if number not in self._buckets:
            self._buckets[number] = []
            insort(self._numbers, number)
        self._buckets[number].append(entries)

    def by_accumulator(self, values: Values) -> dict[Accumulating, list[Numbers]]:
        """Values by accumulator, part by part, as aggregates ask for them."""
        return self._totals.by_accumulator(values)

    def key_columns(self, slots: IntArray) -> dict[str, Any]:
        """The keys of some slots, by field."""
        return self._keys.columns(slots)

    def _entries_of(self, slices: Iterable[int]) -> IntArray:
        parts = [part for number in slices for part in self._buckets[number]]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _forget_keys(self) -> None:
        """Starts a new index with the keys that still have entries: keys come and go, and memory must not grow."""
        entries = self._entries_of(self._buckets)
        old, numbers = np.unique(self._pairs.first(entries), return_inverse=True)
        kept = self._keys.keep(old)
        self.numbering += 1
        if len(entries):
            self._pairs.replace_first(entries, kept[numbers])
