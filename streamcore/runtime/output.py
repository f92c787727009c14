"""A subtask's outputs: partitioning, gathering to batches, sending within credit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from streamcore.batch import Batch, concat, same_form
from streamcore.errors import TopologyError
from streamcore.runtime.channel import OutputChannel
from streamcore.runtime.elements import BATCHES, Barrier, Element, LatencyMarker, Watermark
from streamcore.runtime.partition import Partitioner
from streamcore.runtime.recording import Recording
from streamcore.runtime.services import Services
from streamcore.runtime.wakeup import Wakeup
from streamcore.time import MIN_TIME


class Target:
    """What waits for one channel: parts that are being gathered, then batches ready to go."""

    __slots__ = ("channel", "gathered", "marker", "parts", "ready", "recording", "watermark")

    def __init__(self, channel: OutputChannel) -> None:
        self.channel = channel
        self.parts: list[Batch] = []
        self.gathered = 0
        self.watermark: Watermark | None = None
        self.marker: LatencyMarker | None = None
        self.ready: deque[Element] = deque()
        self.recording: Recording | None = None

    def add(self, batch: Batch, limit: int) -> None:
        if self.parts and not same_form(self.parts[0], batch):
            self.flush()
        self.parts.append(batch)
        self.gathered += len(batch)
        if self.gathered >= limit:
            self.flush()

    def flush(self) -> None:
        if self.parts:
            self.ready.append(concat(self.parts))
            self.parts = []
            self.gathered = 0
        if self.watermark is not None:
            self.ready.append(self.watermark)
            self.watermark = None
        if self.marker is not None:
            self.ready.append(self.marker)
            self.marker = None


class EdgeOutput:
    """One out-edge of a subtask."""

    def __init__(
        self,
        channels: Sequence[OutputChannel],
        partition: Partitioner,
        batch_size: int,
        *,
        in_loop: bool,
        is_feedback: bool = False,
    ) -> None:
        self.targets = [Target(channel) for channel in channels]
        self.in_loop = in_loop
        self.is_feedback = is_feedback
        self.is_over = False
        self._partition = partition
        # a batch that was cut for several targets is sent on as it is, not gathered up to full size again
        self._limit = max(1, batch_size // (2 * len(channels)))
        self._watermark = Watermark(MIN_TIME)
        self.gathering = False

    def write(self, batch: Batch) -> None:
        """Takes a batch from the chain.

        Raises:
            TopologyError: this is a back edge, and its loop is over.
        """
        if self.is_over:
            raise TopologyError(
                "records were sent round a loop that is over",
                hint="what comes at the end of input, in `finish` or from an aggregate, must lead out of the loop",
            )
        for target, records in self._partition(batch):
            self.targets[target].add(records, self._limit)
        self.gathering = True

    def write_watermark(self, time_ms: int) -> None:
        """Takes a watermark from the chain. It goes out with the records gathered before it: a later one replaces
        it until then, since a watermark may be late but never early."""
        self._write_time(Watermark(time_ms, self._watermark.idle))

    def write_idle(self, idle: bool) -> None:
        """Takes from the chain that it doesn't hold back time, or that it does again: that goes ahead of the records
        which follow, since other inputs must not move the readers' time past them any more."""
        self._write_time(Watermark(self._watermark.time_ms, idle))
        if not idle:
            self.flush()

    def _write_time(self, watermark: Watermark) -> None:
        if self.is_feedback:
            return  # a head's event time is that of its forward inputs
        self._watermark = watermark
        for target in self.targets:
            target.watermark = watermark
        self.gathering = True

    def write_marker(self, marker: LatencyMarker) -> None:
        """Takes a latency marker, which waits like a record that came now."""
        if self.in_loop:
            return  # it would go round for ever
        for target in self.targets:
            target.marker = marker
        self.gathering = True

    def flush(self) -> None:
        """Makes everything gathered ready to go."""
        for target in self.targets:
            target.flush()
        self.gathering = False

    def restore(self, target: int | None, elements: Iterable[Element]) -> None:
        """Takes what was in flight in a snapshot: to a target, or (None) to those that the edge's rule chooses now."""
        for element in elements:
            if target is not None:
                self.targets[target].ready.append(element)
            elif isinstance(element, BATCHES):
                self.write(element)


class Outputs:
    """All out-edges of a subtask.

    Records are gathered until a batch is full, `buffer_timeout_s` has passed, or a control element follows;
    edges inside a loop are flushed whenever the subtask runs out of input, so that a turn of the loop
    never waits for a clock.
    """

    def __init__(
        self, edges: Sequence[EdgeOutput], wakeup: Wakeup, services: Services, buffer_timeout_s: float
    ) -> None:
        self.edges = edges
        self.waited_s = 0.0
        """Seconds spent waiting for credit."""
        self._waiting_since: float | None = None
        self.on_wake: Callable[[], bool] = lambda: True
        """Called before each wait for credit, and when one is interrupted; false gives up what is still to be sent."""
        self.is_full: Callable[[], bool] = lambda: False
        """Whether a sink of the same subtask must get rid of something before the stream goes on."""
        self._targets = [target for edge in edges for target in edge.targets]
        self._wakeup = wakeup
        self._clock = services.clock
        self._timeout_s = buffer_timeout_s
        self.deadline: float | None = None

    def settle(self) -> None:
        """After a batch went through the chain: starts or meets the buffer time-out."""
        if self.deadline is None:
            if any(edge.gathering for edge in self.edges):
                if self._timeout_s <= 0:
                    self.flush()
                else:
                    self.deadline = self._clock.monotonic() + self._timeout_s
        elif self._clock.monotonic() >= self.deadline:
            self.flush()

    def write_marker(self, marker: LatencyMarker) -> None:
        """Sends a latency marker behind what has been gathered."""
        for edge in self.edges:
            edge.write_marker(marker)

    def flush(self) -> None:
        """Makes everything gathered ready to go."""
        for edge in self.edges:
            edge.flush()
        self.deadline = None

    def end_feedback(self) -> None:
        """The loop is over: nothing may be sent back any more."""
        for edge in self.edges:
            edge.is_over = edge.is_feedback

    def flush_loop(self) -> None:
        """The same for the edges inside a loop."""
        for edge in self.edges:
            if edge.in_loop:
                edge.flush()

    @property
    def loop_edges_empty(self) -> bool:
        """Whether nothing waits to be sent inside the loop."""
        return not any(target.parts or target.ready for edge in self.edges if edge.in_loop for target in edge.targets)

    async def drain(self) -> bool:
        """Sends all that is ready, waiting for credit where there is none, and for sinks that are full: this is
        backpressure. False if it was given up before."""
        while not self._send_ready() or self.is_full():
            if not self.on_wake():  # asked before the wait too: who has given up may try again, and nobody wakes it
                return False
            self._waiting_since = started = self._clock.monotonic()
            await self._wakeup.wait()
            self._waiting_since = None
            self.waited_s += self._clock.monotonic() - started
        return True

    def waited_until(self, now: float) -> float:
        """Seconds spent waiting for credit, up to `now` of the monotonic clock."""
        return self.waited_s + (now - self._waiting_since if self._waiting_since is not None else 0.0)

    async def send_all(self, element: Element) -> None:
        """Sends a control element on every channel, behind everything written before."""
        self.flush()
        await self.drain()
        for target in self._targets:
            target.channel.send(element)

    def send_ahead(self, barrier: Barrier) -> list[tuple[int, int, Target]]:
        """Sends what credit allows, then the barrier, ahead of all that still waits.

        Returns:
            Whom it has overtaken: (edge, target of the edge, what waits for it).
        """
        self.flush()
        self._send_ready()
        for target in self._targets:
            target.channel.send(barrier)
        return [
            (number, position, target)
            for number, edge in enumerate(self.edges)
            for position, target in enumerate(edge.targets)
            if target.ready
        ]

    def loop_batches_sent(self) -> int:
        """Batches sent inside the loop in this attempt."""
        return sum(target.channel.sent for edge in self.edges if edge.in_loop for target in edge.targets)

    def _send_ready(self) -> bool:
        done = True
        for target in self._targets:
            ready, channel = target.ready, target.channel
            while ready and (channel.credits > 0 or isinstance(ready[0], Watermark | LatencyMarker)):
                element = ready.popleft()
                if target.recording is not None:
                    target.recording.taken(element)
                channel.send(element)
            if ready:
                done = False
        return done
