"""The coordinator's checkpoints: what to restore, when to trigger, when one is complete.

The decisions are in `checkpoint.ledger` and `checkpoint.log`; here they meet storage and time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import PurePosixPath

from streamcore.checkpoint.ledger import Ledger
from streamcore.checkpoint.log import CheckpointLog, Entry, OperatorEntry, SubtaskEntry, directory_of
from streamcore.checkpoint.storage import Storage, open_storage
from streamcore.errors import DamagedCheckpointError, FencedError, MachineError, NoCheckpointError
from streamcore.job.config import Checkpointing
from streamcore.job.status import CheckpointStats, JobStatus
from streamcore.runtime.messages import Acknowledge, Finished, Restore, Subtask
from streamcore.runtime.restore import check_compatible
from streamcore.runtime.services import Services
from streamcore.runtime.spec import JobSpec

RUN_EPOCHS = 1 << 16
"""Epochs per run: run r uses r * RUN_EPOCHS + 1, + 2, …, so that no two runs of a job share one."""

logger = logging.getLogger("streamcore.job")


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, job: JobSpec, config: Checkpointing, services: Services, status: JobStatus) -> None:
        self.config = config
        self._job = job
        self._services = services
        self._status = status
        self._storage = services.open_storage(config.url)
        self._log = CheckpointLog(self._storage)
        self._run = 0
        self._next_id = 1
        self._ledger = Ledger([], 0)
        self._begun_s = 0.0
        self._alignment_s = 0.0
        self._pause_s = 0.0
        self._in_flight_bytes = 0
        self._failures_in_row = 0
        self.newest: Restore | None = None

    def find(self, restore: str | None) -> None:
        """Finds what to start from, and changes nothing.

        Raises:
            NoCheckpointError, DamagedCheckpointError, IncompatibleSnapshotError: nothing fit to restore.
            MachineError: the directory can't be written.
        """
        self._storage.check_writable()
        self.newest = self._find(restore) if restore else None
        if self.newest is not None:
            check_compatible(self._job, self.newest)
            self._check_files(self.newest)  # a damaged one is named now, not by a subtask

    def take_over(self, restore: str | None) -> int:
        """Fences off every run before; returns the first epoch.

        Raises:
            CheckpointError: as `find`, where a run before has gone on meanwhile.
            MachineError: the directory can't be written.
        """
        while True:
            self._run = self._log.last_run + 1
            base = self.newest.manifest.checkpoint_id if self.newest is not None and self._is_own(self.newest) else 0
            try:
                self._append("fence", self._run * RUN_EPOCHS, base, [])
            except FencedError:  # the run before was still writing: look again
                if restore is None:
                    raise  # what a run afresh had made sure of, such as that there is no output yet, may not be so now
                self._log.refresh()
                self.find(restore)
                continue
            except OSError as error:
                raise MachineError(f"the start can't be written to {self._storage.url}: {error.strerror}") from error
            self._next_id = self._log.last_checkpoint_id + 1
            return self._run * RUN_EPOCHS + 1

    def begin_attempt(self, epoch: int) -> None:
        """Forgets what was pending in the attempt before."""
        self._ledger = Ledger(self._job.subtasks(), epoch)
        self._failures_in_row = 0

    @property
    def pending(self) -> int | None:
        """The checkpoint that is being taken."""
        return self._ledger.pending

    @property
    def all_finished(self) -> bool:
        """Whether every subtask has finished."""
        return self._ledger.all_finished

    def begin(self) -> int:
        """Starts a checkpoint and returns its id."""
        checkpoint_id, self._next_id = self._next_id, self._next_id + 1
        self._ledger.begin(checkpoint_id)
        self._begun_s = self._services.clock.monotonic()
        self._alignment_s = self._pause_s = 0.0
        self._in_flight_bytes = 0
        return checkpoint_id

    def acknowledge(self, ack: Acknowledge) -> bool:
        """A subtask's part is written; true if the pending checkpoint is complete now."""
        if ack.checkpoint_id == self.pending:
            self._alignment_s = max(self._alignment_s, ack.alignment_s)
            self._pause_s = max(self._pause_s, ack.pause_s)
            self._in_flight_bytes += ack.in_flight_bytes
        return self._ledger.acknowledge(ack.epoch, ack.checkpoint_id, ack.subtask, ack.entry)

    def finish(self, finished: Finished) -> bool:
        """A subtask has finished; true if the pending checkpoint is complete now."""
        return self._ledger.finish(finished.epoch, finished.subtask, finished.entry, finished.captured)

    async def complete(self) -> int:
        """Writes the manifest of the pending checkpoint; only then is it complete.

        Raises:
            FencedError: another run of the job has taken over.
        """
        checkpoint_id = self.pending
        assert checkpoint_id is not None, "no checkpoint is pending"
        parts = self._ledger.complete()
        entry = await self._services.in_background(
            lambda: self._append("checkpoint", self._ledger.epoch, checkpoint_id, parts)
        )
        self.newest = Restore(self._storage.url, entry)
        self._failures_in_row = 0
        stats = CheckpointStats(
            checkpoint_id,
            self._services.clock.monotonic() - self._begun_s,
            entry.size_bytes,
            self._alignment_s,
            self._pause_s,
            self._in_flight_bytes,
        )
        self._status.checkpoints += 1
        self._status.last_checkpoint = stats
        logger.info(
            "checkpoint complete: %.0f ms, %d bytes, %d of them in flight, alignment %.0f ms, pause %.1f ms",
            stats.duration_s * 1e3, stats.size_bytes, stats.in_flight_bytes, stats.alignment_s * 1e3,
            stats.pause_s * 1e3,
            extra={"job": self._job.name, "checkpoint": checkpoint_id},
        )  # fmt: skip
        return checkpoint_id

    async def retain(self) -> None:
        """Deletes checkpoints that are no longer kept."""
        await self._services.in_background(lambda: self._log.retain(self.config.retain, self._ledger.epoch))

    def abort(self, checkpoint_id: int, reason: str) -> bool:
        """Gives up the pending checkpoint; false when more have failed in a row than are tolerated."""
        if not self._ledger.abort(checkpoint_id):
            return True
        self._status.checkpoint_failures += 1
        self._failures_in_row += 1
        logger.warning("checkpoint failed: %s", reason, extra={"job": self._job.name, "checkpoint": checkpoint_id})
        return self._failures_in_row <= self.config.tolerable_failures

    def missing(self) -> list[Subtask]:
        """The subtasks that the pending checkpoint waits for."""
        return self._ledger.missing()

    def path_of_newest(self) -> str | None:
        """Where the newest complete checkpoint is, as `--restore` takes it."""
        if self.newest is None:
            return None
        return f"{self.newest.storage_url.rstrip('/')}/{directory_of(self.newest.manifest.checkpoint_id)}"

    def _find(self, restore: str) -> Restore:
        if restore == "latest":
            return Restore(self._storage.url, latest_of(self._log))
        return find_checkpoint(restore, self._services.open_storage)

    def _check_files(self, restore: Restore) -> None:
        storage = self._services.open_storage(restore.storage_url)
        try:
            check_files(storage, restore.manifest)
        except DamagedCheckpointError as error:
            error.hint = _offer(CheckpointLog(storage), restore.manifest)
            raise

    def _is_own(self, restore: Restore) -> bool:
        return self._services.open_storage(restore.storage_url).identity == self._storage.identity

    def _append(self, kind: str, epoch: int, checkpoint_id: int, parts: list[SubtaskEntry]) -> Entry:
        operators = {
            spec.uid: OperatorEntry(spec.name, vertex.parallelism, vertex.max_parallelism)
            for vertex in self._job.vertices
            for spec in vertex.saved_operators
        }
        entry = Entry(
            kind="checkpoint" if kind == "checkpoint" else "fence",
            job=self._job.name,
            run=self._run,
            epoch=epoch,
            checkpoint_id=checkpoint_id,
            created_ms=self._services.clock.now_ms(),
            operators=operators if kind == "checkpoint" else {},
            subtasks=parts,
        )
        self._log.append(entry)
        return entry


def find_checkpoint(path: str, open_storage: Callable[[str], Storage] = open_storage) -> Restore:
    """The checkpoint at a checkpoint's directory, or the latest of a checkpoint directory.

    Raises:
        NoCheckpointError: there is none.
    """
    parent, _, name = path.rstrip("/").rpartition("/")
    number = PurePosixPath(name).name.removeprefix("chk-")
    if name.startswith("chk-") and number.isdigit():
        log = CheckpointLog(open_storage(parent or "."))
        return Restore(parent or ".", log.find(int(number)))
    log = CheckpointLog(open_storage(path))
    if log.is_empty:
        raise NoCheckpointError(
            f"there is no checkpoint in {path}", hint="give --restore latest, or a directory DIR/chk-NNNNNNNN"
        )
    return Restore(path, latest_of(log))


def latest_of(log: CheckpointLog) -> Entry:
    """The checkpoint that the log's newest run would go on from.

    Raises:
        NoCheckpointError: there is none.
        DamagedCheckpointError: its manifest is damaged; the hint offers an older one.
    """
    try:
        return log.latest()
    except DamagedCheckpointError as error:
        error.hint = _offer(log, None)
        raise


def check_files(storage: Storage, manifest: Entry) -> None:
    """Reads every file of a checkpoint.

    Raises:
        DamagedCheckpointError: one is missing, or not what was written.
    """
    for file in {file.path: file for subtask in manifest.subtasks for file in subtask.files}.values():
        storage.get(file)


def _offer(log: CheckpointLog, damaged: Entry | None) -> str:
    """The hint that names the newest whole checkpoint from before a damaged one."""
    older = [entry for entry in log.checkpoints() if damaged is None or entry.checkpoint_id < damaged.checkpoint_id]
    for entry in reversed(older):
        try:
            check_files(log.storage, entry)
        except DamagedCheckpointError:
            continue
        path = f"{log.storage.url.rstrip('/')}/{directory_of(entry.checkpoint_id)}"
        return f"the next older one is whole: --restore {path}; what was written to sinks after it is written again"
    return "there is no older one that is whole; start again without --restore"
