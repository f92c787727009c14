"""Windows that overlap, merged out of slices that they share, each slice a constant number of times.

Two stacks over slices (Tangwongsan et al. 2015, "General incremental sliding-window aggregation", where they hold
single values; here all keys share the slices, so a stack holds arrays over the keys). The *front* has, for each of the
older slices, the merge of that slice and all later ones of the front; the *back* is one merge of the slices after it.
A window is a front's entry merged with the back. When the windows have left the front behind, the slices of the next
window become the front. A slice is merged once on its way into the back, twice when the front is made of it.

What is here can be made of the table again, so it is no part of a snapshot. Values are merged in the order of the
slices, whatever the way.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, NamedTuple

import numpy as np

from streamcore.kernels.accumulate import number_rows
from streamcore.state.accumulators import Numbers
from streamcore.state.key_slots import IntArray
from streamcore.state.slices import Groups, SliceTable
from streamcore.time import MIN_TIME

_NONE = np.empty(0, np.int64)


class _Suffix(NamedTuple):
    """The merge of a slice of the front and all later ones: of the first `len(values[0][0])` of the front's keys."""

    number: int
    values: list[list[Numbers]]


class SlidingMerge:
    """The windows of a table one after another; what is asked for must not go back in time."""

    def __init__(self, table: SliceTable) -> None:
        self._table = table
        self._touched = _NONE
        self._begin([], MIN_TIME)

    def touch(self, slots: IntArray, slices: IntArray) -> None:
        """Records have come for these keys and slices, before the end of a window that was asked for: until the next
        front is made, these keys are merged by themselves."""
        if self._end != MIN_TIME:
            self._touched = np.union1d(self._touched, slots[slices < self._end])

    def window(self, slices: range) -> Groups:
        """The entries of a window's slices, merged by key, those of earlier slices first."""
        present = self._table.present(slices)
        cost = len(present) * len(self._touched)
        if slices.start >= self._split or self._numbering != self._table.numbering or not self._pays(cost, present):
            self._begin(present, slices.stop)
        else:
            self._extend(slices.stop)
            self._spent += cost
        merged = self._joined(slices.start)
        return self._with_touched(merged, slices) if len(self._touched) else merged

    def _pays(self, cost: int, present: list[int]) -> bool:
        """Whether merging the touched keys by themselves costs less, with what it has cost so far, than a new front."""
        return cost == 0 or self._spent + cost <= self._table.count(present)

    def _begin(self, present: list[int], end: int) -> None:
        """Makes the front of these slices, the back of nothing."""
        table = self._table
        self._numbering = table.numbering
        self._split = self._end = end
        self._touched, self._spent = _NONE, 0
        self._front: list[_Suffix] = []
        self._front_slots = _NONE
        self._back_slots, self._back_count = np.empty(0, np.int64), 0
        self._back: list[list[Numbers]] = table.merge(0, [])
        self._front_rows = np.full(table.keys_size, -1, np.int64)
        self._back_rows = np.full(table.keys_size, -1, np.int64)
        # Keys are numbered from the last slice to the first, so that those of a suffix are the first so many. Slice by
        # slice, since arrays over all of them would be new memory every time, which costs more than what is done in it.
        places = np.arange(table.keys_size)
        self._front_slots = np.empty(table.keys_size, np.int64)
        before, later = 0, table.merge(0, [])
        for number in reversed(present):
            entries = table.entries((number,))
            rows, count = number_rows(entries.slots, self._front_rows, self._front_slots, before)
            later = table.merge(count, [(rows, entries.values), (places[:before], later)])
            self._front.append(_Suffix(number, later))
            before = count
        self._front.reverse()

    def _extend(self, end: int) -> None:
        """Adds the slices up to `end` to the back."""
        table = self._table
        present = table.present(range(self._end, end))
        self._end = end
        if not present:
            return
        entries = table.entries(present)
        if len(self._back_rows) < table.keys_size:
            self._front_rows = _longer(self._front_rows, table.keys_size)
            self._back_rows = _longer(self._back_rows, table.keys_size)
        if (room := self._back_count + len(entries.slots)) > len(self._back_slots):
            self._back_slots = np.concatenate([self._back_slots[: self._back_count], np.empty(room, np.int64)])
        rows, count = number_rows(entries.slots, self._back_rows, self._back_slots, self._back_count)
        if count > len(self._back[0][0]):
            self._back = table.extended(_part(self._back, 0, self._back_count), 2 * count)
        table.merge_into(self._back, rows, entries.values)
        self._back_count = count

    def _joined(self, start: int) -> Groups:
        """The front from the slice `start` on, merged with the back."""
        place = bisect_left(self._front, start, key=lambda suffix: suffix.number)
        back, slots = _part(self._back, 0, self._back_count), self._back_slots[: self._back_count]
        if place == len(self._front):
            return Groups(slots.copy(), self._table.extended(back, len(slots)))
        front = self._front[place].values
        size = len(front[0][0])
        if len(slots) == 0:
            return Groups(self._front_slots[:size], front)
        rows = self._front_rows[slots]
        new = np.flatnonzero(rows.view(np.uint64) >= size)  # -1 too
        count = size + len(new)
        rows[new] = np.arange(size, count)
        merged = self._table.extended(front, count)
        self._table.merge_into(merged, rows, back)
        return Groups(np.concatenate([self._front_slots[:size], slots[new]]), merged)

    def _with_touched(self, merged: Groups, slices: range) -> Groups:
        starts = np.full(len(self._touched), slices.start, np.int64)
        _, touched = self._table.merged_at(self._touched, starts, len(slices))
        kept = ~np.isin(merged.slots, self._touched)
        values = [
            [np.concatenate([old[kept], new]) for old, new in zip(before, after, strict=True)]
            for before, after in zip(merged.values, touched.values, strict=True)
        ]
        return Groups(np.concatenate([merged.slots[kept], touched.slots]), values)


def _part(values: list[list[Numbers]], start: int, stop: int) -> list[list[Numbers]]:
    return [[array[start:stop] for array in arrays] for arrays in values]


def _longer(rows: IntArray, size: int) -> IntArray:
    longer: np.ndarray[Any, np.dtype[np.int64]] = np.full(2 * size, -1, np.int64)
    longer[: len(rows)] = rows
    return longer
