"""The open sessions of keys, and what their records add up to: the state of session windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from streamcore.batch import Columns, Field, Schema
from streamcore.kernels import sessions as kernels
from streamcore.kernels.sessions import SESSION
from streamcore.state.accumulators import Accumulating, Numbers
from streamcore.state.key_slots import IntArray, KeySlots, free_names
from streamcore.state.totals import Totals, Values, concat_values
from streamcore.time import MIN_TIME

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_LONGEST_MS = 1 << 61  # what is added to event times must fit 64 bits
_BUCKETS = 1 << 14
_BUCKETS_PER_GAP = 1 << 10


class Sessions(NamedTuple):
    """Sessions as of one moment: columns of the key's fields, bounds in milliseconds (the end is exclusive; int64), and
    the accumulated values of each accumulator, part by part; (n,) each."""

    keys: dict[str, Any]
    starts: IntArray
    ends: IntArray
    values: dict[Accumulating, list[Numbers]]


class SessionTable:
    """Sessions for the keys of `key_schema`'s fields. A session is kept for `lateness_ms` after its end.

    Event time stands at `watermark`; `advance` moves it on. The cost of a record is that of finding its key and
    session, however many are open; that of a watermark goes with the sessions that are due.
    """

    def __init__(
        self, key_schema: Schema, accumulators: Sequence[Accumulating], gap_ms: int, lateness_ms: int = 0
    ) -> None:
        self.watermark = MIN_TIME
        self._gap, self._lateness = gap_ms, min(lateness_ms, _LONGEST_MS)
        self._keys = KeySlots(key_schema)
        self._totals = Totals(accumulators)
        parts = [part.name for accumulator in accumulators for part in accumulator.parts]
        self._start_name, self._end_name, *self._names = free_names(("start", "end", *parts), key_schema.names)
        bounds = [Field(name, pa.int64()) for name in (self._start_name, self._end_name)]
        self.schema = Schema((*key_schema.fields, *bounds, *self._totals.fields(self._names)))
        self._sessions = np.empty(256, SESSION)
        self._heads = np.full(256, -1, np.int64)
        self._free = np.empty(256, np.int64)
        self._fired = np.empty(256, np.int64)
        self._counts = np.zeros(6, np.int64)
        self._width = max(gap_ms // _BUCKETS_PER_GAP, 1)
        self._calendar = np.full(_BUCKETS, -1, np.int64)

    def __len__(self) -> int:
        return int(self._counts[kernels.USED] - self._counts[kernels.FREE])

    def add(self, batch: Columns, times: IntArray) -> tuple[Sessions | None, Mask | None]:
        """Adds records in order.

        Returns:
            (fired, late): the sessions that had fired before and do again, as they were after each record that was
            added to them, in order; and which records were too late, bool (n,). None: none.
        """
        count, counts = len(batch), self._counts
        slots = self._keys.slots(batch)
        self._make_room(count)
        entries, phases, added = (np.empty(count, np.int64) for _ in range(3))
        merges, fires = np.empty((count, 3), np.int64), np.empty((count, 5), np.int64)
        counts[kernels.ADDED :] = 0
        kernels.assign(
            times, slots, self._gap, self._lateness, self.watermark,
            self._sessions, self._heads, self._calendar, self._width, self._free,
            entries, phases, added, merges, fires, counts,
        )  # fmt: skip
        late = None
        if counts[kernels.LATE]:
            late = entries < 0
            batch, entries, phases = batch.filter(~late), entries[~late], phases[~late]
        self._totals.begin(added[: counts[kernels.ADDED]])
        merges, fires = merges[: counts[kernels.MERGED]], fires[: counts[kernels.FIRED]]
        if len(merges) == 0 and len(fires) == 0:
            self._totals.add(entries, batch)
            return None, late
        return self._in_phases(batch, entries, phases, merges, fires), late

    def advance(self, watermark: int) -> Sessions | None:
        """Moves event time on, and gives the sessions that have ended, in order of their ends; None: none."""
        before, self.watermark = self.watermark, watermark
        first, last = before // self._width, watermark // self._width
        free_before = self._counts[kernels.FREE]
        fired, self._counts[kernels.FREE] = kernels.take_due(
            first & (_BUCKETS - 1), min(last - first + 1, _BUCKETS), before, watermark, self._lateness,
            self._sessions, self._heads, self._calendar, self._width, self._free, free_before, self._fired,
        )  # fmt: skip
        due = self._fired[:fired]
        ends = self._sessions["end"][due]
        order = np.argsort(ends, kind="stable")
        due = due[order]
        found = None
        if fired:
            found = self._as_sessions(due, self._sessions["start"][due], ends[order], self._totals.take(due))
        self._totals.release(self._free[free_before : self._counts[kernels.FREE]])
        if self._keys.has_many_unused(len(self)):
            self._forget_keys()
        return found

    def captured(self) -> Columns:
        """All sessions there are, columns of `schema`; for `restore`."""
        live = self._live()
        keys = self._keys.columns(self._sessions["slot"][live])
        bounds = {self._start_name: self._sessions["start"][live], self._end_name: self._sessions["end"][live]}
        return Columns(self.schema, {**keys, **bounds, **self._totals.encoded(self._names, self._totals.take(live))})

    def restore(self, rows: Columns) -> None:
        """Takes up the sessions that `captured` gave, in place of none. `watermark` is already what it was then."""
        count = len(rows)
        slots = self._keys.slots(rows)
        self._make_room(count)
        kernels.insert(
            slots, rows[self._start_name], rows[self._end_name], self._lateness, self.watermark,
            self._sessions, self._heads, self._calendar, self._width,
        )  # fmt: skip
        self._counts[kernels.USED] = count
        self._totals.put(np.arange(count), self._totals.decoded(self._names, rows))

    def _in_phases(
        self, batch: Columns, entries: IntArray, phases: IntArray, merges: IntArray, fires: IntArray
    ) -> Sessions | None:
        """Adds, fires and merges in the order in which it was found out."""
        last = int(phases.max(initial=0))
        rows_of, fires_of, merges_of = (
            _by_number(numbers, last + 1)
            for numbers in (phases, fires[:, kernels.FIRE_PHASE], merges[:, kernels.MERGE_PHASE])
        )
        taken: list[Values] = []
        for rows, firing, merging in zip(rows_of, fires_of, merges_of, strict=True):
            self._totals.add(entries[rows], batch.take(rows))
            taken.append(self._totals.snapshot(fires[firing, kernels.FIRE_ENTRY]))
            source = merges[merging, kernels.MERGE_FROM]
            self._totals.merge(merges[merging, kernels.MERGE_INTO], self._totals.take(source))
        self._sessions["phase"][fires[:, kernels.FIRE_ENTRY]] = 0
        self._sessions["phase"][merges[:, kernels.MERGE_INTO]] = 0
        gone, free = merges[:, kernels.MERGE_FROM], self._counts[kernels.FREE]
        self._free[free : free + len(gone)] = gone
        self._counts[kernels.FREE] += len(gone)
        self._totals.release(gone)
        if len(fires) == 0:
            return None
        order = np.argsort(np.concatenate(fires_of))
        values = [[array[order] for array in arrays] for arrays in concat_values(taken)]
        fired, starts, ends = (fires[:, at].copy() for at in (kernels.FIRE_ENTRY, kernels.FIRE_START, kernels.FIRE_END))
        return self._as_sessions(fired, starts, ends, values)

    def _as_sessions(self, entries: IntArray, starts: IntArray, ends: IntArray, values: Values) -> Sessions:
        keys = self._keys.columns(self._sessions["slot"][entries])
        return Sessions(keys, starts, ends, self._totals.by_accumulator(values))

    def _live(self) -> IntArray:
        """The entries in use, ascending."""
        live = np.ones(self._counts[kernels.USED], np.bool_)
        live[self._free[: self._counts[kernels.FREE]]] = False
        return np.flatnonzero(live)

    def _make_room(self, count: int) -> None:
        """Room for so many more sessions, and for all keys."""
        needed = int(self._counts[kernels.USED] + max(count - self._counts[kernels.FREE], 0))
        if needed > len(self._sessions):
            capacity = max(2 * len(self._sessions), needed)
            self._sessions = _longer(self._sessions, capacity)
            self._free, self._fired = _longer(self._free, capacity), np.empty(capacity, np.int64)
            self._totals.grow(capacity)
        if len(self._keys) > len(self._heads):
            known = len(self._heads)
            self._heads = _longer(self._heads, max(2 * known, len(self._keys)))
            self._heads[known:] = -1

    def _forget_keys(self) -> None:
        """Gives up the slots of keys without sessions: keys come and go, and memory must not grow."""
        live = self._live()
        old, numbers = np.unique(self._sessions["slot"][live], return_inverse=True)
        new = self._keys.keep(old)
        latest, self._heads = self._heads[old], np.full(max(2 * len(old), 256), -1, np.int64)
        self._heads[new] = latest
        self._sessions["slot"][live] = new[numbers]


def _by_number(numbers: IntArray, count: int) -> list[IntArray]:
    """The places of each number below `count`, ascending."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.searchsorted(numbers[order], np.arange(1, count)))


def _longer(array: np.ndarray[Any, Any], capacity: int) -> np.ndarray[Any, Any]:
    longer = np.empty(capacity, array.dtype)
    longer[: len(array)] = array
    return longer
