"""The HTTP endpoint of a running job, on its Unix socket.

====================================  =========================================================================
`GET /status`                         `JobInfo`
`GET /state`                          the operators: uid → name
`GET /state/UID`                      an operator's states: name → kind
`GET /state/UID/NAME?key=JSON`        `StateValue`; also `consistency=live` or `checkpoint` (the default), and
                                      `timeout=SECONDS`. The key as `streamcore.batch.json_values` reads it
`POST /savepoints`                    `{"directory": null, "stop": false, "timeout": 600}` → lines of JSON while
                                      it is taken: `{"state", "written", "parts"}`; the last one has the state
                                      `complete` and the `path`, or `failed` and the `error`
`POST /stop`                          `{"mode": "snapshot"}`, or `"drain"`
====================================  =========================================================================

What goes wrong is `{"error": {"kind", "message", "hint"}}` with status 400 (the question makes no sense), 404 (no such
operator or state; a key without value is no error), 409 (no savepoint there), 503 (not now) or 500.
"""

from __future__ import annotations

import contextlib
import logging
import socketserver
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from streamcore.batch.json_values import decode_key
from streamcore.errors import (
    JobUnavailableError,
    MachineError,
    SavepointError,
    StreamcoreError,
    UnknownStateError,
    UsageError,
)
from streamcore.job.config import StopMode
from streamcore.job.control import Consistency, JobControl
from streamcore.job.registry import Registration, runtime_directory
from streamcore.job.savepoints import SavepointRequest

DEFAULT_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 3.0
_READ_TIMEOUT_S = 10.0
_PROGRESS_INTERVAL_S = 0.2
_LARGEST_BODY = 1 << 16

_STATUS: list[tuple[type[StreamcoreError], HTTPStatus]] = [
    (UnknownStateError, HTTPStatus.NOT_FOUND),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (SavepointError, HTTPStatus.CONFLICT),
    (JobUnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (StreamcoreError, HTTPStatus.INTERNAL_SERVER_ERROR),
]

logger = logging.getLogger("streamcore.job")


class SavepointOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /savepoints`; `timeout` in seconds."""

    directory: str | None = None
    stop: bool = False
    timeout: float = 600.0


class StopOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /stop`."""

    mode: StopMode = "snapshot"


class ControlServer:
    """Serves one job until it is closed; a thread for each request."""

    def __init__(self, control: JobControl, started_ms: int, workers: int) -> None:
        """Registers the job and listens.

        Raises:
            MachineError: there is no place for the job's entry or its socket.
        """
        self._registration = Registration(runtime_directory())
        self._server = _Server(control, self._registration)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="job control")
        self._thread.start()
        try:
            self._registration.publish(control.job, started_ms, workers, control.checkpoint_url)
        except MachineError:
            self.close()
            raise

    def close(self) -> None:
        """Lets requests at hand be answered, and frees the socket and the job's entry; blocking, for a few seconds."""
        self._server.shutdown()
        self._thread.join()
        self._server.finish_requests(_CLOSE_TIMEOUT_S)
        self._registration.close()


class _Server(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """As `socketserver.UnixStreamServer`, on a socket that listens already."""

    daemon_threads = True

    def __init__(self, control: JobControl, registration: Registration) -> None:
        super().__init__(str(registration.socket_path), _Handler)
        self.control = control
        self.socket = registration.socket
        self._at_hand = 0
        self._changed = threading.Condition()

    def fileno(self) -> int:
        return self.socket.fileno()

    def get_request(self) -> tuple[Any, Any]:
        connection, _ = self.socket.accept()
        return connection, ("this machine", 0)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._at_hand += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        request.close()
        with self._changed:
            self._at_hand -= 1
            self._changed.notify_all()

    def finish_requests(self, timeout_s: float) -> None:
        """Waits until every request that has come is answered, but not for ever."""
        with self._changed:
            self._changed.wait_for(lambda: self._at_hand == 0, timeout_s)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a request to the job's control socket broke off", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One request. Speaks HTTP/1.0: the end of the answer is the end of the connection."""

    timeout = _READ_TIMEOUT_S
    server_version = "streamcore"

    @property
    def _control(self) -> JobControl:
        return cast(_Server, self.server).control

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        place = [unquote(part) for part in url.path.strip("/").split("/")]
        query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}

        def answer() -> bytes:
            match place:
                case ["status"]:
                    return msgspec.json.encode(self._control.status())
                case ["state"]:
                    return msgspec.json.encode(self._control.status().operators)
                case ["state", uid]:
                    return self._control.states(uid, _seconds(query.get("timeout")))
                case ["state", uid, name]:
                    return msgspec.json.encode(self._value(uid, name, query))
            raise UsageError(f"there is nothing at {url.path}", hint="there is /status, /state and /savepoints")

        self._answer(answer)

    def do_POST(self) -> None:
        match self.path:
            case "/stop":
                self._answer(self._stop)
            case "/savepoints":
                self._savepoint()
            case _:
                self._refuse(UsageError(f"nothing is done at {self.path}", hint="there is /savepoints and /stop"))

    def _value(self, uid: str, name: str, query: dict[str, str]) -> Any:
        consistency = query.get("consistency", "checkpoint")
        if consistency not in ("live", "checkpoint"):
            raise UsageError(f"there is no consistency {consistency!r}", hint="there is live and checkpoint")
        if "key" not in query:
            raise UsageError("no key is given", hint='add ?key=JSON, for text ?key="TEXT"')
        key = decode_key(query["key"])
        return self._control.value(uid, name, key, cast(Consistency, consistency), _seconds(query.get("timeout")))

    def _stop(self) -> bytes:
        self._control.stop(self._read(StopOrder).mode)
        return b"{}"

    def _savepoint(self) -> None:
        try:
            order = self._read(SavepointOrder)
            request = self._control.savepoint(order.directory, stop=order.stop, timeout_s=order.timeout)
        except StreamcoreError as error:
            self._refuse(error)
            return
        self._begin(HTTPStatus.OK, "application/x-ndjson")
        told: list[Any] = []

        def tell(line: dict[str, Any]) -> None:
            if told[-1:] != [line]:
                told.append(line)
                with contextlib.suppress(OSError):  # who asked has left: it goes on, and is cleaned up here if it fails
                    self.wfile.write(msgspec.json.encode(line) + b"\n")

        try:
            path = self._control.finish_savepoint(request, lambda: tell(_progress(request)), _PROGRESS_INTERVAL_S)
            tell({**_progress(request), "state": "complete", "path": path})
        except SavepointError as error:
            tell({**_progress(request), "state": "failed", **_described(error)})

    def _read(self, kind: type[msgspec.Struct]) -> Any:
        size = self.headers.get("Content-Length", "0")
        if not size.isdigit() or int(size) > _LARGEST_BODY:
            raise UsageError("the request has no length, or is too long")
        body = self.rfile.read(int(size)) or b"{}"
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise UsageError(f"the request can't be read: {error}") from error

    def _answer(self, make: Callable[[], bytes]) -> None:
        try:
            body = make()
        except StreamcoreError as error:
            self._refuse(error)
            return
        self._begin(HTTPStatus.OK, "application/json")
        self.wfile.write(body + b"\n")

    def _refuse(self, error: StreamcoreError) -> None:
        self._begin(next(status for kind, status in _STATUS if isinstance(error, kind)), "application/json")
        self.wfile.write(msgspec.json.encode(_described(error)) + b"\n")

    def _begin(self, status: HTTPStatus, content: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the standard library gives it
        logger.debug("control: %s", format % args)


def _progress(request: SavepointRequest) -> dict[str, Any]:
    return {"state": request.state, "written": request.written, "parts": request.parts}


def _described(error: StreamcoreError) -> dict[str, Any]:
    return {"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}}


def _seconds(text: str | None) -> float:
    try:
        seconds = DEFAULT_TIMEOUT_S if text is None else float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= threading.TIMEOUT_MAX / 2:
        raise UsageError(f"timeout={text} is not a time", hint="give seconds")
    return seconds
