"""Windowed and whole-stream aggregates per key, in one stage or in two.

One stage: `WindowAggregate` takes records. Two stages: `PartialAggregate` runs before the exchange and sends on, for
each key and slice, what its records add up to; `WindowAggregate` after it merges these. Both hold a `SliceTable`, and
a snapshot of one form can be restored into the other, since only the last stage has state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamcore.batch import Columns, Schema, concat_columns
from streamcore.batch.convert import Batch
from streamcore.kernels.accumulate import floor_divide
from streamcore.runtime.aggregates import Bound
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.operator import Operator
from streamcore.runtime.windows import Windows
from streamcore.state.accumulators import COUNT, Accumulating
from streamcore.state.descriptors import TableState
from streamcore.state.slices import SliceTable
from streamcore.time import MIN_TIME

WINDOW_START, WINDOW_END = "window_start", "window_end"

_BATCH_ROWS = 8192
_PARTIAL_ENTRIES = 1 << 18
_BYPASSED_ROWS = 1 << 20


class WindowTimes:
    """Which slice a record belongs to; without windows, all belong to slice 0."""

    def __init__(self, windows: Windows | None, time: EventTime | None) -> None:
        self.windows = windows
        self._time = time

    def assign(self, batch: Columns) -> tuple[Columns, np.ndarray[Any, np.dtype[np.int64]]]:
        """The records that belong to a window - all, unless windows lie apart - and the slice of each; int64 (n,)."""
        if self.windows is None:
            return batch, np.zeros(len(batch), np.int64)
        assert self._time is not None, "windows without event time"
        slices: np.ndarray[Any, np.dtype[np.int64]] = floor_divide(
            self._time.times(batch), self.windows.offset_ms, self.windows.slice_ms
        )
        inside = self.windows.inside(slices)
        return (batch, slices) if inside is None else (batch.filter(inside), slices[inside])


class PartialAggregate(Operator):
    """The first of two stages. Keeps nothing over a barrier: what it holds goes out before, as records.

    Where keys hardly ever come twice, adding up costs more than it saves: then records pass as they are for a while.
    """

    def __init__(self, key: Schema, times: WindowTimes, accumulators: Sequence[Accumulating]) -> None:
        self._times = times
        self._table = SliceTable(key, accumulators, has_windows=times.windows is not None)
        self._rows = 0  # records in the table
        self._bypass = 0

    def process(self, batch: Batch, port: int) -> None:
        assert isinstance(batch, Columns), "a columnar aggregate got rows"
        batch, slices = self._times.assign(batch)
        if self._bypass > 0:
            self._bypass -= len(batch)
            self.output.emit(self._table.as_partials(batch, slices))
            return
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
    at its end. A record (or partial result) whose windows are all over is late: it is counted, and dropped."""

    def __init__(
        self,
        key: str | tuple[str, ...],
        times: WindowTimes,
        aggregates: Sequence[Bound],
        result: Schema,
        *,
        partials: bool,
    ) -> None:
        self._key = key
        self._times = times
        self._aggregates = aggregates
        self._result = result
        self._takes_partials = partials
        names = (key,) if isinstance(key, str) else key
        has_windows = times.windows is not None
        self._table = SliceTable(result.select(names), accumulators_of(aggregates), has_windows=has_windows)
        self._watermark = MIN_TIME

    def open(self) -> None:
        saved = [part.state["watermark"] for part in self.context.saved]
        self._watermark = min(saved, default=MIN_TIME)
        self.context.store.declare_table(TableState("windows", self._key, self._captured, self._table.restore))

    def process(self, batch: Batch, port: int) -> None:
        assert isinstance(batch, Columns), "a columnar aggregate got rows"
        if self._takes_partials:
            slices = self._table.slices_of(batch)
        else:
            batch, slices = self._times.assign(batch)
        if self._times.windows is not None and len(slices):
            first = self._times.windows.first_live_slice(self._watermark)
            if slices.min() < first:
                in_time = slices >= first
                self._count_late(batch, in_time)
                batch, slices = batch.filter(in_time), slices[in_time]
        if len(batch) == 0:
            return
        if self._takes_partials:
            self._table.add_partials(batch)
        else:
            self._table.add(batch, slices)

    def advance(self, time_ms: int) -> None:
        if time_ms > self._watermark:
            if self._times.windows is not None:
                self._fire(self._times.windows, time_ms)
            self._watermark = time_ms
        self.output.emit_watermark(time_ms)

    def finish(self) -> None:
        if self._times.windows is not None:
            last = self._table.slices[-1:]
            ends = [self._times.windows.bounds(self._times.windows.windows_of(number)[-1])[1] for number in last]
            self._fire(self._times.windows, max(ends, default=self._watermark))
        elif len(self._table):
            keys, values = self._table.window([0])
            self.output.emit(self._results(keys, values, {}))

    def capture(self, checkpoint_id: int) -> Any:
        return {"watermark": self._watermark}

    def _captured(self) -> Columns:
        return self._table.partials(self._table.slices)

    def _fire(self, windows: Windows, watermark: int) -> None:
        slices = self._table.slices
        waiting: list[Columns] = []
        for window in windows.due(self._watermark, watermark, slices):
            keys, values = self._table.window(windows.slices(window))
            bounds = zip((WINDOW_START, WINDOW_END), windows.bounds(window), strict=True)
            count = len(next(iter(values.values())))
            waiting.append(self._results(keys, values, {name: np.full(count, at, np.int64) for name, at in bounds}))
            if sum(map(len, waiting)) >= _BATCH_ROWS:
                self.output.emit(concat_columns(waiting))
                waiting = []
        if waiting:
            self.output.emit(concat_columns(waiting))
        first = windows.first_live_slice(watermark)
        self._table.remove([number for number in slices if number < first])

    def _results(self, keys: dict[str, Any], values: dict[str, Any], bounds: dict[str, Any]) -> Columns:
        columns = {**keys, **bounds}
        for aggregate in self._aggregates:
            columns.update(aggregate.results(values))
        return Columns(self._result, columns)

    def _count_late(self, batch: Columns, in_time: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        late = self._table.counts_of(batch)[~in_time].sum() if self._takes_partials else np.count_nonzero(~in_time)
        self.context.counters.late_records += int(late)


def accumulators_of(aggregates: Sequence[Bound]) -> tuple[Accumulating, ...]:
    """The accumulators that some aggregates need, each once; always a count, by which late records are counted."""
    needed = dict.fromkeys(a for aggregate in aggregates for a in aggregate.accumulators)
    return tuple(dict.fromkeys([*needed, COUNT]))
