"""The input gate: which channel a subtask reads next."""

from __future__ import annotations

from collections.abc import Sequence

from streamcore.runtime.alignment import Alignment
from streamcore.runtime.channel import InputChannel
from streamcore.runtime.elements import Element
from streamcore.runtime.services import Services

_FEEDBACK_BURST = 8


class Gate:
    """Reads the input channels of one subtask in turn, feedback first, held channels not at all.

    While feedback is deeper than `feedback_limit` records, no forward channel is read, so that the records
    in flight in a loop stay bounded; feedback that is held doesn't count, since it can't be worked off. Below
    that, one forward element follows every few feedback ones: barriers get through a loop that never rests.
    """

    def __init__(self, channels: Sequence[InputChannel], services: Services, feedback_limit: int) -> None:
        self.channels = channels
        self.alignment = Alignment(
            forward=[c.number for c in channels if not c.feedback], feedback=[c.number for c in channels if c.feedback]
        )
        self._services = services
        self._feedback_limit = feedback_limit
        self._turn = 0
        self._burst = 0
        self.refresh()

    def refresh(self) -> None:
        """To be called when the alignment has moved: finds the channels that may be read."""
        readable = [c for c in self.channels if not self.alignment.holds(c.number)]
        self._forward = [c for c in readable if not c.feedback]
        self._feedback = [c for c in readable if c.feedback]

    def poll(self) -> tuple[InputChannel, Element] | None:
        """The next element and the channel it came on; None when there is nothing to read now."""
        self._turn += 1
        if self._feedback:
            depth = sum(c.queued_records for c in self._feedback)
            waiting = self._first(self._feedback)
            if waiting is not None and (self._burst < _FEEDBACK_BURST or depth >= self._feedback_limit):
                self._burst += 1
                return waiting, waiting.take()
            self._burst = 0
            chosen = self._first(self._forward) or waiting
        else:
            chosen = self._first(self._forward)
        return (chosen, chosen.take()) if chosen is not None else None

    @property
    def loop_inputs_empty(self) -> bool:
        """Whether nothing from inside the loop waits here."""
        return not any(c.queue for c in self.channels if c.from_loop)

    @property
    def outside_ended(self) -> bool:
        """Whether every input from outside of the loop has ended."""
        return all(self.alignment.has_ended(c.number) for c in self.channels if not c.from_loop)

    def _first(self, channels: list[InputChannel]) -> InputChannel | None:
        count = len(channels)
        if count == 0:
            return None
        start = self._services.first_channel(count, self._turn)
        for offset in range(count):
            channel = channels[(start + offset) % count]
            if channel.queue:
                return channel
        return None
