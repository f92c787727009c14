"""A subtask with inputs: reads its gate, keeps event time, answers termination waves.

One turn of the main loop: mail, timers, one element of the gate, sending. What it does about barriers is in
`runtime.barriers`.
"""

from __future__ import annotations

import asyncio

from streamcore.batch import Batch, concat
from streamcore.errors import TopologyError
from streamcore.runtime.chain import guard
from streamcore.runtime.channel import InputChannel
from streamcore.runtime.counters import Counters
from streamcore.runtime.elements import BATCHES, Barrier, Element, EndOfInput, LatencyMarker, Watermark
from streamcore.runtime.messages import LoopOver, OutsideEnded, Wave, WaveReply
from streamcore.runtime.operators.async_map import AsyncMap
from streamcore.runtime.subtask import Mail, SubtaskTask, SubtaskWiring
from streamcore.runtime.watermarks import WatermarkMerge
from streamcore.time import MIN_TIME


class OperatorTask(SubtaskTask):
    """A subtask that is fed by channels."""

    def __init__(self, wiring: SubtaskWiring) -> None:
        super().__init__(wiring)
        forward = [channel.number for channel in self._gate.channels if not channel.feedback]
        self._event_time = WatermarkMerge(dict.fromkeys(forward, MIN_TIME))
        self._told_idle = False
        self._loop = wiring.vertex.loop
        self._asking = wiring.chain.asynchronous
        self._told_outside_ended = False
        self._ready = False

    async def _work(self) -> None:
        self._ready = True
        while not self._is_done:
            await self._read_mail()
            if self._closed or self._is_done:
                return
            self._fire_timers()
            check_at = self._idle_check_at()
            if self._asking is not None and self._asking.is_waiting:
                await self._collect(self._asking)
                if self._is_done:
                    return
                if self._asking.is_full:
                    await self._rest(check_at, reading=False)
                    continue
            polled = self._gate.poll()
            if not polled:
                await self._rest(check_at)
                continue
            channel, element = polled[0]
            if isinstance(element, BATCHES):
                await self._process(self._join(polled), channel.port)
            elif isinstance(element, Watermark):
                await self._advance(self._event_time.advance(channel.number, element.time_ms, idle=element.idle))
            elif isinstance(element, LatencyMarker):
                self.counters.latency.add(self._clock.wall_s() - element.sent_s)
                self.outputs.write_marker(element)
                self.outputs.settle()
                await self.outputs.drain()
            else:
                await self._control(channel, element)

    @property
    def _is_done(self) -> bool:
        return self._alignment.all_ended and not self._is_asking

    @property
    def _is_asking(self) -> bool:
        return self._asking is not None and self._asking.is_waiting

    async def _collect(self, asking: AsyncMap) -> None:
        guard(self.wiring.vertex.operators[0], asking.collect)
        self.outputs.settle()
        await self.outputs.drain()

    @staticmethod
    def _join(polled: list[tuple[InputChannel, Element]]) -> Batch:
        batches: list[Batch] = []
        for _, batch in polled:
            assert isinstance(batch, BATCHES), "a control element among batches"
            batches.append(batch)
        return concat(batches)

    async def _end(self, *, run_finish: bool) -> None:
        await super()._end(run_finish=run_finish)
        self._tell_outside_ended()

    async def _process(self, batch: Batch, port: int) -> None:
        if self._is_attentive:
            started = self._clock.monotonic()
            self.chain.receive(batch, port)
            self._attention.worked(self._clock.monotonic() - started)
        else:
            self.chain.receive(batch, port)
        self.outputs.settle()
        await self.outputs.drain()
        await self._take_turns(len(batch))

    async def _advance(self, time_ms: int | None) -> None:
        """An input has come to a time, become idle or active, or ended; `time_ms`: the minimum, if that has moved."""
        idle, was_idle = self._event_time.idle, self._told_idle
        if time_ms is None and idle == was_idle:
            return
        self._told_idle = self.counters.time_idle = idle
        if was_idle and not idle:
            self.chain.set_idle(False)
        if time_ms is not None:
            self.counters.watermark_ms = time_ms
            self.chain.advance(time_ms)
        if idle and not was_idle:
            self.chain.set_idle(True)
        self.outputs.settle()
        await self.outputs.drain()

    async def _control(self, channel: InputChannel, element: Barrier | EndOfInput) -> None:
        if self._alignment.has_ended(channel.number):
            return  # a barrier or end that went round a loop which is over
        if isinstance(element, EndOfInput):
            await self._advance(self._event_time.end(channel.number))
            self._barriers.end(channel)
            await self._perform()
            self._tell_outside_ended()
        else:
            self._barriers.barrier(channel, element)
            await self._perform()

    async def _handle(self, mail: Mail) -> None:
        match mail:
            case Wave():
                self._reply(mail)
            case LoopOver():
                self.outputs.end_feedback()
                self._refuse_late_feedback()
                for channel in self._gate.channels:
                    if channel.feedback and not self._alignment.has_ended(channel.number):
                        self._barriers.end(channel)
                await self._perform()

    def _check_after_end(self) -> None:
        self._refuse_late_feedback()

    def _refuse_late_feedback(self) -> None:
        """A loop is over when nothing is in flight in it; only an operator's `finish` can send something after."""
        if any(channel.feedback and channel.queued_records for channel in self._gate.channels):
            raise TopologyError(
                f"records came round the loop to {self.wiring.vertex.name!r} after the loop was over",
                hint="what comes at the end of input, in `finish` or from an aggregate, must lead out of the loop",
            )

    def _reply(self, wave: Wave) -> None:
        passive = self._ended or (
            self._ready
            and self._gate.loop_inputs_empty
            and self.outputs.loop_edges_empty
            and self.chain.next_timer_ms is None
            and not self._is_asking
            and self._gate.outside_ended
        )
        received = sum(channel.received for channel in self._gate.channels if channel.from_loop)
        sent = self.outputs.loop_batches_sent()
        self._send(WaveReply(self.epoch, wave.loop, wave.number, self.id, sent, received, passive))

    def _tell_outside_ended(self) -> None:
        if self._loop is not None and not self._told_outside_ended and (self._ended or self._gate.outside_ended):
            self._told_outside_ended = True
            self._send(OutsideEnded(self.epoch, self._loop, self.id))

    def _fire_timers(self) -> None:
        due = self.chain.next_timer_ms
        if due is not None:
            now_ms = self._clock.now_ms()
            if due <= now_ms:
                self.chain.fire_timers(now_ms)
                self.outputs.settle()

    async def _rest(self, check_at: float | None, *, reading: bool = True) -> None:
        if reading and not self.outputs.loop_edges_empty:
            await asyncio.sleep(0)  # what is about to arrive joins the turn: fuller batches go round the loop
            if self._gate.has_input:
                return
        self.outputs.flush_loop()
        await self.outputs.drain()
        self._tell_outside_ended()
        deadline = self.outputs.deadline
        if deadline is not None and deadline <= self._clock.monotonic():
            self.outputs.flush()
            await self.outputs.drain()
            deadline = None
        if (
            self._mail
            or self._gate.marks
            or (reading and self._gate.has_input)
            or (self._asking is not None and self._asking.has_answers)
        ):
            return  # it came while the outputs were drained, and its wake-up has been used up
        if check_at is not None:
            deadline = check_at if deadline is None else min(deadline, check_at)
        timer_ms = self.chain.next_timer_ms
        if timer_ms is not None:
            at = self._clock.monotonic() + max(0, timer_ms - self._clock.now_ms()) / 1000
            deadline = at if deadline is None else min(deadline, at)
        await self._idle(deadline, attentive=reading and self._alignment.current is None)

    def measure(self) -> Counters:
        """The counters, with times and queue depths as of now."""
        channels = self._gate.channels
        self.counters.queued = sum(channel.queued_records for channel in channels if not channel.feedback)
        self.counters.feedback_queued = sum(channel.queued_records for channel in channels if channel.feedback)
        return super().measure()
