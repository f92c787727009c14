"""A worker: hosts the subtasks of one attempt after the other and does what the coordinator says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streamcore.errors import MachineError
from streamcore.runtime.attempt import Attempt
from streamcore.runtime.data_plane import DataPlane
from streamcore.runtime.failures import as_failure
from streamcore.runtime.messages import (
    Cancel,
    Cancelled,
    Connect,
    Deploy,
    Deployed,
    Failed,
    Report,
    Shutdown,
    Start,
    ToCoordinator,
    ToWorker,
)
from streamcore.runtime.services import Services

REPORT_INTERVAL_S = 0.5


class Worker:
    """One worker. Messages are handled in order; `done` is set when the coordinator has no more use for it."""

    def __init__(
        self,
        number: int,
        send: Callable[[ToCoordinator], None],
        services: Services,
        data_plane: DataPlane | None = None,
    ) -> None:
        self._number = number
        self._send = send
        self._services = services
        self._data_plane = data_plane
        self._attempt: Attempt | None = None
        self._inbox: asyncio.Queue[ToWorker] = asyncio.Queue()
        self.done = asyncio.Event()

    def post(self, message: ToWorker) -> None:
        """Takes a message of the coordinator."""
        self._inbox.put_nowait(message)

    async def run(self) -> None:
        """Works until it is shut down."""
        reports = asyncio.create_task(self._report())
        try:
            while True:
                message = await self._inbox.get()
                if isinstance(message, Shutdown):
                    break
                try:
                    await self._act(message)
                except Exception as error:  # noqa: BLE001 - whatever it was, the coordinator must hear of it
                    self._send(Failed(message.epoch, None, as_failure(error, f"worker {self._number}")))
        finally:
            reports.cancel()
            if self._attempt is not None:
                await self._attempt.cancel()
            if self._data_plane is not None:
                await self._data_plane.close()
            self.done.set()

    def peer_lost(self, worker: int, error: Exception | None) -> None:
        """A data connection to another worker broke, or was given up because of `error`."""
        if self._attempt is not None and not self._attempt.is_over:
            gone = MachineError(f"the connection to worker {worker} is gone")
            failure = as_failure(error, f"records from worker {worker}") if error is not None else gone
            self._send(Failed(self._attempt.epoch, None, failure))

    async def _act(self, message: ToWorker) -> None:
        attempt = self._attempt
        if isinstance(message, Deploy):
            if attempt is not None:
                await attempt.cancel()
            self._attempt = Attempt(message, self._send, self._services, self._data_plane)
            self._attempt.deploy()
            self._send(Deployed(message.epoch, self._number))
            return
        if attempt is None or isinstance(message, Shutdown) or message.epoch != attempt.epoch:
            return
        match message:
            case Connect():
                await attempt.connect(message.addresses)
                attempt.open()
            case Start():
                attempt.start()
            case Cancel():
                await attempt.cancel()
                self._send(Cancelled(attempt.epoch, self._number))
            case _:
                attempt.post(message)

    async def _report(self) -> None:
        while True:
            await self._services.clock.sleep(REPORT_INTERVAL_S)
            attempt = self._attempt
            if attempt is None:
                self._send(Report(0, self._number))
            else:
                self._send(Report(attempt.epoch, self._number, attempt.measure()))
