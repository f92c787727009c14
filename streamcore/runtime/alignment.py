"""Alignment: when a subtask takes its snapshot, which channels wait, and which records in flight are part of it.

Pure decisions, no I/O. Asynchronous barrier snapshots (Carbone et al. 2015) on graphs with back edges, with the two
corrections that parallel loop heads need; unaligned, they are the snapshots of Chandy and Lamport (1985), which allow
any graph and any number of subtasks that begin at the same time.

Words: a barrier *arrives* when it is put into a channel's queue, and it is *marked* when its turn has come, so that
all before it has been processed. A channel is *recorded*: the elements that wait in it up to the barrier, and those
that arrive until the barrier does, are part of the snapshot; they are processed as usual all the same.

==========================  ===================================================================================
event                       effect
==========================  ===================================================================================
barrier n is marked         n begins if it is newer than all before; then the channel is *held* until the capture:
                            nothing behind the barrier is read (a feedback channel too: its sender may have passed
                            the barrier before our own forward inputs did). At least once: nothing is held
barrier n arrives           if it is unaligned, n begins and is unaligned; otherwise it waits for its turn. If n has
                            been captured, the channel's recording ends here
trigger n                   what a marked barrier is to others: for sources, and for subtasks whose forward inputs have
                            all ended and so get no barrier
trigger n, unaligned        what an unaligned barrier that arrives is to others, for every subtask. The second trigger
                            of n, if n was begun aligned: its time is up
end of input                arrived: ends a recording. Marked: counts as a barrier for this and every later checkpoint
n is unaligned              CAPTURE, OVERTAKING, at the next moment between two batches: the barrier goes out ahead of
                            what waits in the outputs, which is part of the snapshot
n is not, and all forward   CAPTURE, once the outputs have sent all that was written before; if n becomes unaligned
channels are marked         while they wait for credit, overtaking after all
at either capture           every channel that is not marked is recorded (aligned: these are feedback channels)
captured, and the barrier   COMPLETE: state, recordings and what was overtaken are the subtask's part of the snapshot
has arrived everywhere
barrier or trigger m > n    n can't complete any more: what was recorded for it is dropped, m begins
barrier or trigger m < n    late, ignored
abort n                     the recordings are dropped, held channels are read again
==========================  ===================================================================================

Why this is right: each channel is cut where its barrier is in it. What is before the cut has been processed before the
capture, or is recorded; what is behind is not processed before the capture, unless at least once was asked for, and
the sender's restored state will make it again. What a barrier overtook is behind it in the channel, so the receiver
doesn't record it: the sender does. A back edge has no bound and nothing ever waits in front of it, so its
records are in the receiver's recording only, which is the log of the published algorithm: saved once.

A head never waits for a feedback barrier before it captures: that would deadlock. Nor does it wait for any barrier
when it is unaligned.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamcore.runtime.elements import Mode

_ENDED = 1 << 63
"""In the place of a barrier's number: no barrier will come any more."""


class Alignment:
    """The state machine of one subtask. Channels are known by number. Tell it what happened, then do what is due."""

    def __init__(self, forward: Iterable[int], feedback: Iterable[int]) -> None:
        self._forward = frozenset(forward)
        self._feedback = frozenset(feedback)
        self._all = self._forward | self._feedback
        self._ended: set[int] = set()
        self._marked: set[int] = set()
        self._arrived: dict[int, int] = {}
        self._current: int | None = None
        self._mode = Mode.ALIGNED
        self._captured = False
        self._newest = 0

    # --- what happened -------------------------------------------------------------------------------------

    def arrives(self, channel: int, checkpoint_id: int, mode: Mode = Mode.ALIGNED) -> None:
        """A barrier has been put into a channel's queue."""
        if channel not in self._ended:
            self._arrived[channel] = max(self._arrived.get(channel, 0), checkpoint_id)
            if mode is Mode.UNALIGNED:
                self._begin(checkpoint_id, mode)

    def end_arrives(self, channel: int) -> None:
        """The end of input has been put into a channel's queue."""
        self._arrived[channel] = _ENDED

    def barrier(self, channel: int, checkpoint_id: int, mode: Mode = Mode.ALIGNED) -> None:
        """A barrier's turn has come: all that was before it in the channel has been processed."""
        self._arrived[channel] = max(self._arrived.get(channel, 0), checkpoint_id)
        if self._begin(checkpoint_id, mode):
            self._marked.add(channel)

    def trigger(self, checkpoint_id: int, mode: Mode = Mode.ALIGNED) -> None:
        """The coordinator asks for a snapshot."""
        self._begin(checkpoint_id, mode)

    def end(self, channel: int) -> None:
        """A channel has ended: all that was in it has been processed."""
        self._ended.add(channel)

    def abort(self, checkpoint_id: int) -> None:
        """The checkpoint won't be completed."""
        self._newest = max(self._newest, checkpoint_id)
        if self._current is not None and self._current <= checkpoint_id:
            self._reset()

    def captured(self) -> list[int]:
        """The capture that was due has been made; returns the channels to record from now."""
        assert self.capture_due is not None, "captured although nothing was due"
        self._captured = True
        return sorted(self._all - self._marked - self._ended)

    def completed(self) -> None:
        """The checkpoint has been completed here."""
        self._reset()

    # --- what is due ---------------------------------------------------------------------------------------

    @property
    def capture_due(self) -> int | None:
        """The checkpoint whose state is to be captured now."""
        if self._current is None or self._captured:
            return None
        ready = self._mode is Mode.UNALIGNED or self._forward <= self._marked | self._ended
        return self._current if ready else None

    @property
    def complete_due(self) -> int | None:
        """The checkpoint that has been captured, and for which nothing more is to be recorded."""
        if self._current is None or not self._captured:
            return None
        return self._current if all(map(self.has_arrived, self._all)) else None

    @property
    def mode(self) -> Mode:
        """The mode of the checkpoint in the works."""
        return self._mode

    @property
    def overtakes(self) -> bool:
        """Whether the barrier of the checkpoint in the works goes ahead of what waits in the outputs."""
        return self._current is not None and self._mode is Mode.UNALIGNED

    def has_arrived(self, channel: int) -> bool:
        """Whether the barrier of the checkpoint in the works is in the channel or was, or none will come."""
        assert self._current is not None, "no checkpoint whose barrier could arrive"
        return channel in self._ended or self._arrived.get(channel, 0) >= self._current

    def holds(self, channel: int) -> bool:
        """Whether the channel must not be read now."""
        return (
            self._current is not None
            and not self._captured
            and self._mode is not Mode.AT_LEAST_ONCE
            and channel in self._marked
        )

    # --- how the subtask stands ----------------------------------------------------------------------------

    @property
    def forward_ended(self) -> bool:
        """Whether every forward input has ended."""
        return self._forward <= self._ended

    @property
    def all_ended(self) -> bool:
        """Whether every input has ended."""
        return self._all <= self._ended

    @property
    def current(self) -> int | None:
        """The checkpoint in the works, if any."""
        return self._current

    def has_ended(self, channel: int) -> bool:
        """Whether the channel has ended."""
        return channel in self._ended

    def _begin(self, checkpoint_id: int, mode: Mode) -> bool:
        if checkpoint_id == self._current:
            if mode is Mode.UNALIGNED:
                self._mode = mode
            return True
        if checkpoint_id <= self._newest:
            return False
        self._reset()
        self._current = self._newest = checkpoint_id
        self._mode = mode
        return True

    def _reset(self) -> None:
        self._current = None
        self._captured = False
        self._marked.clear()
