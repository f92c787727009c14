"""Accumulators per key and slice of event time: the state of windows, and of partial aggregates before an exchange.

A slice is a stretch of event time that every window contains as a whole or not at all (Traub et al. 2021, "Scotty"),
so a record is added once, however many windows it belongs to. Each (key, slice) with records is an *entry*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import Columns, Field, Schema
from streamcore.kernels.accumulate import rows_by_key
from streamcore.kernels.key_columns import KeyColumns, as_list
from streamcore.kernels.key_index import KeyIndex
from streamcore.kernels.pairs import PairIndex, SingleSlice
from streamcore.state.accumulators import COUNT, Accumulating, Numbers, Part

IntArray = np.ndarray[Any, np.dtype[np.int64]]

SLICE = "slice"
"""The column of partial results with the number of the slice, unless a key has that name."""

_SPARE_KEYS = 1 << 18


class SliceTable:
    """Entries for the keys of `key_schema`'s fields. Without windows all records belong to slice 0.

    `accumulators`, each once, with `COUNT` among them.
    """

    def __init__(self, key_schema: Schema, accumulators: Sequence[Accumulating], *, has_windows: bool = True) -> None:
        self.key_schema = key_schema
        self.accumulators = tuple(accumulators)
        parts = [part for accumulator in self.accumulators for part in accumulator.parts]
        self._slice_name, *names = _free_names((SLICE, *(part.name for part in parts)), key_schema.names)
        values = (part.field(name) for name, part in zip(names, parts, strict=True))
        self.partial_schema = Schema((*key_schema.fields, Field(self._slice_name, pa.int64()), *values))
        free = iter(names)
        self._columns = [[next(free) for _ in accumulator.parts] for accumulator in self.accumulators]
        self._keys = KeyIndex()
        self._pairs: PairIndex | SingleSlice = PairIndex() if has_windows else SingleSlice()
        self._totals = [fresh(accumulator, self._pairs.capacity) for accumulator in self.accumulators]
        self._buckets: dict[int, list[IntArray]] = {}
        self._scratch = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def slices(self) -> list[int]:
        """The slices that have entries, in order."""
        return sorted(self._buckets)

    def add(self, batch: Columns, slices: IntArray) -> None:
        """Adds records to their slices."""
        entries = self._entries(self._keys_of(batch), slices)
        for accumulator, totals in zip(self.accumulators, self._totals, strict=True):
            accumulator.add(totals, entries, batch)

    def add_partials(self, partials: Columns) -> None:
        """Adds partial results, columns of `partial_schema`."""
        entries = self._entries(self._keys_of(partials), self.slices_of(partials))
        for names, accumulator, totals in zip(self._columns, self.accumulators, self._totals, strict=True):
            columns = (partials[name] for name in names)
            accumulator.merge(totals, entries, list(map(Part.decode, accumulator.parts, columns)))

    def restore(self, partials: Columns) -> None:
        """Takes up what `partials` gave: each key and slice once, none of them here yet."""
        entries = self._entries(self._keys_of(partials), self.slices_of(partials))
        for names, accumulator, totals in zip(self._columns, self.accumulators, self._totals, strict=True):
            for name, part, total in zip(names, accumulator.parts, totals, strict=True):
                total[entries] = part.decode(partials[name])

    def slices_of(self, partials: Columns) -> IntArray:
        """The slice of each partial result; int64 (n,)."""
        slices: IntArray = partials[self._slice_name]
        return slices

    def counts_of(self, partials: Columns) -> IntArray:
        """How many records each partial result stands for; int64 (n,)."""
        counts: IntArray = partials[self._columns[self.accumulators.index(COUNT)][0]]
        return counts

    def as_partials(self, batch: Columns, slices: IntArray) -> Columns:
        """Records as partial results of one record each, for keys that hardly ever come twice."""
        columns = {name: batch.encoded(name) for name in self.key_schema.names}
        columns[self._slice_name], rows = slices, np.arange(len(batch))
        for names, accumulator in zip(self._columns, self.accumulators, strict=True):
            values = fresh(accumulator, len(batch))
            accumulator.add(values, rows, batch)
            columns.update(zip(names, map(Part.encode, accumulator.parts, values), strict=True))
        return Columns(self.partial_schema, columns)

    def partials(self, slices: Iterable[int]) -> Columns:
        """The entries of some slices as partial results."""
        entries = self._entries_of(slices)
        values = {
            name: part.encode(total[entries])
            for names, accumulator, totals in zip(self._columns, self.accumulators, self._totals, strict=True)
            for name, part, total in zip(names, accumulator.parts, totals, strict=True)
        }
        keys = self._key_columns(self._pairs.first(entries))
        return Columns(self.partial_schema, {**keys, self._slice_name: self._pairs.second(entries), **values})

    def window(self, slices: Iterable[int]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The entries of a window's slices, merged by key: the key's columns and the accumulated values, by name."""
        present = [number for number in slices if number in self._buckets]
        entries = self._entries_of(present)
        slots = self._pairs.first(entries)
        if len(present) == 1:
            values = [[total[entries] for total in totals] for totals in self._totals]
            return self._key_columns(slots), self._by_name(values)
        if len(self._scratch) < self._keys.size:
            self._scratch = np.full(2 * self._keys.size, -1, np.int64)
        distinct = np.empty(len(slots), np.int64)
        rows, count = rows_by_key(slots, self._scratch, distinct)
        values = []
        for accumulator, totals in zip(self.accumulators, self._totals, strict=True):
            values.append(fresh(accumulator, count))
            accumulator.merge(values[-1], rows, [total[entries] for total in totals])
        return self._key_columns(distinct[:count]), self._by_name(values)

    def remove(self, slices: Iterable[int]) -> None:
        """Forgets the entries of some slices."""
        gone = [number for number in slices if number in self._buckets]
        if gone:
            self._let_go(self._entries_of(gone))
            for number in gone:
                del self._buckets[number]
            if self._keys.size > 4 * len(self._pairs) + _SPARE_KEYS:
                self._forget_keys()

    def _entries(self, keys: Any, slices: IntArray) -> IntArray:
        entries, added = self._pairs.find_or_add(self._keys.slots(keys), slices)
        if len(added):
            self._begin(added.copy())  # a view would keep the whole batch in memory
        return entries

    def _begin(self, added: IntArray) -> None:
        for accumulator, totals in zip(self.accumulators, self._totals, strict=True):
            for place, part in enumerate(accumulator.parts):
                if len(totals[place]) < self._pairs.capacity:
                    bigger = np.empty(self._pairs.capacity, part.dtype)
                    bigger[: len(totals[place])] = totals[place]
                    totals[place] = bigger
                totals[place][added] = part.initial
        numbers = self._pairs.second(added)
        if numbers[0] == numbers[-1] and (numbers == numbers[0]).all():
            self._buckets.setdefault(int(numbers[0]), []).append(added)
            return
        order = np.argsort(numbers, kind="stable")
        ends = np.flatnonzero(np.diff(numbers[order])) + 1
        for bucket in np.split(added[order], ends):
            self._buckets.setdefault(int(self._pairs.second(bucket[:1])[0]), []).append(bucket)

    def _let_go(self, entries: IntArray) -> None:
        self._pairs.remove(entries)
        for accumulator, totals in zip(self.accumulators, self._totals, strict=True):
            for part, total in zip(accumulator.parts, totals, strict=True):
                if part.codec is not None:
                    total[entries] = part.initial  # what a place held may be large, and may not be needed for long

    def _by_name(self, values: list[list[Numbers]]) -> dict[str, Numbers]:
        parts = zip(self.accumulators, values, strict=True)
        return {part.name: array for a, arrays in parts for part, array in zip(a.parts, arrays, strict=True)}

    def _entries_of(self, slices: Iterable[int]) -> IntArray:
        parts = [part for number in slices for part in self._buckets[number]]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _keys_of(self, batch: Columns) -> Any:
        names = self.key_schema.names
        return batch.encoded(names[0]) if len(names) == 1 else KeyColumns([batch.encoded(name) for name in names])

    def _key_columns(self, slots: IntArray) -> dict[str, Any]:
        taken = self._keys.take(slots)
        fields = self.key_schema.fields
        parts: Sequence[Any] = [taken]
        if len(fields) > 1:
            parts = taken.fields if isinstance(taken, KeyColumns) else list(zip(*taken, strict=True))
        return {field.name: _column(part, field) for field, part in zip(fields, parts, strict=True)}

    def _forget_keys(self) -> None:
        """Starts a new index with the keys that still have entries: keys come and go, and memory must not grow."""
        entries = self._entries_of(self._buckets)
        old, numbers = np.unique(self._pairs.first(entries), return_inverse=True)
        keys, self._keys = self._keys.take(old), KeyIndex()
        if len(entries):
            self._pairs.replace_first(entries, self._keys.slots(keys)[numbers])


def _column(values: Any, field: Field) -> Any:
    """Keys as a column of the field's type."""
    if field.dtype is not None:
        return np.asarray(values, field.dtype)
    if isinstance(values, pa.Array):
        return values if values.type == field.type else values.cast(field.type)
    return pa.array(as_list(values) if not isinstance(values, tuple) else list(values), field.type)


def fresh(accumulator: Accumulating, count: int) -> list[Numbers]:
    """The arrays of an accumulator with a place for each of `count` entries, to which nothing has been added."""
    return [np.full(count, part.initial, part.dtype) for part in accumulator.parts]


def _free_names(wanted: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Column names that nobody has yet: a user's field may be called `slice` too."""
    used, free = set(taken), []
    for name in wanted:
        while name in used:
            name += "_"  # noqa: PLW2901
        used.add(name)
        free.append(name)
    return free
