"""Session windows per key: records that come within a gap of each other belong together (as in Apache Flink)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamcore.batch import Columns, Schema
from streamcore.batch.convert import Batch
from streamcore.runtime.aggregates import Bound, needed_by
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.operator import Operator
from streamcore.runtime.operators.restored_windows import restored_windows
from streamcore.runtime.operators.window import WINDOW_END, WINDOW_START
from streamcore.state.descriptors import TableState
from streamcore.state.sessions import Sessions, SessionTable
from streamcore.time import MAX_TIME, MIN_TIME

_BATCH_ROWS = 8192
_IN_WORDS = "sessions"  # their gap may change: each has its own bounds


class SessionAggregate(Operator):
    """Emits the results of a session when the watermark has passed its end, and again after each record that comes
    for it within `lateness_ms` of that. A record whose own window was over before that, and that touches no session
    which is still kept, is late: it goes to the side output `late_tag`, or (None) is counted and dropped."""

    def __init__(
        self,
        key: str | tuple[str, ...],
        gap_ms: int,
        time: EventTime,
        aggregates: Sequence[Bound],
        result: Schema,
        *,
        lateness_ms: int = 0,
        late_tag: str | None = None,
    ) -> None:
        names = (key,) if isinstance(key, str) else key
        self._key = key
        self._time = time
        self._aggregates = aggregates
        self._result = result
        self._late_tag = late_tag
        self._table = SessionTable(result.select(names), needed_by(aggregates), gap_ms, lateness_ms)

    def open(self) -> None:
        saved, table = restored_windows(self.context, _IN_WORDS), self._table
        table.watermark = min((state["watermark"] for state in saved), default=MIN_TIME)
        self.context.store.declare_table(TableState("sessions", self._key, table.captured, table.restore, table.schema))

    def process(self, batch: Batch, port: int) -> None:
        assert isinstance(batch, Columns), "a columnar aggregate got rows"
        fired, late = self._table.add(batch, self._time.times(batch))
        if late is not None and self._late_tag is not None:
            self.output.emit_side(self._late_tag, batch.filter(late))
        elif late is not None:
            self.context.counters.late_records += int(np.count_nonzero(late))
        self._emit(fired)

    def advance(self, time_ms: int) -> None:
        if time_ms > self._table.watermark:
            self._emit(self._table.advance(time_ms))
        self.output.emit_watermark(time_ms)

    def finish(self) -> None:
        self._emit(self._table.advance(MAX_TIME))

    def capture(self, checkpoint_id: int) -> Any:
        return {"windows": _IN_WORDS, "watermark": self._table.watermark}

    def _emit(self, sessions: Sessions | None) -> None:
        if sessions is None:
            return
        columns = {**sessions.keys, WINDOW_START: sessions.starts, WINDOW_END: sessions.ends}
        for aggregate in self._aggregates:
            columns.update(aggregate.results(sessions.values))
        results = Columns(self._result, columns)
        for start in range(0, len(results), _BATCH_ROWS):
            self.output.emit(results.slice(start, min(start + _BATCH_ROWS, len(results))))
