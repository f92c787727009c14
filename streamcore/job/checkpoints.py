"""The coordinator's checkpoint directory: what to restore, taking over from the run before, manifests, retention.

The decisions are in `checkpoint.log`; here they meet storage and time. When a checkpoint is taken: `job.rounds`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import PurePosixPath

from streamcore.checkpoint.log import CheckpointLog, Entry, OperatorEntry, SubtaskEntry, directory_of
from streamcore.checkpoint.savepoint import is_savepoint
from streamcore.checkpoint.storage import Storage, open_storage
from streamcore.errors import DamagedCheckpointError, FencedError, MachineError, NoCheckpointError, UsageError
from streamcore.job.config import Checkpointing
from streamcore.runtime.messages import Restore
from streamcore.runtime.restore import check_compatible
from streamcore.runtime.services import Services
from streamcore.runtime.spec import JobSpec

RUN_EPOCHS = 1 << 16
"""Epochs per run: run r uses r * RUN_EPOCHS + 1, + 2, …, so that no two runs of a job share one."""

logger = logging.getLogger("streamcore.job")


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, job: JobSpec, config: Checkpointing, services: Services) -> None:
        self.config = config
        self._job = job
        self._services = services
        self._storage = services.open_storage(config.url)
        self._log = CheckpointLog(self._storage)
        self._run = 0
        self._next_id = 1
        self._failures_in_row = 0
        self.newest: Restore | None = None

    def find(self, restore: str | None) -> None:
        """Finds what to start from, and changes nothing.

        Raises:
            NoCheckpointError, DamagedCheckpointError, IncompatibleSnapshotError: nothing fit to restore.
            MachineError: the directory can't be written.
            UsageError: it is a savepoint.
        """
        if is_savepoint(self._storage):
            raise UsageError(
                f"{self._storage.url} is a savepoint: a job that took its checkpoints there would delete it",
                hint="give --checkpoint-dir another directory, and --restore this one",
            )
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
            # what a snapshot from another directory prepared must not look like the work of a later attempt
            before = self.newest.manifest.run if self.newest is not None else 0
            self._run = max(self._log.last_run, before) + 1
            base = self.newest.manifest.checkpoint_id if self.newest is not None and self._is_own(self.newest) else 0
            try:
                created_ms = self._services.clock.now_ms()
                self._log.append(Entry("fence", self._job.name, self._run, self._run * RUN_EPOCHS, base, created_ms))
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

    def next_id(self) -> int:
        """A number for the next checkpoint or savepoint, which share one sequence."""
        checkpoint_id, self._next_id = self._next_id, self._next_id + 1
        return checkpoint_id

    @property
    def storage(self) -> Storage:
        """Where the subtasks write."""
        return self._storage

    @property
    def run(self) -> int:
        """The number of this run."""
        return self._run

    async def write(self, manifest: Entry) -> None:
        """Writes a manifest; only then is the checkpoint complete.

        Raises:
            FencedError: another run of the job has taken over.
        """
        await self._services.in_background(lambda: self._log.append(manifest))
        self.newest = Restore(self._storage.url, manifest)
        self._failures_in_row = 0

    async def retain(self, epoch: int) -> None:
        """Deletes checkpoints that are no longer kept, and what attempts before `epoch` left."""
        await self._services.in_background(lambda: self._log.retain(self.config.retain, epoch))

    def begin_attempt(self) -> None:
        """Failures are counted in each attempt anew."""
        self._failures_in_row = 0

    def count_failure(self) -> bool:
        """A checkpoint has failed; false when more have failed in a row than are tolerated."""
        self._failures_in_row += 1
        return self._failures_in_row <= self.config.tolerable_failures

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


def make_manifest(
    job: JobSpec, *, run: int, epoch: int, checkpoint_id: int, created_ms: int, parts: list[SubtaskEntry]
) -> Entry:
    """The manifest of a checkpoint or savepoint that has these parts."""
    operators = {
        spec.uid: OperatorEntry(spec.name, vertex.parallelism, vertex.max_parallelism)
        for vertex in job.vertices
        for spec in vertex.saved_operators
    }
    return Entry("checkpoint", job.name, run, epoch, checkpoint_id, created_ms, operators=operators, subtasks=parts)


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
    if log.is_empty and is_savepoint(log.storage):
        raise NoCheckpointError(
            f"the savepoint in {path} was never completed", hint="take one again, or restore from a checkpoint"
        )
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
