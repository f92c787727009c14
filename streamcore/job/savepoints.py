"""Savepoints that somebody has asked for: who asks follows them from any thread, the coordinator takes them."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from streamcore.checkpoint import savepoint
from streamcore.checkpoint.log import Entry
from streamcore.checkpoint.storage import Storage
from streamcore.errors import SavepointError, StreamcoreError
from streamcore.job.status import JobStatus
from streamcore.runtime.elements import Savepoint
from streamcore.runtime.services import Services

logger = logging.getLogger("streamcore.job")

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


class Savepoints:
    """The savepoints of one job that are waiting for their turn, or for the checkpoint that has to follow them.

    Args:
        kept_in: the job's checkpoint directory.
    """

    def __init__(self, status: JobStatus, services: Services, kept_in: Storage | None) -> None:
        self._status = status
        self._services = services
        self._kept_in = kept_in
        self._waiting: deque[SavepointRequest] = deque()
        self._held: tuple[SavepointRequest, Entry] | None = None

    def add(self, request: SavepointRequest) -> None:
        """Somebody asks for one."""
        self._waiting.append(request)

    def next(self) -> SavepointRequest | None:
        """The one whose turn has come, if any."""
        return self._waiting.popleft() if self._waiting and self._held is None else None

    async def complete(self, request: SavepointRequest, manifest: Entry) -> str | None:
        """Writes its manifest; why it can't be, if it can't."""
        try:
            await self._services.in_background(lambda: request.write(manifest, self._kept_in))
        except (StreamcoreError, OSError) as error:
            return f"it can't be completed: {error}"
        self._status.savepoints += 1
        self._status.last_savepoint = request.url
        logger.info(
            "savepoint complete: %s, %d bytes", request.url, manifest.size_bytes,
            extra={"job": manifest.job, "checkpoint": manifest.checkpoint_id},
        )  # fmt: skip
        return None

    def hold(self, request: SavepointRequest, manifest: Entry) -> None:
        """Its parts are there; it is to be completed when a checkpoint has followed."""
        self._held = request, manifest

    async def release(self) -> None:
        """A checkpoint has followed."""
        held, self._held = self._held, None
        if held is not None:
            request, manifest = held
            reason = await self.complete(request, manifest)
            if reason is None:
                request.succeed(manifest)
            else:
                self.refuse(request, reason)

    def expire(self, request: SavepointRequest) -> None:
        """One that is not being taken has had all its time."""
        if self._held is not None and self._held[0] is request:
            self.drop_held(f"no checkpoint could follow it within {request.timeout_s:g} s")
        elif request in self._waiting:
            self._waiting.remove(request)
            self.refuse(request, f"its turn did not come within {request.timeout_s:g} s")

    def drop_held(self, reason: str) -> None:
        """No checkpoint will follow the one that waits for it, if there is one."""
        held, self._held = self._held, None
        if held is not None:
            self.refuse(held[0], reason)

    def refuse_all(self, reason: str) -> None:
        """None will have its turn."""
        while self._waiting:
            self.refuse(self._waiting.popleft(), reason)

    def refuse(self, request: SavepointRequest, reason: str) -> None:
        """It has failed, which is all that happens: the job goes on."""
        logger.warning("savepoint failed: %s: %s", request.url, reason, extra={"job": self._status.job.name})
        request.fail(reason)
