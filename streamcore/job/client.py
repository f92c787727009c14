"""Asks a running job of this machine: `connect("NAME")`."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from streamcore.batch.json_values import decode_json, encode_json
from streamcore.errors import (
    CheckpointError,
    DamagedCheckpointError,
    JobUnavailableError,
    MachineError,
    SavepointError,
    StateCodecError,
    StreamcoreError,
    UnknownJobError,
    UnknownStateError,
    UsageError,
)
from streamcore.job.config import StopMode
from streamcore.job.control import Consistency, JobInfo, StateValue
from streamcore.job.registry import JobEntry, find_job, is_running, socket_path

Progress = Callable[[str, int, int], None]
"""Told of a savepoint, from time to time: its state (`waiting` or `running`), and how many of how many subtasks have
written their part."""

_ANSWER_TIMEOUT_S = 30.0
_KINDS: dict[str, type[StreamcoreError]] = {
    kind.__name__: kind
    for kind in (
        CheckpointError,
        DamagedCheckpointError,
        JobUnavailableError,
        MachineError,
        SavepointError,
        StateCodecError,
        UnknownStateError,
        UsageError,
    )
}
_LOOK_INTERVAL_S = 0.05


class JobClient:
    """A running job, as a client sees it. Get one from `connect`.

    Example:
        >>> import streamcore
        >>> client = streamcore.connect("counts")              # doctest: +SKIP
        >>> client.state("counts", "count", "alice")           # doctest: +SKIP
        7
        >>> client.savepoint("/var/savepoints", stop=True)     # doctest: +SKIP
        '/var/savepoints/counts-1767225600-3fa9c1'
    """

    def __init__(self, entry: JobEntry) -> None:
        self.entry = entry
        self._socket = socket_path(entry)

    @property
    def job(self) -> str:
        """The job's name."""
        return self.entry.job

    @property
    def pid(self) -> int:
        """The process that runs it."""
        return self.entry.pid

    def status(self) -> JobInfo:
        """How the job stands.

        Raises:
            JobUnavailableError: it has ended, or doesn't answer.
        """
        return msgspec.json.decode(self._get("/status"), type=JobInfo)

    def operators(self) -> dict[str, str]:
        """The job's operators: uid → name.

        Raises:
            JobUnavailableError: it has ended, or doesn't answer.
        """
        return msgspec.json.decode(self._get("/state"), type=dict[str, str])

    def states(self, uid: str, *, timeout: float = 10.0) -> dict[str, str]:
        """The keyed states of an operator: name → `value`, `list`, `map`, `columnar` or `table`.

        Raises:
            UnknownStateError: there is no such operator.
            JobUnavailableError: the job has ended, or doesn't answer within `timeout` seconds.
        """
        path = f"/state/{quote(uid, safe='')}?{urlencode({'timeout': timeout})}"
        return msgspec.json.decode(self._get(path, timeout), type=dict[str, str])

    def state(
        self,
        uid: str,
        name: str,
        key: Any,
        default: Any = None,
        *,
        consistency: Consistency = "checkpoint",
        timeout: float = 10.0,
    ) -> Any:
        """What an operator's state has for a key; `default` if there is nothing.

        Args:
            uid: of the operator; see `operators`.
            name: of the state; see `states`.
            key: a number, text, bytes, a date, a UUID, or a tuple of these.
            consistency: `checkpoint`: as of the last complete checkpoint. `live`: as it is now, between two batches;
                it may be gone after a restart.
            timeout: seconds; while the job restarts, a live question waits so long.

        Returns:
            The value as it comes through JSON (`streamcore.batch.json_values`): a list for a tuple, a dictionary for
            a record. Columnar state: field → value; table state (windows, for one): a list of rows.

        Raises:
            UnknownStateError: there is no such operator, or it has no such state.
            JobUnavailableError: the job has ended, doesn't answer in time, or has no checkpoint yet.
            UsageError: the state can't be asked so; see the hint.
        """
        answer = self.ask(uid, name, key, consistency=consistency, timeout=timeout)
        return decode_json(bytes(answer.value)) if answer.found else default

    def ask(
        self, uid: str, name: str, key: Any, *, consistency: Consistency = "checkpoint", timeout: float = 10.0
    ) -> StateValue:
        """As `state`, with the answer as it came: whether there is a value, its JSON, and the checkpoint it is of.

        Raises:
            UnknownStateError, JobUnavailableError, UsageError: as `state`.
        """
        place = f"/state/{quote(uid, safe='')}/{quote(name, safe='')}"
        query = urlencode({"key": encode_json(key), "consistency": consistency, "timeout": timeout})
        return msgspec.json.decode(self._get(f"{place}?{query}", timeout), type=StateValue)

    def savepoint(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        stop: bool = False,
        timeout: float = 600.0,
        progress: Progress | None = None,
    ) -> str:
        """Takes a savepoint and returns its path, which `--restore` takes.

        Args:
            directory: where to make a directory for it: a path of this process, or an fsspec URL; None: `savepoints`
                in the job's checkpoint directory.
            stop: also ends the job: its sources pause, its output up to here is committed, and it leaves with exit
                code 0. Returns when it has ended.
            timeout: seconds after which it is given up, and the job goes on.

        Raises:
            SavepointError: it could not be taken; the job goes on.
            JobUnavailableError: the job has ended, or doesn't answer.
            UsageError: there is no checkpoint directory either.
        """
        order = {"directory": _absolute(directory), "stop": stop, "timeout": timeout}
        path = ""
        with self._request("POST", "/savepoints", timeout + _ANSWER_TIMEOUT_S, json.dumps(order)) as answer:
            for line in answer:
                told = json.loads(line)
                if told["state"] == "complete":
                    path = told["path"]
                elif told["state"] == "failed":
                    raise _rebuilt(told)
                elif progress is not None:
                    progress(told["state"], told["written"], told["parts"])
        if not path:
            raise SavepointError(f"job {self.job!r} ended while it took a savepoint")
        if stop:
            self.wait()
        return path

    def stop(self, *, drain: bool = False, wait: bool = True) -> None:
        """Ends the job as SIGTERM does: at a last checkpoint, or, with `drain` or where it takes none, with the end of
        its input. With `wait`, returns when it has ended.

        Raises:
            JobUnavailableError: it has ended, or doesn't answer.
        """
        mode: StopMode = "drain" if drain else "snapshot"
        with self._request("POST", "/stop", _ANSWER_TIMEOUT_S, json.dumps({"mode": mode})):
            pass
        if wait:
            self.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the job has ended; False if it hasn't within `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while is_running(self.entry):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_INTERVAL_S)
        return True

    def _get(self, path: str, timeout: float = 0.0) -> bytes:
        with self._request("GET", path, timeout + _ANSWER_TIMEOUT_S) as answer:
            return answer.read()

    def _request(self, method: str, path: str, timeout_s: float, body: str | None = None) -> http.client.HTTPResponse:
        connection = _Connection(self._socket, timeout_s)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            if answer.status == http.HTTPStatus.OK:
                return answer
            raise _rebuilt(json.loads(answer.read()))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise JobUnavailableError(
                f"job {self.job!r} (process {self.pid}) doesn't answer: {error}",
                hint="it may have just ended: see `streamcore jobs`",
            ) from error


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def connect(job: str, *, wait: float = 0.0) -> JobClient:
    """A running job of this user on this machine, by its name, or by its process id where several have the name.

    The job must have been started with `streamcore run`, or with `StreamEnvironment(control=True)`.

    Args:
        wait: for how many seconds, where the job may not have started yet.

    Raises:
        UnknownJobError: there is none, or there are several.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            return JobClient(find_job(job))
        except UnknownJobError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_LOOK_INTERVAL_S)


def _absolute(directory: str | os.PathLike[str] | None) -> str | None:
    """A local path from here; the job has another working directory."""
    if directory is None:
        return None
    text = os.fspath(directory)
    return text if "://" in text else str(Path(text).absolute())


def _rebuilt(answer: dict[str, Any]) -> StreamcoreError:
    told = answer["error"]
    return _KINDS.get(told["kind"], StreamcoreError)(told["message"], hint=told["hint"])
