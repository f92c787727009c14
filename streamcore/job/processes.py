"""Worker processes on this machine: started, greeted with the job's secret, watched, killed."""

from __future__ import annotations

import asyncio
import logging
import pickle
import secrets
import sys
from typing import Any

from streamcore.errors import MachineError
from streamcore.job.host import TMPDIR_HINT, Host, ThisMachine, WorkerProcess
from streamcore.job.links import Link, Post, WorkerLost, send_message
from streamcore.runtime.connection import ChannelKey, Connection, listen
from streamcore.runtime.messages import Hello, ToWorker

START_TIMEOUT_S = 60.0
LEAVE_TIMEOUT_S = 5.0

logger = logging.getLogger("streamcore.job")


class ProcessLink:
    """A worker process."""

    def __init__(self, number: int, process: WorkerProcess, post: Post) -> None:
        self._number = number
        self._process = process
        self._post = post
        self._connection: Connection | None = None
        self._lost = False
        self.data_address = ""
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watch = asyncio.create_task(self._wait_for_exit())

    def attach(self, connection: Connection, hello: Hello) -> None:
        """The process has connected and proved the secret."""
        self._connection = connection
        connection.peer = self
        self.data_address = hello.data_address
        if not self.greeted.done():
            self.greeted.set_result(None)

    def receive(self, message: Any) -> None:
        """Passes a message of the process on to the coordinator."""
        if not self._lost:
            self._post(message)

    def send(self, message: ToWorker) -> None:
        if self._connection is not None and not self._lost:
            send_message(self._connection, message)

    def lose(self, reason: str) -> None:
        """The process is gone or can't be reached: makes sure that it is, and reports it once."""
        if self._lost:
            return
        self._lost = True
        self._process.kill()
        if not self.greeted.done():
            self.greeted.set_exception(MachineError(f"worker {self._number} {reason} before it was ready"))
        else:
            self._post(WorkerLost(self._number, reason))

    async def close(self) -> None:
        self._lost = True  # to the job: its end is no news
        try:
            await asyncio.wait_for(asyncio.shield(self._watch), LEAVE_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            await self._watch

    async def _wait_for_exit(self) -> None:
        code = await self._process.wait()
        self.lose(f"was killed by signal {-code}" if code < 0 else f"left with exit code {code}")


class ProcessWorkers:
    """Worker processes that connect back over Unix sockets in a private directory."""

    def __init__(self, count: int, host: Host | None = None) -> None:
        self.count = count
        self._host = host if host is not None else ThisMachine()
        self._secret = secrets.token_bytes(32)
        self._directory = self._host.make_directory()
        # longer than the workers' names: what fits here fits there
        self._address = str(self._directory / "coordinator")
        self._server: asyncio.AbstractServer | None = None
        self._links: dict[int, ProcessLink] = {}
        self._starts = 0

    async def start(self, number: int, post: Post) -> Link:
        if self._server is None:
            await self._listen()
        self._starts += 1
        config = {
            "worker": number,
            "control": self._address,
            "data": str(self._directory / f"w{number}-{self._starts}"),
            "secret": self._secret.hex(),
            "path": sys.path,
            "log": _log_config(),
        }
        link = self._links[number] = ProcessLink(number, await self._host.start_worker(config), post)
        try:
            await asyncio.wait_for(asyncio.shield(link.greeted), START_TIMEOUT_S)
        except TimeoutError:
            link.lose(f"did not connect within {START_TIMEOUT_S:.0f} s")
            await link.greeted
        return link

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._host.remove_directory(self._directory)

    async def _listen(self) -> None:
        try:
            self._server = await listen(self._address, self._secret, self._receive, self._closed)
        except OSError as error:
            reason = error.strerror or error
            raise MachineError(f"can't listen for workers on {self._address}: {reason}", hint=TMPDIR_HINT) from error

    def _receive(self, connection: Connection, kind: int, detail: int, key: ChannelKey, body: memoryview) -> None:
        message = pickle.loads(body)  # noqa: S301 - the peer proved the job's secret
        if isinstance(message, Hello):
            self._links[message.worker].attach(connection, message)
        else:
            connection.peer.receive(message)

    def _closed(self, connection: Connection) -> None:
        if isinstance(connection.peer, ProcessLink):
            reason = f"sent what can't be read: {connection.error!r}" if connection.error else "closed its connection"
            connection.peer.lose(reason)
        elif not connection.is_trusted:
            logger.warning("refused a connection that did not prove the job's secret")


def _log_config() -> dict[str, Any]:
    root = logging.getLogger("streamcore")
    return {
        "level": root.getEffectiveLevel(),
        "json": bool(root.handlers and getattr(root.handlers[0].formatter, "is_json", False)),
    }
