"""A subtask that reads a source: polls, captures offsets when it is told to, ends when its splits have ended."""

from __future__ import annotations

from functools import partial

from streamcore.runtime.chain import guard
from streamcore.runtime.elements import LatencyMarker
from streamcore.runtime.messages import Drain, Trigger
from streamcore.runtime.operators.source import SourceOperator
from streamcore.runtime.subtask import Mail, RestoredSubtask, SubtaskTask


class SourceTask(SubtaskTask):
    """The subtask at the beginning of a stream. Its offsets are captured between two batches, so they are exact."""

    async def _work(self, restored: RestoredSubtask) -> None:
        source = self.chain.head
        assert isinstance(source, SourceOperator), "the head of a source chain is no source"
        limit = self.wiring.job.settings.batch_size
        self._ending = self._paused = False
        self._mark_at = self._clock.monotonic()
        while not (self._ending or source.exhausted):
            await self._read_mail()
            if self._ending or self._closed:
                return
            self._mark_latency()
            before = self.counters.records_in
            found = not self._paused and self._poll(source, limit)
            self.outputs.settle()
            await self.outputs.drain()  # also without records: malformed ones, a watermark or a marker may wait
            if found:
                await self._take_turns(self.counters.records_in - before)
            elif not source.exhausted or self._paused:
                await self._rest(source)

    def _mark_latency(self) -> None:
        interval_s = self.wiring.job.settings.latency_interval_s
        if interval_s > 0 and self._clock.monotonic() >= self._mark_at:
            self._mark_at = self._clock.monotonic() + interval_s
            self.outputs.write_marker(LatencyMarker(self._clock.wall_s()))

    def _poll(self, source: SourceOperator, limit: int) -> bool:
        return guard(self.wiring.vertex.operators[0], partial(source.poll, limit))

    async def _rest(self, source: SourceOperator) -> None:
        deadline = None if self._paused else source.wake_at
        flush_at = self.outputs.deadline
        if flush_at is not None and flush_at <= self._clock.monotonic():
            self.outputs.flush()
            await self.outputs.drain()
            return
        if flush_at is not None:
            deadline = flush_at if deadline is None else min(deadline, flush_at)
        await self._idle(deadline)

    async def _handle(self, mail: Mail) -> None:
        match mail:
            case Trigger():
                if mail.checkpoint_id <= self._last_captured:
                    return
                captured, pause_s = await self._capture(mail.checkpoint_id)
                self._write_snapshot(mail.checkpoint_id, captured, {}, 0.0, pause_s)
                self._paused = mail.pause
            case Drain():
                self._ending = True
