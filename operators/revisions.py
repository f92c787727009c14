"""Results per key and period as revisions: a first line, and a corrected one whenever later records change it.

A line holds for its key and period until one with a higher `revision` comes: the update is the retraction of the line
before. Records wait until their *slice* of event time is over, and all of a slice together make a revision; so for
records in time it doesn't matter how the stream is cut or when the job was restored. A late record makes a revision of
its own. The last revision is that of all records, in whatever order they came.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamcore import BatchFunction, Columns, Context, OutputTag, Schema, TableState, TopologyError
from streamcore.operators.event_time_buffer import EventTimeBuffer, no_rows
from streamcore.operators.periods import Period, Times, checked_period, period_end, period_start
from streamcore.operators.top_k import by_window

START, END, REVISION = "period_start", "period_end", "revision"

_NEVER = (1 << 63) - 1


@dataclass(frozen=True)
class Revising:
    """How results are kept and revised.

    Attributes:
        by: the key, a field or several.
        time: the field with event time; int64 milliseconds.
        every_ms: the length of a slice; slices begin at 1970.
        period: what results are of; None: of all time.
        lateness_ms: for how long after a period's end its state is kept; None: for good. What comes later still is
            not counted.
        late: the side output for that.
    """

    by: str | tuple[str, ...]
    time: str
    every_ms: int
    period: Period | None
    lateness_ms: int | None
    late: OutputTag[Any] | None

    @staticmethod
    def of(
        by: str | tuple[str, ...],
        time: str,
        every: float,
        period: Period | None,
        lateness: float | None,
        late: OutputTag[Any] | None,
    ) -> Revising:
        """The same of durations in seconds.

        Raises:
            TopologyError: one is out of range, or there is no such period.
        """
        if not (0.001 <= every < math.inf) or not (lateness is None or 0 <= lateness < math.inf):
            raise TopologyError(
                f"results can't be revised every {every} s with a lateness of {lateness} s",
                hint="every is at least a millisecond; lateness is 0 or more, or None to keep all state",
            )
        lateness_ms = None if lateness is None else round(lateness * 1000)
        found = None if period is None else checked_period(period)
        return Revising(by, time, round(every * 1000), found, lateness_ms, late)

    @property
    def key(self) -> tuple[str, ...]:
        """The fields of the key."""
        return (self.by,) if isinstance(self.by, str) else self.by

    @property
    def tags(self) -> list[OutputTag[Any]]:
        """The side outputs."""
        return [] if self.late is None else [self.late]

    def starts(self, times: Times) -> Times:
        """The start of the period of each time, 0 where there are none; int64 (n,)."""
        return np.zeros(len(times), np.int64) if self.period is None else period_start(times, self.period)

    def kept_until(self, starts: Times) -> Times:
        """The event time up to which a period's state is kept; int64 (n,)."""
        if self.period is None or self.lateness_ms is None:
            return np.full(len(starts), _NEVER)
        return period_end(starts, self.period) + self.lateness_ms


class UpdateSlices:
    """Records by slice of event time: those in time wait until their slice is over."""

    def __init__(self, schema: Schema, time: str, every_ms: int) -> None:
        self._buffer = EventTimeBuffer(schema, time, every_ms)
        self._schema = schema
        self._time = time
        self._every_ms = every_ms
        self.over_ms = -_NEVER
        """All slices up to this time are over."""

    def add(self, columns: Columns) -> Columns | None:
        """Keeps those in time and gives the others; None when there are none."""
        columns = Columns(self._schema, columns.arrays)
        late = columns[self._time] < self.over_ms
        if not late.any():
            self._buffer.add(columns)
            return None
        self._buffer.add(columns.filter(~late))
        return columns.filter(late)

    def take(self, watermark_ms: int) -> list[tuple[int, Columns]]:
        """The slices that are over at a watermark: the end of each, in order, and its records."""
        self.over_ms = (watermark_ms + 1) // self._every_ms * self._every_ms
        return [((n + 1) * self._every_ms, part) for n, part in self._buffer.take_stretches(watermark_ms + 1)]

    def rows(self) -> Columns:
        """All records that wait, for a snapshot."""
        return self._buffer.rows()


class Revisions(BatchFunction[Any]):
    """Keeps rows per key and period, and gives lines when they change. A subclass says which rows and which lines.

    Args:
        waiting: the fields that are kept of a record until its slice is over: the key's, the time, and others.
        rows: the fields of the rows that are kept then; one is the period's start.
    """

    def __init__(self, revising: Revising, waiting: Schema, rows: Schema) -> None:
        self._revising = revising
        self._waiting = waiting
        self._schema = rows
        self._runs: dict[int, Columns] = {}

    def fresh(self, columns: Columns, starts: Times) -> Columns:
        """Records as rows with revision 0."""
        raise NotImplementedError

    def merge(self, rows: Columns) -> tuple[Columns, Columns]:
        """The rows of a period, of which those of revision 0 are new: what is kept of them, and the lines of those keys
        that have new ones."""
        raise NotImplementedError

    def open(self, ctx: Context[Any]) -> None:
        revising = self._revising
        self._slices = UpdateSlices(self._waiting, revising.time, revising.every_ms)
        if ctx.watermark is not None:
            self._slices.take(ctx.watermark)  # nothing is there yet; what was late before the restore is late again
        ctx.table_state(TableState("waiting", revising.by, self._slices.rows, self._restore_waiting))
        ctx.table_state(TableState("runs", revising.by, self._rows, self._restore_runs))

    def process(self, columns: Columns, ctx: Context[Any]) -> None:
        late = self._slices.add(columns)
        if late is None:
            return
        starts = self._revising.starts(late[self._revising.time])
        is_kept = self._revising.kept_until(starts) > self._slices.over_ms
        if is_kept.any():
            ctx.emit_batch(Columns.concat(self._update(late.filter(is_kept))))
        if not is_kept.all() and self._revising.late is not None:
            ctx.side_output_batch(self._revising.late, late.filter(~is_kept))

    def on_watermark(self, time_ms: int, ctx: Context[Any]) -> None:
        lines = [found for _, part in self._slices.take(time_ms) for found in self._update(part)]
        if lines:
            ctx.emit_batch(Columns.concat(lines))
        starts = np.array(list(self._runs), np.int64)
        for start in starts[self._revising.kept_until(starts) <= self._slices.over_ms].tolist():
            del self._runs[start]

    def _update(self, columns: Columns) -> list[Columns]:
        """Merges records of one slice, and gives the lines, a batch per period."""
        fresh = self.fresh(columns, self._revising.starts(columns[self._revising.time]))
        found = []
        for start, part in by_window(fresh, START):
            run = self._runs.get(start)
            self._runs[start], lines = self.merge(part if run is None else Columns.concat([run, part]))
            found.append(lines)
        return found

    def _rows(self) -> Columns:
        return Columns.concat([no_rows(self._schema), *self._runs.values()])

    def _restore_waiting(self, rows: Columns) -> None:
        self._slices.add(rows)

    def _restore_runs(self, rows: Columns) -> None:
        for start, part in by_window(Columns(self._schema, rows.arrays), START):
            before = self._runs.get(start)
            self._runs[start] = part if before is None else Columns.concat([before, part])
