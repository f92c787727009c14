"""A subtask that reads a source: polls, captures offsets when it is told to, ends when its splits have ended."""

from __future__ import annotations

from functools import partial

from streamcore.runtime.chain import guard
from streamcore.runtime.counters import Counters
from streamcore.runtime.elements import LatencyMarker
from streamcore.runtime.messages import Abort, Align, Drain, SlowestSplit, Trigger
from streamcore.runtime.operators.source import SourceOperator
from streamcore.runtime.subtask import Mail, SubtaskTask, SubtaskWiring


class SourceTask(SubtaskTask):
    """The subtask at the beginning of a stream. Its offsets are captured between two batches, so they are exact."""

    def __init__(self, wiring: SubtaskWiring) -> None:
        super().__init__(wiring)
        source = self.chain.head
        assert isinstance(source, SourceOperator), "the head of a source chain is no source"
        self._source = source
        self._group = wiring.vertex.alignment
        self._reported_ms: int | None = None
        self._report_at = 0.0
        self._aborted = 0

    async def _work(self) -> None:
        source = self._source
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
            check_at = self._idle_check_at()
            self.outputs.settle()
            await self.outputs.drain()  # also without records: malformed ones, a watermark or a marker may wait
            report_at = self._report_slowest()
            if found:
                await self._take_turns(self.counters.records_in - before)
            elif not source.exhausted or self._paused:
                await self._rest(source, check_at, report_at)

    def _mark_latency(self) -> None:
        interval_s = self.wiring.job.settings.latency_interval_s
        if interval_s > 0 and self._clock.monotonic() >= self._mark_at:
            self._mark_at = self._clock.monotonic() + interval_s
            self.outputs.write_marker(LatencyMarker(self._clock.wall_s()))

    def _poll(self, source: SourceOperator, limit: int) -> bool:
        started = self._clock.monotonic() if self._is_attentive else 0.0
        found = guard(self.wiring.vertex.operators[0], partial(source.poll, limit))
        if self._is_attentive:
            self._attention.worked(self._clock.monotonic() - started)
        return found

    def _report_slowest(self) -> float | None:
        """Tells the alignment group how far the splits here have come, if that has changed and the last report is old
        enough; when it will be, if it isn't."""
        group = self._group
        if group is None:
            return None
        slowest_ms = self._source.slowest_ms
        if slowest_ms == self._reported_ms:
            return None
        now = self._clock.monotonic()
        if now < self._report_at:
            return self._report_at
        self._reported_ms, self._report_at = slowest_ms, now + group.every_s
        self._send(SlowestSplit(self.epoch, self.id, slowest_ms))
        return None

    async def _rest(self, source: SourceOperator, *until: float | None) -> None:
        flush_at = self.outputs.deadline
        if flush_at is not None and flush_at <= self._clock.monotonic():
            self.outputs.flush()
            await self.outputs.drain()
            return
        times = [None if self._paused else source.wake_at, flush_at, *until]
        await self._idle(min((at for at in times if at is not None), default=None), attentive=not self._paused)

    def measure(self) -> Counters:
        """The counters, with event time as of now."""
        if self._started:
            self._source.show_time()
        return super().measure()

    def _abort(self, abort: Abort) -> None:
        super()._abort(abort)
        self._aborted = max(self._aborted, abort.checkpoint_id)
        self._paused = False  # what was to be the last snapshot isn't: the job goes on

    def _triggered(self, trigger: Trigger) -> None:
        # one without a pause follows a last snapshot: that has failed, and the job goes on; also if this has failed
        # while the outputs were drained for it
        self._paused = trigger.pause and trigger.checkpoint_id > self._aborted

    async def _handle(self, mail: Mail) -> None:
        match mail:
            case Drain():
                self._ending = True
            case Align():
                self._source.align(mail.group_ms)
