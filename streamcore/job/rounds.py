"""The rounds of snapshots: when one is begun, what becomes of it, and the last one that ends a job.

One snapshot is taken at a time. `Checkpoints` knows what is pending and writes manifests; here is decided what to
begin and what to tell the workers::

    interval --> Trigger --> every subtask has acknowledged --> manifest --> Complete --> retention
                         \\-> declined or timed out -----------> Abort
    stop     --> Trigger(pause) --> ... --> manifest --> Complete(final): commit and close
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from streamcore.errors import CheckpointError, StreamcoreError
from streamcore.job.checkpoints import Checkpoints
from streamcore.job.events import AttemptFailedError, Tick, TickKind
from streamcore.runtime.messages import Abort, Acknowledge, Complete, Decline, Finished, Subtask, ToWorker, Trigger
from streamcore.runtime.spec import JobSpec

CLOSE_TIMEOUT_S = 60.0

logger = logging.getLogger("streamcore.job")


class TickLater(Protocol):
    """Sets a moment for the attempt that runs."""

    def __call__(self, kind: TickKind, delay_s: float, number: int = 0) -> None: ...


class SnapshotRounds:
    """The snapshots of one attempt after the other, each begun, completed or given up here."""

    def __init__(
        self,
        job: JobSpec,
        checkpoints: Checkpoints | None,
        broadcast: Callable[[ToWorker], None],
        tick_later: TickLater,
    ) -> None:
        self._job = job
        self._checkpoints = checkpoints
        self._broadcast = broadcast
        self._tick_later = tick_later
        self._epoch = 0
        self._unfinished: set[Subtask] = set()
        self._stopping = False
        self._stopping_id: int | None = None

    def begin_attempt(self, epoch: int) -> None:
        """Forgets what was pending in the attempt before."""
        self._epoch = epoch
        self._unfinished = set(self._job.subtasks())
        self._stopping, self._stopping_id = False, None
        if self._checkpoints is not None:
            self._checkpoints.begin_attempt(epoch)

    def start(self) -> None:
        """The attempt runs: sets the moment of its first checkpoint."""
        if self._checkpoints is not None:
            self._tick_later("checkpoint", self._checkpoints.config.interval)

    def on_interval(self) -> None:
        """It is time for a checkpoint, unless one is pending."""
        checkpoints = self._checkpoints
        if checkpoints is None:
            return
        self._tick_later("checkpoint", checkpoints.config.interval)
        if checkpoints.pending is None and not checkpoints.all_finished and self._stopping_id is None:
            self._begin_checkpoint()

    def on_timeout(self, tick: Tick) -> None:
        """A snapshot has had all its time."""
        checkpoints = self._checkpoints
        if checkpoints is not None and checkpoints.pending == tick.number:
            waiting = ", ".join(self._job.name_of(subtask) for subtask in checkpoints.missing()[:5])
            self._abort_checkpoint(
                tick.number, f"not complete after {checkpoints.config.timeout:g} s; waiting for {waiting}"
            )

    def begin_last(self) -> bool:
        """Stops the job at a last checkpoint: now, or when the pending one is over. False: it takes no checkpoints."""
        if self._checkpoints is None:
            return False
        self._stopping = True
        self._begin_last_checkpoint()
        return True

    async def acknowledge(self, ack: Acknowledge) -> None:
        """A subtask has written its part."""
        if self._checkpoints is not None and self._checkpoints.acknowledge(ack):
            await self._complete_checkpoint()

    def decline(self, decline: Decline) -> None:
        """A subtask couldn't write its part."""
        self._abort_checkpoint(decline.checkpoint_id, decline.reason)

    async def finish(self, finished: Finished) -> None:
        """A subtask has finished; after the last one, what the sinks prepared at their end becomes visible."""
        self._unfinished.discard(finished.subtask)
        checkpoints = self._checkpoints
        if checkpoints is None:
            if not self._unfinished:
                self._broadcast(Complete(self._epoch, 1 << 62, final=True))
            return
        if checkpoints.finish(finished):
            await self._complete_checkpoint()
        if checkpoints.all_finished:
            self._stopping_id = checkpoints.begin()
            await self._complete_checkpoint()

    def _begin_checkpoint(self, *, pause: bool = False) -> int:
        checkpoints = self._checkpoints
        assert checkpoints is not None, "no checkpointing"
        checkpoint_id = checkpoints.begin()
        self._broadcast(Trigger(self._epoch, checkpoint_id, pause))
        self._tick_later("timeout", checkpoints.config.timeout, checkpoint_id)
        return checkpoint_id

    async def _complete_checkpoint(self) -> None:
        checkpoints = self._checkpoints
        assert checkpoints is not None, "no checkpointing"
        try:
            checkpoint_id = await checkpoints.complete()
        except (CheckpointError, OSError) as error:
            raise AttemptFailedError(_as_ours(error)) from error
        final = checkpoint_id == self._stopping_id
        self._broadcast(Complete(self._epoch, checkpoint_id, final))
        if final:
            self._tick_later("close", CLOSE_TIMEOUT_S)
        try:
            await checkpoints.retain()
        except OSError as error:
            logger.warning("old checkpoints can't be deleted: %s", error, extra={"job": self._job.name})
        if self._stopping:
            self._begin_last_checkpoint()

    def _abort_checkpoint(self, checkpoint_id: int, reason: str) -> None:
        checkpoints = self._checkpoints
        if checkpoints is None:
            return
        tolerated = checkpoints.abort(checkpoint_id, reason)
        self._broadcast(Abort(self._epoch, checkpoint_id))
        if not tolerated or checkpoint_id == self._stopping_id:
            raise AttemptFailedError(CheckpointError(f"checkpoint {checkpoint_id} failed: {reason}"))
        if self._stopping:
            self._begin_last_checkpoint()

    def _begin_last_checkpoint(self) -> None:
        """Unless one is pending: then when that is over."""
        checkpoints = self._checkpoints
        assert checkpoints is not None, "no checkpointing"
        if checkpoints.pending is None and self._stopping_id is None and not checkpoints.all_finished:
            self._stopping_id = self._begin_checkpoint(pause=True)


def _as_ours(error: Exception) -> StreamcoreError:
    return error if isinstance(error, StreamcoreError) else CheckpointError(f"a checkpoint can't be written: {error}")
