"""Savepoints that somebody has asked for: who asks follows them from any thread, the coordinator takes them."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from streamcore.checkpoint import savepoint
from streamcore.checkpoint.log import Entry
from streamcore.checkpoint.storage import Storage
from streamcore.errors import SavepointError
from streamcore.runtime.elements import Savepoint

State = Literal["waiting", "running", "complete", "failed"]


@dataclass(slots=True, eq=False)
class SavepointRequest:
    """One savepoint. The fields change while it is taken; each may be read at any time.

    Attributes:
        storage: its own place, which nothing else is in.
        stop: the job ends with it.
        timeout_s: how long it may take in all, the time in which it waits for its turn included.
        state: `waiting` for its turn, `running`, `complete` or `failed`.
        written, parts: how many of how many subtasks have written their part.
        outcome: the manifest when it is complete, or why it isn't: a `SavepointError`.
    """

    storage: Storage
    stop: bool = False
    timeout_s: float = 600.0
    state: State = "waiting"
    written: int = 0
    parts: int = 0
    outcome: Future[Entry] = field(default_factory=Future)

    @property
    def url(self) -> str:
        """Where it goes; `--restore` takes it when it is complete."""
        return self.storage.url

    @property
    def target(self) -> Savepoint:
        """What the subtasks are told."""
        return Savepoint(self.url, self.stop)

    @property
    def is_over(self) -> bool:
        """Whether it is complete or has failed."""
        return self.state in ("complete", "failed")

    def reserve(self, job: str) -> None:
        """Takes the directory; blocking. Before the coordinator is asked.

        Raises:
            SavepointError: something is there already, or it can't be written.
        """
        savepoint.reserve(self.storage, job)

    def write(self, manifest: Entry, kept_in: Storage | None) -> None:
        """Completes it once all parts have been written; blocking.

        Args:
            kept_in: the job's checkpoint directory, where those wrote their parts that had ended before.

        Raises:
            CheckpointError, OSError: it can't be completed.
        """
        savepoint.complete(self.storage, manifest, kept_in)

    def succeed(self, manifest: Entry) -> None:
        """It is complete."""
        self.state = "complete"
        self.outcome.set_result(manifest)

    def end(self, manifest: Entry, error: BaseException | None) -> None:
        """The job that it was to end has ended: by itself, or by an error after the savepoint was complete."""
        if error is None:
            self.succeed(manifest)
            return
        self.state = "complete"
        self.outcome.set_exception(
            SavepointError(
                f"the savepoint {self.url} is complete, but the job failed before all output was committed: {error}",
                hint=f"restore from it, which commits: --restore {self.url}",
            )
        )

    def fail(self, reason: str) -> None:
        """It can't be taken. Who asked is to call `discard`."""
        self.state = "failed"
        self.outcome.set_exception(SavepointError(f"no savepoint in {self.url}: {reason}"))

    def discard(self) -> None:
        """Deletes what was written of it; blocking. After it has failed.

        Raises:
            OSError: the storage doesn't do it; what is left is never taken for a savepoint.
        """
        savepoint.discard(self.storage)


@dataclass(frozen=True, slots=True)
class SavepointExpired:
    """A savepoint has had all its time."""

    request: SavepointRequest
