"""Recordings: the elements in flight on one channel that belong to a snapshot, saved without stopping the stream.

A recording begins with what waits in a queue and, on an input, goes on with what arrives until the barrier does. An
element is saved at the latest when it is taken from the queue, since operators may change its records from then on, and
earlier when there is time between two batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from streamcore.batch import Batch
from streamcore.checkpoint.in_flight import WATERMARK, InFlight, SavedChannel, SavedElement
from streamcore.errors import StateCodecError
from streamcore.runtime.elements import BATCHES, Barrier, Element, EndOfInput, Watermark
from streamcore.time import Clock

Encode = Callable[[Batch], tuple[int, bytes]]


class Recording:
    """One channel's. `waiting`: its queue from the front, None for an element that lies on disk: such a one is saved
    when it is taken. Nothing from the barrier on is recorded."""

    __slots__ = ("_ahead", "_checkpoint_id", "_encode", "_error", "_pending", "_saved", "_settled", "is_open")

    def __init__(
        self, checkpoint_id: int, waiting: Iterable[Element | None], encode: Encode, *, is_open: bool = False
    ) -> None:
        self._checkpoint_id = checkpoint_id
        self._encode = encode
        self._saved: list[SavedElement] = []
        self._pending: deque[Element | None] = deque()
        self._ahead = 0  # elements that are saved and still in the queue
        self._error: Exception | None = None
        self._settled = asyncio.Event()
        self.is_open = is_open
        for element in waiting:
            if element is not None and self._ends_at(element):
                self.is_open = False
                break
            self._pending.append(element)

    def arrives(self, element: Element) -> None:
        """An element has been put into the queue."""
        if self.is_open:
            if self._ends_at(element):
                self.close()
            else:
                self._pending.append(element)

    def taken(self, element: Element) -> None:
        """The first element has been taken from the queue, and nothing has been done with it yet."""
        if self._ahead:
            self._ahead -= 1
        elif self._pending:
            lay_on_disk = self._pending.popleft() is None
            if lay_on_disk and self._ends_at(element):
                self.give_up()  # of what is behind it
            else:
                self._save(element)
            if not self._pending:
                self._settled.set()

    def close(self) -> None:
        """Nothing more arrives that belongs to the snapshot."""
        self.is_open = False
        self._settled.set()

    def give_up(self) -> None:
        """What has not been saved yet isn't wanted any more."""
        self._pending.clear()
        self.close()

    async def saved(self, take_turns: Callable[[], Awaitable[None]]) -> list[SavedElement]:
        """All of it, once it is closed; `take_turns` lets others run between two elements.

        Raises:
            StateCodecError: a record has no plain form.
        """
        while self.is_open or self._pending:
            if self._pending and (element := self._pending[0]) is not None:
                self._pending.popleft()
                self._ahead += 1
                self._save(element)
                await take_turns()
            else:
                self._settled.clear()
                await self._settled.wait()
        if self._error is not None:
            raise self._error
        return self._saved

    def _ends_at(self, element: Element) -> bool:
        return isinstance(element, EndOfInput) or (
            isinstance(element, Barrier) and element.checkpoint_id >= self._checkpoint_id
        )

    def _save(self, element: Element) -> None:
        """Latency markers and barriers of checkpoints that were given up mean nothing to who restores this."""
        if isinstance(element, Watermark):
            self._saved.append((WATERMARK, element.time_ms, element.idle))
        elif isinstance(element, BATCHES) and self._error is None:
            try:
                self._saved.append(self._encode(element))
            except Exception as error:  # noqa: BLE001 - told by `saved`: the checkpoint fails, not the stream
                self._error = error


@dataclass(frozen=True, slots=True)
class RecordedChannel:
    """A recording and what it is of, named as in `SavedChannel`. `detach` stops telling the recording what is taken."""

    edge: str
    peer: int
    peers: int
    recording: Recording
    detach: Callable[[], None]


@dataclass(slots=True)
class Recordings:
    """All that was in flight at one subtask for one checkpoint."""

    inputs: list[RecordedChannel] = field(default_factory=list)
    outputs: list[RecordedChannel] = field(default_factory=list)
    given_up: bool = False

    async def saved(self, clock: Clock, turn_s: float) -> InFlight | None:
        """What was in flight, saved for at most `turn_s` seconds at a time; None: it was given up.

        Raises:
            StateCodecError: a record has no plain form.
        """
        started = clock.monotonic()

        async def take_turns() -> None:
            nonlocal started
            if clock.monotonic() - started >= turn_s:
                await asyncio.sleep(0)
                started = clock.monotonic()

        try:
            inputs = [await _saved(channel, take_turns) for channel in self.inputs]
            outputs = [await _saved(channel, take_turns) for channel in self.outputs]
        finally:
            self.detach()
        if self.given_up:
            return None
        return InFlight([c for c in inputs if c.elements], [c for c in outputs if c.elements])

    def give_up(self) -> None:
        """The checkpoint won't be completed."""
        self.given_up = True
        self.detach()
        for channel in (*self.inputs, *self.outputs):
            channel.recording.give_up()

    def detach(self) -> None:
        """Ends all recordings."""
        for channel in (*self.inputs, *self.outputs):
            channel.detach()


async def _saved(channel: RecordedChannel, take_turns: Callable[[], Awaitable[None]]) -> SavedChannel:
    try:
        elements = await channel.recording.saved(take_turns)
    except StateCodecError as error:
        message = f"a record in flight on {channel.edge} can't be saved: {error.message}"
        raise StateCodecError(message, hint=error.hint) from error
    return SavedChannel(channel.edge, channel.peer, channel.peers, elements)
