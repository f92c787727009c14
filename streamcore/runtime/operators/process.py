"""Runs the users' process functions: over rows or columns, keyed or not, on one or two inputs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from streamcore.batch import Batch, Columns, to_rows
from streamcore.kernels.key_columns import as_list
from streamcore.runtime.broadcast import BroadcastBatchFunction, BroadcastFunction
from streamcore.runtime.functions import BatchFunction, CoBatchFunction, Context, CoProcessFunction, ProcessFunction
from streamcore.runtime.keys import KeySelector
from streamcore.runtime.operator import Operator
from streamcore.runtime.record_times import RecordTimes
from streamcore.time import MAX_TIME

RowFunction = ProcessFunction[Any, Any] | CoProcessFunction[Any, Any, Any] | BroadcastFunction[Any, Any, Any]
ColumnFunction = BatchFunction[Any] | CoBatchFunction[Any] | BroadcastBatchFunction[Any, Any]


class _Process(Operator):
    _context_type: type[Context[Any]] = Context

    def __init__(
        self,
        function: RowFunction | ColumnFunction,
        keys: Sequence[KeySelector | None],
        times: Sequence[RecordTimes | None] = (),
    ) -> None:
        self._function = function
        self._keys = keys
        self._times = times or [None] * len(keys)
        self._by_port: list[Callable[..., None]] = (
            [function.process_first, function.process_second]
            if isinstance(function, CoProcessFunction | CoBatchFunction)
            else [function.process]
        )

    def open(self) -> None:
        self._ctx: Context[Any] = self._context_type(self.context, self.output, keyed=self._keys[0] is not None)
        saved = self.context.all_states()
        self._ctx.watermark = min((state["watermark"] for state in saved if "watermark" in state), default=None)
        self._function.open(self._ctx)
        self._ctx.flush()

    def fire_timers(self, now_ms: int) -> None:
        store = self.context.store
        self._ctx._moment = None
        for time_ms, key in store.timers.take_due(now_ms):
            store.go_to(key)
            self._function.on_timer(time_ms, self._ctx)
        self._ctx.flush()

    def advance(self, time_ms: int) -> None:
        before = self._ctx.watermark
        self._ctx.watermark = time_ms if before is None else max(before, time_ms)
        ctx, store = self._ctx, self.context.store
        for ctx._moment, key in store.event_timers.take_until(time_ms):
            store.go_to(key)
            self._function.on_event_timer(ctx._moment, ctx)
        ctx._moment = None
        self._function.on_watermark(time_ms, ctx)
        ctx.flush()
        self.output.emit_watermark(time_ms)

    def finish(self) -> None:
        ctx, store = self._ctx, self.context.store
        ctx.watermark = MAX_TIME
        for ctx._moment, key in store.event_timers.take_rest():
            store.go_to(key)
            self._function.on_event_timer(ctx._moment, ctx)
        ctx._moment = None
        self._function.on_watermark(MAX_TIME, ctx)
        self._function.finish(ctx)
        ctx.flush()

    def capture(self, checkpoint_id: int) -> Any:
        return None if self._ctx.watermark is None else {"watermark": self._ctx.watermark}

    def close(self) -> None:
        self._function.close()


class ProcessRows(_Process):
    """A ProcessFunction or CoProcessFunction."""

    def process(self, batch: Batch, port: int) -> None:
        process, ctx, selector, times = self._by_port[port], self._ctx, self._keys[port], self._times[port]
        rows = to_rows(batch)
        left = iter(rows)
        if times is not None:
            ctx._moment = _moment_in(times, rows, left)
        if selector is None:
            for record in left:
                process(record, ctx)
        else:
            store = self.context.store
            current, keys = store.current, as_list(selector.keys(batch))
            store.touch(keys)
            for current.key, record in zip(keys, left, strict=True):
                process(record, ctx)
        ctx._moment = None
        ctx.flush()


def _moment_in(times: RecordTimes, rows: list[Any], left: Any) -> Callable[[], int]:
    """Gives the event time of the record at hand, which is the last that the iterator has handed out: so following
    the records costs nothing, and their times are read when the function asks for one."""
    known: list[int] = []

    def moment() -> int:
        if not known:
            known.extend(times.of(rows))
        return known[len(rows) - operator.length_hint(left) - 1]

    return moment


class ProcessColumns(_Process):
    """A BatchFunction or CoBatchFunction."""

    def process(self, batch: Batch, port: int) -> None:
        assert isinstance(batch, Columns), "a batch function got rows"
        self._by_port[port](batch, self._ctx)
        self._ctx.flush()
