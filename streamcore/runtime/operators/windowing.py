"""What the operators of windows over rows share: keys and times of records, late records, timers, the watermark."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from streamcore.batch import Batch, Schema, to_rows
from streamcore.kernels.key_columns import as_list
from streamcore.runtime.functions import OutputTag
from streamcore.runtime.keys import KeySelector
from streamcore.runtime.operator import Operator
from streamcore.runtime.record_times import RecordTimes
from streamcore.runtime.window_functions import WindowContext, WindowFunction
from streamcore.time import MAX_TIME, MIN_TIME

_BATCH_ROWS = 8192


@dataclass(frozen=True)
class WindowInput:
    """What comes into windows.

    Attributes:
        key: None for windows of all records.
        times: where the records' event time is; None: they belong to the moment at which they come.
        schema: of the stream, if it has one.
        lateness_ms: how long windows stay after their end.
        late_tag: where late records go; None: they are dropped, and counted.
    """

    key: KeySelector | None
    times: RecordTimes | None
    schema: Schema | None
    lateness_ms: int
    late_tag: OutputTag[Any] | None


class WindowOperator(Operator):
    """Windows of each key, or of all records, whose results `function` gives."""

    def __init__(self, function: WindowFunction[Any, Any, Any], source: WindowInput) -> None:
        self._function = function
        self._source = source

    def open(self) -> None:
        context = self.context
        context.store.timers.with_windows = context.store.event_timers.with_windows = True
        self._ctx: WindowContext[Any] = WindowContext(context, self.output, keyed=True)
        self._watermark = MIN_TIME
        self._declare()
        self._set_time(min((state["watermark"] for state in context.unfinished_states()), default=MIN_TIME))
        self._function.open(self._ctx)
        self._ctx.flush()

    def process(self, batch: Batch, port: int) -> None:
        source = self._source
        rows = to_rows(batch, source.schema)
        keys = as_list(source.key.keys(batch)) if source.key is not None else [None] * len(rows)
        times = source.times.of(batch) if source.times is not None else [self.context.clock.now_ms()] * len(rows)
        self.context.store.touch(keys)
        for key, record, time_ms in zip(keys, rows, times, strict=True):
            self._add(key, record, time_ms)
        self._ctx.flush()

    def advance(self, time_ms: int) -> None:
        if time_ms > self._watermark:
            self._set_time(time_ms)
            store = self.context.store
            for at_ms, (key, what) in store.event_timers.take_until(time_ms):
                store.touch((key,))
                self._on_event_timer(at_ms, key, what)
            self._ctx.flush()
        self.output.emit_watermark(time_ms)

    def finish(self) -> None:
        self._set_time(MAX_TIME)
        store = self.context.store
        for at_ms, (key, what) in store.event_timers.take_until(math.inf):
            store.touch((key,))
            self._on_event_timer(at_ms, key, what)
        self._end()
        self._ctx.flush()

    def capture(self, checkpoint_id: int) -> Any:
        return {"watermark": self._watermark}

    def close(self) -> None:
        self._function.close()

    @abstractmethod
    def _declare(self) -> None:
        """Declares state."""

    @abstractmethod
    def _add(self, key: Any, record: Any, time_ms: int) -> None:
        """Takes a record."""

    @abstractmethod
    def _on_event_timer(self, at_ms: int, key: Any, what: Any) -> None:
        """An event timer is due."""

    @abstractmethod
    def _end(self) -> None:
        """All input has ended and all timers have fired: lets go what is left."""

    def _set_time(self, watermark: int) -> None:
        self._watermark = watermark
        self._ctx.watermark = watermark if watermark != MIN_TIME else None

    def _late(self, record: Any) -> None:
        if self._source.late_tag is not None:
            self._ctx.side_output(self._source.late_tag, record)
        else:
            self.context.counters.late_records += 1

    def _hand_on(self) -> None:
        """Called after results: many don't wait for the end of the batch."""
        if self._ctx.waiting >= _BATCH_ROWS:
            self._ctx.flush()
