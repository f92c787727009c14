"""What can be asked of a running job from other threads: its status, values of its state, savepoints, a stop.

Everything that touches the job goes through the coordinator's queue; what blocks - directories, checkpoints' files -
happens in the thread that asks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal, TypeVar

import msgspec

from streamcore.batch.json_values import encode_json
from streamcore.errors import (
    DamagedCheckpointError,
    JobUnavailableError,
    SavepointError,
    UnknownStateError,
    UsageError,
)
from streamcore.job.checkpoint_values import CheckpointValues
from streamcore.job.config import StopMode
from streamcore.job.coordinator import Coordinator
from streamcore.job.events import StopRequest
from streamcore.job.queries import QueryRequest
from streamcore.job.savepoints import SavepointRequest
from streamcore.kernels.hashing import hash_key
from streamcore.runtime.messages import Restore
from streamcore.runtime.services import Services
from streamcore.runtime.spec import JobSpec, VertexSpec

T = TypeVar("T")

Consistency = Literal["live", "checkpoint"]
"""`live`: as the subtask that has the key finds it between two batches. `checkpoint`: as of the last complete one."""

_GRACE_S = 5.0
_MISSING = object()

logger = logging.getLogger("streamcore.job")


class JobInfo(msgspec.Struct, frozen=True):
    """A job as it stands; `JobStatus` has the meaning of the fields.

    Attributes:
        state: `starting`, `deploying`, `running`, `restarting` or `ended`.
        last_checkpoint: where the last complete one is, or the one that the job was restored from.
        operators: uid → the operator's name.
    """

    job: str
    pid: int
    state: str
    epoch: int
    restarts: int
    records_read: int
    checkpoints: int
    checkpoint_failures: int
    last_checkpoint: str | None
    savepoints: int
    last_savepoint: str | None
    operators: dict[str, str]


class StateValue(msgspec.Struct, frozen=True):
    """The answer to a question for a value.

    Attributes:
        found: whether there is anything for the key; a state's default is not.
        value: JSON.
        checkpoint: the checkpoint that the value is of; None: it is live.
    """

    found: bool
    value: msgspec.Raw
    checkpoint: int | None


class JobControl:
    """A running job as seen from other threads than the event loop's, whose calls would wait for themselves."""

    def __init__(self, coordinator: Coordinator, services: Services, loop: asyncio.AbstractEventLoop) -> None:
        self._coordinator = coordinator
        self._job: JobSpec = coordinator.status.job
        self._services = services
        self._loop = loop
        self._values = CheckpointValues(services.open_storage, allow_pickle=self._job.settings.allow_pickle)
        self._vertices = {spec.uid: vertex for vertex in self._job.vertices for spec in vertex.operators}

    @property
    def job(self) -> str:
        """The job's name."""
        return self._job.name

    @property
    def checkpoint_url(self) -> str | None:
        """Where it keeps its checkpoints."""
        return self._coordinator.checkpoint_url

    def status(self) -> JobInfo:
        """How the job stands.

        Raises:
            JobUnavailableError: it has ended.
        """
        return self._in_loop(self._status)

    def stop(self, mode: StopMode) -> None:
        """Asks the job to end, as by SIGTERM.

        Raises:
            JobUnavailableError: it has ended.
        """
        self._in_loop(lambda: self._coordinator.request(StopRequest(mode)))

    def savepoint(self, directory: str | None, *, stop: bool, timeout_s: float) -> SavepointRequest:
        """Asks for a savepoint in a new directory below `directory`; `finish_savepoint` must be called with it.

        Args:
            directory: None: `savepoints` in the job's checkpoint directory.

        Raises:
            UsageError: there is no checkpoint directory either.
            SavepointError: it can't be written there.
            JobUnavailableError: the job has ended.
        """
        if directory is None:
            if self._coordinator.checkpoint_url is None:
                raise UsageError(
                    f"job {self._job.name!r} has no checkpoint directory to put a savepoint in",
                    hint="say where it is to go: --dir DIR",
                )
            directory = f"{self._coordinator.checkpoint_url.rstrip('/')}/savepoints"
        now = self._services.clock.now_ms() // 1000
        name = f"{re.sub(r'[^A-Za-z0-9.-]+', '_', self._job.name)}-{now}-{secrets.token_hex(3)}"
        request = SavepointRequest(
            self._services.open_storage(f"{directory.rstrip('/')}/{name}"), stop=stop, timeout_s=timeout_s
        )
        request.reserve(self._job.name)
        try:
            self._in_loop(lambda: self._coordinator.request(request))
        except JobUnavailableError:
            self._discard(request)
            raise
        return request

    def finish_savepoint(self, request: SavepointRequest, progress: Callable[[], None], every_s: float) -> str:
        """Waits until a savepoint is complete, calling `progress` from time to time; returns where it is.

        Raises:
            SavepointError: it has failed.
        """
        while True:
            try:
                request.outcome.result(every_s)
            except TimeoutError:
                progress()
            except SavepointError:
                if request.state == "failed":
                    self._discard(request)
                raise
            else:
                return request.url

    def states(self, uid: str, timeout_s: float) -> bytes:
        """The states of an operator, as JSON: name → kind.

        Raises:
            UnknownStateError: there is no such operator.
            JobUnavailableError: there is no answer in time.
        """
        vertex = self._vertex(uid)
        states = self._ask(QueryRequest((vertex.id, 0), uid, None, None, timeout_s))
        assert states is not None, "a list of states is never absent"
        return states

    def value(self, uid: str, name: str, key: Any, consistency: Consistency, timeout_s: float) -> StateValue:
        """What an operator's state has for a key.

        Raises:
            UnknownStateError: there is no such operator, or it has no such state.
            UsageError: a key without a stable hash; a job without checkpoints; table state asked for live.
            JobUnavailableError: there is no answer in time, or no checkpoint yet.
            CheckpointError: the checkpoint can't be read.
        """
        vertex = self._vertex(uid)
        if consistency == "checkpoint":
            return self._value_in_checkpoint(uid, name, key)
        group = hash_key(key) % vertex.max_parallelism
        subtask = vertex.id, group * vertex.parallelism // vertex.max_parallelism
        value = self._ask(QueryRequest(subtask, uid, name, key, timeout_s))
        return StateValue(value is not None, msgspec.Raw(value or b"null"), None)

    def _value_in_checkpoint(self, uid: str, name: str, key: Any) -> StateValue:
        restore = self._newest()
        while True:
            try:
                value = self._values.lookup(restore, uid, name, key, _MISSING)
            except DamagedCheckpointError:
                newer = self._newest()
                if newer.manifest.checkpoint_id == restore.manifest.checkpoint_id:
                    raise
                restore = newer  # it was deleted while it was read, since there is a newer one
            else:
                found = value is not _MISSING
                raw = encode_json(value) if found else b"null"
                return StateValue(found, msgspec.Raw(raw), restore.manifest.checkpoint_id)

    def _newest(self) -> Restore:
        newest = self._coordinator.newest
        if newest is not None:
            return newest
        if self._coordinator.checkpoint_url is None:
            raise UsageError(
                f"job {self._job.name!r} takes no checkpoints", hint="ask for what is there now: consistency=live"
            )
        raise JobUnavailableError("no checkpoint is complete yet", hint="ask again, or for what is there now")

    def _vertex(self, uid: str) -> VertexSpec:
        if uid not in self._vertices:
            known = ", ".join(repr(other) for other in sorted(self._vertices))
            raise UnknownStateError(f"there is no operator {uid!r}", hint=f"there are: {known}")
        return self._vertices[uid]

    def _ask(self, request: QueryRequest) -> bytes | None:
        self._in_loop(lambda: self._coordinator.request(request))
        try:
            return request.outcome.result(request.timeout_s + _GRACE_S)
        except TimeoutError:
            raise JobUnavailableError(f"no answer within {request.timeout_s:g} s: the coordinator is busy") from None

    def _status(self) -> JobInfo:
        status, coordinator = self._coordinator.status, self._coordinator
        return JobInfo(
            job=self._job.name,
            pid=os.getpid(),
            state=status.state,
            epoch=status.epoch,
            restarts=status.restarts,
            records_read=status.records_read,
            checkpoints=status.checkpoints,
            checkpoint_failures=status.checkpoint_failures,
            last_checkpoint=coordinator.path_of_newest,
            savepoints=status.savepoints,
            last_savepoint=status.last_savepoint,
            operators={spec.uid: spec.name for vertex in self._job.vertices for spec in vertex.operators},
        )

    def _in_loop(self, call: Callable[[], T]) -> T:
        """Runs something short in the thread of the event loop."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it is raised where the call was made
                done.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(run)
            return done.result(_GRACE_S)
        except (RuntimeError, TimeoutError) as error:
            raise JobUnavailableError(f"job {self._job.name!r} doesn't answer: it is ending, or busy") from error

    def _discard(self, request: SavepointRequest) -> None:
        try:
            request.discard()
        except OSError as error:
            logger.warning("what there is of %s can't be deleted: %s", request.url, error)
