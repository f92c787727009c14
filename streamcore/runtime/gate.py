"""The input gate: which channel a subtask reads next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamcore.batch import same_form
from streamcore.runtime.alignment import Alignment
from streamcore.runtime.channel import InputChannel, Mark
from streamcore.runtime.elements import BATCHES, Element
from streamcore.runtime.services import Services

_FEEDBACK_BURST = 8


class Gate:
    """Reads the input channels of one subtask in turn, feedback first, held channels not at all; before all else what
    was in flight in a snapshot. `marks`: barriers and ends that have arrived, (channel, which), for the subtask to see.

    While feedback is deeper than `feedback_limit` records, no forward channel is read, so that the records
    in flight in a loop stay bounded; feedback that is held doesn't count, since it can't be worked off. Below
    that, one forward element follows every few feedback ones: barriers get through a loop that never rests.
    """

    def __init__(
        self, channels: Sequence[InputChannel], services: Services, feedback_limit: int, batch_size: int
    ) -> None:
        self.channels = channels
        self.alignment = Alignment(
            forward=[c.number for c in channels if not c.feedback], feedback=[c.number for c in channels if c.feedback]
        )
        self._services = services
        self._feedback_limit = feedback_limit
        self._batch_size = batch_size
        self._turn = 0
        self._burst = 0
        self._restored: list[InputChannel] = []
        self.marks: list[tuple[int, Mark]] = []
        for channel in channels:
            channel.marks = self.marks
        self.refresh()

    def restore(self, number: int, elements: Iterable[Element]) -> None:
        """Puts what was in flight on a channel in front of everything that arrives."""
        channel = self.channels[number]
        channel.restore(elements)
        if channel.restored and channel not in self._restored:
            self._restored.append(channel)

    def refresh(self) -> None:
        """To be called when the alignment has moved: finds the channels that may be read."""
        readable = [c for c in self.channels if not self.alignment.holds(c.number)]
        self._forward = [c for c in readable if not c.feedback]
        self._feedback = [c for c in readable if c.feedback]

    def poll(self) -> list[tuple[InputChannel, Element]]:
        """What to process next: one control element, or batches of one form for one port; empty when there is
        nothing to read now.

        Small batches that wait are taken together, up to `batch_size` records, so that the cost of a batch is
        paid less often just when there is much to do.
        """
        if self._restored:
            return self._gather_restored()
        self._turn += 1
        if self._waits(self._feedback):
            depth = sum(c.queued_records for c in self._feedback)
            if self._burst < _FEEDBACK_BURST or self._is_too_deep(depth) or not self._waits(self._forward):
                self._burst += 1
                return self._gather(self._feedback)
        self._burst = 0
        return self._gather(self._forward)

    def _is_too_deep(self, depth: int) -> bool:
        """Not while a checkpoint is on its way: its barriers wait behind at most a few batches of each channel."""
        return depth >= self._feedback_limit and self.alignment.current is None

    def _gather(self, channels: list[InputChannel]) -> list[tuple[InputChannel, Element]]:
        taken: list[tuple[InputChannel, Element]] = []
        records, count = 0, len(channels)
        start = self._services.first_channel(count, self._turn) if count else 0
        for offset in range(count):
            channel = channels[(start + offset) % count]
            while channel.queue and records < self._batch_size:
                if taken:
                    first_channel, first = taken[0]
                    follower = channel.peek()
                    if first_channel.port != channel.port or not same_form(first, follower):
                        break
                element = channel.take()
                taken.append((channel, element))
                if not isinstance(element, BATCHES):
                    return taken
                records += len(element)
        return taken

    def _gather_restored(self) -> list[tuple[InputChannel, Element]]:
        channel = self._restored[0]
        taken: list[tuple[InputChannel, Element]] = []
        records = 0
        while channel.restored and records < self._batch_size:
            if taken and not same_form(taken[0][1], channel.peek()):
                break
            element = channel.take()
            taken.append((channel, element))
            if not isinstance(element, BATCHES):
                break
            records += len(element)
        if not channel.restored:
            self._restored.remove(channel)
        return taken

    @staticmethod
    def _waits(channels: list[InputChannel]) -> bool:
        return any(channel.queue for channel in channels)

    @property
    def has_input(self) -> bool:
        """Whether there is something to read now."""
        return self._waits(self._feedback) or self._waits(self._forward)

    @property
    def loop_inputs_empty(self) -> bool:
        """Whether nothing from inside the loop waits here but barriers. Those don't count: where checkpoints follow
        each other closely there is always one in flight, and the loop would never be over."""
        return not any(c.has_more_than_barriers for c in self.channels if c.from_loop)

    @property
    def outside_ended(self) -> bool:
        """Whether every input from outside of the loop has ended."""
        return all(self.alignment.has_ended(c.number) for c in self.channels if not c.from_loop)
