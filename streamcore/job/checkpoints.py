"""The coordinator's checkpoint directory: what to restore, taking over from the run before, manifests, retention.

The decisions are in `checkpoint.log`; here they meet storage and time. When a checkpoint is taken: `job.rounds`.
"""

from __future__ import annotations

import logging

from streamcore.checkpoint.choice import check_files, find, older_whole, path_of, split_path
from streamcore.checkpoint.log import CheckpointLog, Entry, SubtaskEntry
from streamcore.checkpoint.savepoint import is_savepoint
from streamcore.checkpoint.storage import Storage
from streamcore.errors import DamagedCheckpointError, FencedError, MachineError, UsageError
from streamcore.job.config import Checkpointing
from streamcore.runtime.compatibility import check_compatible, operator_entries
from streamcore.runtime.messages import Restore
from streamcore.runtime.restore import check_endings
from streamcore.runtime.services import Services
from streamcore.runtime.spec import JobSpec

RUN_EPOCHS = 1 << 16
"""Epochs per run: run r uses r * RUN_EPOCHS + 1, + 2, …, so that no two runs of a job share one."""

logger = logging.getLogger("streamcore.job")


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, job: JobSpec, config: Checkpointing, services: Services, *, allow_dropped: bool = False) -> None:
        self.config = config
        self._allow_dropped = allow_dropped
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
        self.newest = None
        if restore is None:
            return
        url, number = split_path(self._storage.url if restore == "latest" else restore)
        try:
            storage, manifest = self._find(restore)
            self.newest = Restore(url, manifest, self._allow_dropped)
            check_compatible(self._job, self.newest)
            check_files(storage, manifest)  # a damaged one is named now, not by a subtask
            check_endings(self.newest, storage, self._job)
        except DamagedCheckpointError as error:
            damaged = self.newest.manifest if self.newest is not None else None
            self.newest = self._instead(error, url, damaged, allowed=self.config.fallback and number is None)

    async def fall_back(self, error: DamagedCheckpointError) -> None:
        """The newest checkpoint has turned out to be damaged: goes on from the next older whole one, if it may.

        Raises:
            DamagedCheckpointError: it may not, or there is none; the error that was given.
        """
        newest, allowed = self.newest, self.config.fallback
        assert newest is not None, "nothing was restored that could be damaged"
        self.newest = await self._services.in_background(
            lambda: self._instead(error, newest.storage_url, newest.manifest, allowed=allowed)
        )

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
                self._storage.clean_up()
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
        return None if self.newest is None else path_of(self.newest.storage_url, self.newest.manifest)

    def _find(self, restore: str) -> tuple[Storage, Entry]:
        if restore == "latest":
            return self._storage, self._log.latest()
        return find(restore, self._services.open_storage)

    def _instead(self, error: DamagedCheckpointError, url: str, damaged: Entry | None, *, allowed: bool) -> Restore:
        """What to go on from where a checkpoint, or the manifest that says which, is damaged."""
        older = older_whole(CheckpointLog(self._services.open_storage(url)), damaged)
        if older is None:
            error.hint = "there is no older one that is whole; start again without --restore"
            raise error
        instead = Restore(url, older, self._allow_dropped)
        check_compatible(self._job, instead)
        check_endings(instead, self._services.open_storage(url), self._job)
        path = path_of(url, older)
        if not allowed:
            error.hint = (
                f"the next older one is whole: --restore {path}; what was written to sinks after it is written again"
            )
            raise error
        logger.warning(
            "%s; going on from %s instead, the next older one that is whole: what was written to sinks after it is "
            "written again",
            error.message, path,
            extra={"job": self._job.name, "checkpoint": older.checkpoint_id},
        )  # fmt: skip
        return instead

    def _is_own(self, restore: Restore) -> bool:
        return self._services.open_storage(restore.storage_url).identity == self._storage.identity


def make_manifest(
    job: JobSpec, *, run: int, epoch: int, checkpoint_id: int, created_ms: int, parts: list[SubtaskEntry]
) -> Entry:
    """The manifest of a checkpoint or savepoint that has these parts."""
    operators = operator_entries(job)
    return Entry("checkpoint", job.name, run, epoch, checkpoint_id, created_ms, operators=operators, subtasks=parts)
