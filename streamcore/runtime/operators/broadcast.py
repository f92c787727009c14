"""Runs broadcast functions: port 0 is the stream, port 1 the broadcast one."""

from __future__ import annotations

from typing import Any

from streamcore.batch import Batch, Columns, to_rows
from streamcore.runtime.broadcast import BroadcastBatchFunction, BroadcastContext, BroadcastFunction
from streamcore.runtime.keys import KeySelector
from streamcore.runtime.operators.process import ProcessRows
from streamcore.runtime.record_times import RecordTimes


class ProcessBroadcast(ProcessRows):
    """A BroadcastFunction or a BroadcastBatchFunction."""

    _context_type = BroadcastContext
    _ctx: BroadcastContext[Any]

    def __init__(
        self,
        function: BroadcastFunction[Any, Any, Any] | BroadcastBatchFunction[Any, Any],
        key: KeySelector | None,
        times: RecordTimes | None = None,
    ) -> None:
        super().__init__(function, (key,), (times,))
        self._process_broadcast = function.process_broadcast
        self._takes_columns = isinstance(function, BroadcastBatchFunction)

    def open(self) -> None:
        super().open()
        self._ctx.check_all_claimed()

    def process(self, batch: Batch, port: int) -> None:
        if port == 1:
            self._ctx.begin_broadcast()
            for record in to_rows(batch):
                self._process_broadcast(record, self._ctx)
            self._ctx.end_broadcast()
            self._ctx.flush()
        elif self._takes_columns:
            assert isinstance(batch, Columns), "a batch function got rows"
            self._by_port[0](batch, self._ctx)
            self._ctx.flush()
        else:
            super().process(batch, port)

    def capture(self, checkpoint_id: int) -> Any:
        return {**(super().capture(checkpoint_id) or {}), "broadcast_states": self._ctx.captured()}
