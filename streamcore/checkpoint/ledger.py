"""The coordinator's side of the checkpoint protocol, as pure decisions.

::

    (none) --begin--> PENDING --every subtask has acknowledged or finished--> COMPLETE (caller writes the manifest)
                         \\--a subtask declined, time-out, attempt over------> (none), an aborted checkpoint

One checkpoint is pending at a time. A subtask that has finished leaves its last snapshot, which stands for it
in every checkpoint that it has not captured before its end: the pending one too, unless its barrier had gone out - then
the snapshot is of a later moment than that barrier, and only the acknowledgement counts. Acknowledgements of another
epoch or checkpoint are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamcore.checkpoint.log import SubtaskEntry

Subtask = tuple[int, int]


class Ledger:
    """What one attempt knows of its checkpoints."""

    def __init__(self, subtasks: Iterable[Subtask], epoch: int) -> None:
        self.epoch = epoch
        self._subtasks = frozenset(subtasks)
        self._finished: dict[Subtask, SubtaskEntry | None] = {}
        self._captured: dict[Subtask, int] = {}
        self._acks: dict[Subtask, SubtaskEntry] = {}
        self.pending: int | None = None

    @property
    def all_finished(self) -> bool:
        """Whether every subtask has finished."""
        return len(self._finished) == len(self._subtasks)

    def begin(self, checkpoint_id: int) -> None:
        """Starts a checkpoint."""
        assert self.pending is None, f"checkpoint {self.pending} is still pending"
        self.pending = checkpoint_id
        self._acks = {}

    def acknowledge(self, epoch: int, checkpoint_id: int, subtask: Subtask, entry: SubtaskEntry) -> bool:
        """A subtask has written its part; true if that completes the checkpoint."""
        if epoch != self.epoch or checkpoint_id != self.pending or subtask not in self._subtasks:
            return False
        self._acks[subtask] = entry
        return self._is_complete()

    def finish(self, epoch: int, subtask: Subtask, entry: SubtaskEntry | None, captured: int = 0) -> bool:
        """A subtask has finished (`entry`: its last snapshot, None without storage; `captured`: the last checkpoint
        that it has sent a barrier for); true if that completes the pending checkpoint."""
        if epoch != self.epoch or subtask not in self._subtasks:
            return False
        self._finished[subtask] = entry
        self._captured[subtask] = captured
        return self.pending is not None and self._is_complete()

    def abort(self, checkpoint_id: int) -> bool:
        """Gives the checkpoint up; false if it isn't the pending one."""
        if checkpoint_id != self.pending:
            return False
        self.pending = None
        return True

    def complete(self) -> list[SubtaskEntry]:
        """Ends the pending checkpoint, which every subtask is part of, and returns the parts."""
        assert self.pending is not None, "no checkpoint is pending"
        assert self._is_complete(), f"checkpoint {self.pending} lacks parts"
        self.pending = None
        parts = {**{k: v for k, v in self._finished.items() if v is not None}, **self._acks}
        return [parts[subtask] for subtask in sorted(parts)]

    def lost(self) -> list[Subtask]:
        """The subtasks that have finished without leaving a snapshot, and were no part of the last one before."""
        return sorted(k for k, entry in self._finished.items() if entry is None and k not in self._acks)

    def missing(self) -> list[Subtask]:
        """The subtasks that the pending checkpoint still waits for."""
        pending = self.pending or 0
        finished = {subtask for subtask, captured in self._captured.items() if captured < pending}
        return sorted(self._subtasks - self._acks.keys() - finished)

    def _is_complete(self) -> bool:
        return not self.missing()
