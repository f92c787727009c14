"""Alignment: when a subtask takes its snapshot, which channels wait meanwhile, and what is logged.

Pure decisions, no I/O. Asynchronous barrier snapshots (Carbone et al. 2015) on graphs with back edges, with
the two corrections that parallel loop heads need:

========================  =====================================================================
event                     effect
========================  =====================================================================
barrier n on a channel    the channel is *marked*; until the snapshot is taken it is *held*:
                          nothing behind the barrier is read (a feedback channel too: its sender
                          may have passed the barrier before our own forward inputs did)
trigger n                 what a barrier is to others: for sources, and for subtasks whose
                          forward inputs have all ended and so get no barrier
end of input              counts as marked for this and every later checkpoint
all *forward* channels    CAPTURE: state is captured, the barrier goes out, all channels are read
marked or ended           again; unmarked feedback channels are *logged* from here
all channels marked       LOG COMPLETE: state and log are the subtask's part of the snapshot
barrier or trigger m > n  n can't complete any more: its log is dropped, m begins
barrier m < n             late, ignored
abort n                   the log is dropped, held channels are read again
========================  =====================================================================

A head never waits for a feedback barrier before it captures: that would deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now, in this order: capture and send the barrier; close the log."""

    capture: int | None = None
    log_complete: int | None = None


NOTHING = Step()


class Alignment:
    """The state machine of one subtask. Channels are known by number."""

    def __init__(self, forward: Iterable[int], feedback: Iterable[int]) -> None:
        self._forward = frozenset(forward)
        self._feedback = frozenset(feedback)
        self._ended: set[int] = set()
        self._marked: set[int] = set()
        self._current: int | None = None
        self._captured = False
        self._newest = 0

    @property
    def forward_ended(self) -> bool:
        """Whether every forward input has ended."""
        return self._forward <= self._ended

    @property
    def all_ended(self) -> bool:
        """Whether every input has ended."""
        return self.forward_ended and self._feedback <= self._ended

    @property
    def current(self) -> int | None:
        """The checkpoint in the works, if any."""
        return self._current

    def has_ended(self, channel: int) -> bool:
        """Whether the channel has ended."""
        return channel in self._ended

    def barrier(self, channel: int, checkpoint_id: int) -> Step:
        """A barrier has come on a channel."""
        if not self._begin(checkpoint_id):
            return NOTHING
        self._marked.add(channel)
        return self._advance()

    def trigger(self, checkpoint_id: int) -> Step:
        """The coordinator asks for a snapshot."""
        return self._advance() if self._begin(checkpoint_id) else NOTHING

    def end(self, channel: int) -> Step:
        """A channel has ended."""
        self._ended.add(channel)
        return self._advance() if self._current is not None else NOTHING

    def abort(self, checkpoint_id: int) -> None:
        """The checkpoint won't be completed."""
        self._newest = max(self._newest, checkpoint_id)
        if self._current is not None and self._current <= checkpoint_id:
            self._reset()

    def holds(self, channel: int) -> bool:
        """Whether the channel must not be read now."""
        return self._current is not None and not self._captured and channel in self._marked

    def logs(self, channel: int) -> bool:
        """Whether records from the channel belong to the snapshot as records in flight."""
        return (
            self._current is not None
            and self._captured
            and channel in self._feedback
            and channel not in self._marked
            and channel not in self._ended
        )

    def _begin(self, checkpoint_id: int) -> bool:
        if self._current is not None and checkpoint_id == self._current:
            return True
        if checkpoint_id <= self._newest:
            return False
        self._reset()
        self._current = self._newest = checkpoint_id
        return True

    def _advance(self) -> Step:
        assert self._current is not None, "no checkpoint to advance"
        checkpoint_id, capture = self._current, None
        done = self._marked | self._ended
        if not self._captured and self._forward <= done:
            self._captured = True
            capture = checkpoint_id
        if self._captured and self._feedback <= done:
            self._reset()
            return Step(capture, checkpoint_id)
        return Step(capture) if capture is not None else NOTHING

    def _reset(self) -> None:
        self._current = None
        self._captured = False
        self._marked.clear()
