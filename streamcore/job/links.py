"""A worker as the coordinator sees it: something to send messages to, that can be lost."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cloudpickle

from streamcore.errors import TopologyError
from streamcore.runtime.connection import Connection, FrameKind
from streamcore.runtime.messages import Deploy, ToCoordinator, ToWorker
from streamcore.runtime.services import Services
from streamcore.runtime.worker import Worker


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker is gone."""

    worker: int
    reason: str


Post = Callable[[ToCoordinator | WorkerLost], None]
"""How news of a worker reaches the coordinator."""


class Link(Protocol):
    """One worker."""

    data_address: str

    def send(self, message: ToWorker) -> None:
        """Sends a message; to a lost worker it goes nowhere."""

    async def close(self) -> None:
        """Waits until the worker, which was told to shut down, has left; a process that doesn't is killed."""


class Workers(Protocol):
    """Where workers come from."""

    count: int

    async def start(self, number: int, post: Post) -> Link:
        """A new worker in place `number`.

        Raises:
            MachineError: none can be started.
        """

    async def close(self) -> None:
        """Frees what all workers shared."""


class LocalLink:
    """A worker in the coordinator's own process and event loop."""

    data_address = ""

    def __init__(self, worker: Worker, task: asyncio.Task[None]) -> None:
        self._worker = worker
        self._task = task

    def send(self, message: ToWorker) -> None:
        self._worker.post(message)

    async def close(self) -> None:
        await self._worker.done.wait()


class LocalWorkers:
    """One worker, in this process."""

    count = 1

    def __init__(self, services: Services) -> None:
        self._services = services

    async def start(self, number: int, post: Post) -> Link:
        worker = Worker(number, post, self._services)
        return LocalLink(worker, asyncio.create_task(worker.run(), name="worker"))

    async def close(self) -> None:
        return None


def encode_message(message: ToWorker | ToCoordinator) -> bytes:
    """A message for the other process; a Deploy carries the users' functions by value.

    Raises:
        TopologyError: the job holds something that can't be sent.
    """
    if not isinstance(message, Deploy):
        return pickle.dumps(message, protocol=5)
    try:
        data: bytes = cloudpickle.dumps(message, protocol=5)
    except Exception as error:
        raise TopologyError(
            f"the topology can't be sent to worker processes: {error}",
            hint="open files, locks and connections inside of functions (in `open`), not beside them",
        ) from error
    return data


def send_message(connection: Connection, message: ToWorker | ToCoordinator) -> None:
    """Sends a message over a control connection."""
    connection.send(FrameKind.MESSAGE, encode_message(message))
