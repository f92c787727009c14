"""Runs a sink: writes, prepares at a barrier, commits when the checkpoint is complete."""

from __future__ import annotations

from typing import Any

from streamcore.batch import Batch
from streamcore.connectors.base import Sink, SinkContext, SinkWriter, TwoPhaseWriter
from streamcore.runtime.operator import Operator


class SinkOperator(Operator):
    """The end of a stream. With a two-phase writer the handles of prepared output are part of the snapshot;
    they are committed when it is complete, and once more when it is restored."""

    def __init__(self, sink: Sink[Any]) -> None:
        self._sink = sink
        self._writer: SinkWriter | None = None
        self._prepared: dict[int, list[Any]] = {}

    def open(self) -> None:
        context = self.context
        writer = self._sink.writer(SinkContext(context.subtask, context.parallelism, context.epoch))
        assert isinstance(writer, SinkWriter), "a sink with asynchronous writers that doesn't say so"
        self._writer = writer
        if isinstance(writer, TwoPhaseWriter):
            handles = [handle for state in context.own_share() for handle in state["prepared"]]
            writer.commit(handles)
            writer.abort_leftovers(handles)

    def process(self, batch: Batch, port: int) -> None:
        assert self._writer is not None, "a sink was written to before it was open"
        self._writer.write(batch)

    def capture(self, checkpoint_id: int) -> Any:
        writer = self._writer
        assert writer is not None, "a sink was captured before it was open"
        writer.flush()
        if not isinstance(writer, TwoPhaseWriter):
            return None
        self._prepared[checkpoint_id] = writer.prepare()
        # what an earlier, not yet confirmed checkpoint prepared must be committed by whoever restores this one
        return {"prepared": [handle for handles in self._prepared.values() for handle in handles]}

    def notify_complete(self, checkpoint_id: int) -> None:
        if isinstance(self._writer, TwoPhaseWriter):
            for prepared in [n for n in self._prepared if n <= checkpoint_id]:
                self._writer.commit(self._prepared[prepared])
                del self._prepared[prepared]

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
