"""Windowed and whole-stream aggregates per key, in one stage or in two.

One stage: `WindowAggregate` takes records. Two stages: `PartialAggregate` runs before the exchange and sends on, for
each key and slice, what its records add up to; `WindowAggregate` after it merges these. Both hold a `SliceTable`, and
a snapshot of one form can be restored into the other, since only the last stage has state.

Late records (Apache Flink's rule): a window takes records until the watermark is the allowed lateness past its last
millisecond. A record for a window that has fired makes it fire again, at once: one result per record and window, with
the value after that record. A record whose windows take none any more is late.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from streamcore.batch import Columns, Schema, concat_columns
from streamcore.batch.convert import Batch
from streamcore.errors import IncompatibleSnapshotError
from streamcore.runtime.aggregates import Bound, needed_by
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.operator import Operator
from streamcore.runtime.operators.restored_windows import restored_windows
from streamcore.runtime.windows import Windows
from streamcore.state.accumulators import COUNT, Accumulating
from streamcore.state.descriptors import TableState
from streamcore.state.key_slots import IntArray
from streamcore.state.slices import Groups, SliceTable
from streamcore.state.sliding import SlidingMerge
from streamcore.time import MAX_TIME, MIN_TIME

WINDOW_START, WINDOW_END = "window_start", "window_end"

_BATCH_ROWS = 8192
_PARTIAL_ENTRIES = 1 << 18
_BYPASSED_ROWS = 1 << 20
_LOOKUPS = 1 << 20
_MANY_SLICES = 8
"""With fewer, to merge them anew for every window costs less (measured with 1,000 and 20,000 keys)."""


class WindowTimes:
    """Which slice a record belongs to; without windows, all belong to slice 0."""

    def __init__(self, windows: Windows | None, time: EventTime | None) -> None:
        self.windows = windows
        self._time = time

    def assign(self, batch: Columns) -> tuple[Columns, IntArray, Columns | None]:
        """The records that belong to a window, the slice of each, int64 (n,), and the records that belong to none: they
        lie between windows that lie apart."""
        if self.windows is None:
            return batch, np.zeros(len(batch), np.int64), None
        slices = self.windows.slices_of(self.times(batch))
        inside = self.windows.inside(slices)
        if inside is None:
            return batch, slices, None
        return batch.filter(inside), slices[inside], batch.filter(~inside)

    def times(self, batch: Columns) -> IntArray:
        """The event time of each record; int64 (n,)."""
        assert self._time is not None, "windows without event time"
        return self._time.times(batch)


class PartialAggregate(Operator):
    """The first of two stages. Keeps nothing over a barrier: what it holds goes out before, as records.

    Where keys hardly ever come twice, adding up costs more than it saves: then records pass as they are for a while.
    With `each_behind`, so do those that may make a window fire again, behind the watermark: each gives a result.
    """

    def __init__(
        self, key: Schema, times: WindowTimes, accumulators: Sequence[Accumulating], *, each_behind: bool = False
    ) -> None:
        self._times = times
        self._table = SliceTable(key, accumulators, has_windows=times.windows is not None)
        self._rows = 0  # records in the table
        self._bypass = 0
        # before the first watermark, perhaps after a restore, everything may be behind the next stage's
        self._first_ahead = MAX_TIME if each_behind else None

    def process(self, batch: Batch, port: int) -> None:
        assert isinstance(batch, Columns), "a columnar aggregate got rows"
        batch, slices, _ = self._times.assign(batch)
        if self._bypass > 0:
            self._bypass -= len(batch)
            self.output.emit(self._table.as_partials(batch, slices))
            return
        if self._first_ahead is not None and len(slices) and slices.min() < self._first_ahead:
            ahead = slices >= self._first_ahead
            self.output.emit(self._table.as_partials(batch.filter(~ahead), slices[~ahead]))
            batch, slices = batch.filter(ahead), slices[ahead]
        self._table.add(batch, slices)
        self._rows += len(batch)
        if len(self._table) >= _PARTIAL_ENTRIES:
            if self._rows < 2 * len(self._table):
                self._bypass = _BYPASSED_ROWS
            self._send(self._table.slices)

    def advance(self, time_ms: int) -> None:
        windows = self._times.windows
        if windows is not None:
            self._send([number for number in self._table.slices if windows.end_of_slice(number) - 1 <= time_ms])
            if self._first_ahead is not None:
                self._first_ahead = windows.first_slice_ahead(time_ms)
        self.output.emit_watermark(time_ms)

    def set_idle(self, idle: bool) -> None:
        if idle:  # from now on the last stage's time goes on without this one's
            self._send(self._table.slices)
        self.output.emit_idle(idle)

    def before_barrier(self) -> None:
        self._send(self._table.slices)

    def finish(self) -> None:
        self._send(self._table.slices)

    def _send(self, slices: list[int]) -> None:
        if slices:
            partials = self._table.partials(slices)
            self._table.remove(slices)
            self._rows -= int(self._table.counts_of(partials).sum())
            for start in range(0, len(partials), _BATCH_ROWS):
                self.output.emit(partials.slice(start, min(start + _BATCH_ROWS, len(partials))))


class WindowAggregate(Operator):
    """The only or the last stage: emits the results of a window when the watermark has passed it, of the whole stream
    at its end.

    Args:
        key: the key's field or fields; () where all records are one group.
        lateness_ms: how long windows take records after they have fired.
        late_tag: the side output of late records, as they came; without it they are counted, and dropped. Only where
            records come, not partial results. As in Apache Flink, a record that lies between windows is late when the
            watermark has passed it, and else is dropped without a word; the first of two stages always drops it.
    """

    def __init__(
        self,
        key: str | tuple[str, ...],
        times: WindowTimes,
        aggregates: Sequence[Bound],
        result: Schema,
        *,
        partials: bool,
        lateness_ms: int = 0,
        late_tag: str | None = None,
    ) -> None:
        assert not (partials and late_tag is not None), "partial results can't be told apart into late records"
        self._times = times
        self._aggregates = aggregates
        self._result = result
        self._takes_partials = partials
        self._lateness_ms = lateness_ms
        self._late_tag = late_tag
        names = (key,) if isinstance(key, str) else key
        has_windows = times.windows is not None
        self._table = SliceTable(result.select(names), accumulators_of(aggregates), has_windows=has_windows)
        self._key = key or self._table.slice_name
        has_many_slices = times.windows is not None and times.windows.slices_per_window >= _MANY_SLICES
        self._sliding = SlidingMerge(self._table) if has_many_slices else None
        self._waiting: list[Columns] = []
        self._waiting_rows = 0

    def open(self) -> None:
        saved = restored_windows(self.context, self._in_words)
        self._set_time(self._restored_time(self.context.unfinished_states() or saved))
        table, schema = self._table, self._table.partial_schema
        self.context.store.declare_table(TableState("windows", self._key, self._captured, table.restore, schema))

    def _restored_time(self, saved: Sequence[Mapping[str, Any]]) -> int:
        """The event time of the old subtasks. Where barriers overtook records it is not the same in all; it alone tells
        what has fired, and that would fire again in those that were ahead."""
        times = sorted(state["watermark"] for state in saved)
        windows = self._times.windows
        if times and times[0] != times[-1] and windows is not None and (windows.overlap or self._lateness_ms):
            before = self.context.saved[0].parallelism
            raise IncompatibleSnapshotError(
                f"the subtasks had come to different event times in the snapshot, {times[0]} to {times[-1]} ms: at "
                f"another parallelism than {before} windows would fire twice",
                hint=f"restore with parallelism {before}, or from a savepoint or an aligned checkpoint, as of a stop",
            )
        return times[0] if times else MIN_TIME

    def process(self, batch: Batch, port: int) -> None:
        assert isinstance(batch, Columns), "a columnar aggregate got rows"
        if self._takes_partials:
            slices = self._table.slices_of(batch)
        else:
            batch, slices, between = self._times.assign(batch)
            if between is not None:
                self._drop(between.filter(self._times.times(between) + self._lateness_ms <= self._watermark))
        if self._times.windows is not None and len(slices) and slices.min() < self._first_ahead:
            batch, slices = self._without_late(batch, slices)
            behind = slices < self._first_ahead
            if self._lateness_ms:
                self._add_one_by_one(self._times.windows, batch.filter(behind), slices[behind])
                batch, slices = batch.filter(~behind), slices[~behind]
            elif self._sliding is not None:
                self._sliding.touch(self._table.slots_of(batch.filter(behind)), slices[behind])
        self._add(batch, slices)

    def advance(self, time_ms: int) -> None:
        if time_ms > self._watermark:
            if self._times.windows is not None:
                self._fire(self._times.windows, time_ms)
            self._set_time(time_ms)
        self.output.emit_watermark(time_ms)

    def finish(self) -> None:
        if self._times.windows is not None:
            self._fire(self._times.windows, MAX_TIME)
        elif len(self._table):
            self._put(self._table.merged(range(1)), {})
            self._flush()

    def capture(self, checkpoint_id: int) -> Any:
        return {"windows": self._in_words, "watermark": self._watermark}

    @property
    def _in_words(self) -> str:
        windows = self._times.windows
        if windows is None:
            return "all time"
        return f"{windows} from {windows.offset_ms} ms" if windows.offset_ms else str(windows)

    def _captured(self) -> Columns:
        return self._table.partials(self._table.slices)

    def _set_time(self, watermark: int) -> None:
        self._watermark = watermark
        if self._times.windows is not None:
            self._first_live = self._times.windows.first_live_slice(watermark, self._lateness_ms)
            self._first_ahead = self._times.windows.first_slice_ahead(watermark)

    def _add(self, batch: Columns, slices: IntArray) -> None:
        if len(batch) == 0:
            return
        if self._takes_partials:
            self._table.add_partials(batch)
        else:
            self._table.add(batch, slices)

    def _without_late(self, batch: Columns, slices: IntArray) -> tuple[Columns, IntArray]:
        in_time = slices >= self._first_live
        self._drop(batch.filter(~in_time))
        return batch.filter(in_time), slices[in_time]

    def _drop(self, late: Columns) -> None:
        if self._late_tag is not None:
            self.output.emit_side(self._late_tag, late)
        elif self._takes_partials:
            self.context.counters.late_records += int(self._table.counts_of(late).sum())
        else:
            self.context.counters.late_records += len(late)

    def _add_one_by_one(self, windows: Windows, batch: Columns, slices: IntArray) -> None:
        """Adds records behind the watermark; after each one, the windows that it belongs to fire again."""
        slots = self._table.slots_of(batch)
        if self._sliding is not None:
            is_open = slices >= windows.first_live_slice(self._watermark)  # in a window that is still to fire, too
            self._sliding.touch(slots[is_open], slices[is_open])
        for rows in _by_turns(slots):
            self._add(batch.take(rows), slices[rows])
            self._fire_again(windows, slots[rows], slices[rows])
        self._flush()

    def _fire_again(self, windows: Windows, slots: IntArray, slices: IntArray) -> None:
        """The results, as they are now, of the windows with these slices that have fired and take records still; for
        one key each."""
        kept = windows.first_open(self._watermark - self._lateness_ms)
        firsts = np.maximum(windows.first_of(slices), kept)
        stops = np.minimum(windows.last_of(slices) + 1, windows.first_open(self._watermark))
        counts = np.maximum(stops - firsts, 0)
        before = np.cumsum(counts) - counts
        numbers = np.repeat(firsts - before, counts) + np.arange(int(counts.sum()))
        slots = np.repeat(slots, counts)
        step = max(1, _LOOKUPS // windows.slices_per_window)
        for start in range(0, len(numbers), step):
            chosen = numbers[start : start + step]
            first_slices = chosen * (windows.slices(1).start - windows.slices(0).start)
            found, groups = self._table.merged_at(slots[start : start + step], first_slices, windows.slices_per_window)
            assert found.all(), "a window fires again without a record"
            starts = windows.offset_ms + chosen * windows.every_ms
            self._put(groups, {WINDOW_START: starts, WINDOW_END: starts + windows.size_ms})

    def _fire(self, windows: Windows, watermark: int) -> None:
        slices = self._table.slices
        for window in windows.due(self._watermark, watermark, slices):
            find = self._sliding.window if self._sliding is not None else self._table.merged
            groups = find(windows.slices(window))
            bounds = zip((WINDOW_START, WINDOW_END), windows.bounds(window), strict=True)
            self._put(groups, {name: np.full(len(groups.slots), at, np.int64) for name, at in bounds})
        self._flush()
        first = windows.first_live_slice(watermark, self._lateness_ms)
        self._table.remove(slices[: bisect_left(slices, first)])

    def _put(self, groups: Groups, bounds: dict[str, Any]) -> None:
        """Sends results, a batch at a time."""
        values = self._table.by_accumulator(groups.values)
        columns = {**self._table.key_columns(groups.slots), **bounds}
        for aggregate in self._aggregates:
            columns.update(aggregate.results(values))
        self._waiting.append(Columns(self._result, columns))
        self._waiting_rows += len(groups.slots)
        if self._waiting_rows >= _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            waiting, self._waiting, self._waiting_rows = self._waiting, [], 0
            self.output.emit(concat_columns(waiting))


def _by_turns(slots: IntArray) -> Iterator[IntArray]:
    """The places of the first record of each key, then of each second one, and so on."""
    order = np.argsort(slots, kind="stable")
    is_first = np.diff(slots[order], prepend=-1) != 0
    starts = np.flatnonzero(is_first)
    turns = np.arange(len(slots)) - np.repeat(starts, np.diff(starts, append=len(slots)))
    by_turn = np.argsort(turns, kind="stable")
    for places in np.split(by_turn, np.flatnonzero(np.diff(turns[by_turn])) + 1):
        if len(places):
            yield order[places]


def accumulators_of(aggregates: Sequence[Bound]) -> tuple[Accumulating, ...]:
    """The accumulators that some aggregates need, each once; always a count, by which late records are counted."""
    return tuple(dict.fromkeys([*needed_by(aggregates), COUNT]))
