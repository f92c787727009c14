"""When a loop is over: Mattern's four counters (1987), as pure decisions.

Two waves go over the loop's subtasks; each replies with the batches it has sent and received inside the loop.
The loop is over if the total received of the first wave equals the total sent of the second, every reply of
both was passive (nothing queued, buffered, logged for replay, or waiting for a timer), and all inputs from
outside had ended before the first. Each wave that fails serves as the first of the next pair.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

Subtask = tuple[int, int]


@dataclass(slots=True)
class _Wave:
    number: int
    sent: int = 0
    received: int = 0
    passive: bool = True
    replied: set[Subtask] = field(default_factory=set)


class LoopTermination:
    """The detector of one loop in one attempt."""

    def __init__(self, members: Iterable[Subtask]) -> None:
        self._members = frozenset(members)
        self._outside_ended: set[Subtask] = set()
        self._before: _Wave | None = None
        self._wave: _Wave | None = None
        self._number = 0
        self.is_over = False

    def outside_ended(self, subtask: Subtask) -> bool:
        """A member's inputs from outside have all ended; true when it was the last: start the first wave."""
        if subtask in self._outside_ended:
            return False
        self._outside_ended.add(subtask)
        return self._outside_ended == self._members

    def start_wave(self) -> int:
        """Begins a wave and returns its number."""
        self._number += 1
        self._wave = _Wave(self._number)
        return self._number

    def reply(self, number: int, subtask: Subtask, sent: int, received: int, *, passive: bool) -> bool:
        """A member's reply; true when the wave has come back from all. Then look at `is_over`."""
        wave = self._wave
        if wave is None or number != wave.number or subtask in wave.replied:
            return False
        wave.replied.add(subtask)
        wave.sent += sent
        wave.received += received
        wave.passive = wave.passive and passive
        if wave.replied != self._members:
            return False
        first = self._before
        self.is_over = first is not None and first.passive and wave.passive and first.received == wave.sent
        self._before, self._wave = wave, None
        return True
