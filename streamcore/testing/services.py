"""What the runtime gets of a simulated process: time, chance, background work, storage; and how one starts others."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

from streamcore.checkpoint.storage import Storage
from streamcore.job.host import WorkerProcess
from streamcore.job.links import Link, Post, WorkerLost, Workers
from streamcore.job.worker_main import serve
from streamcore.runtime.messages import (
    Abort,
    Acknowledge,
    Complete,
    Decline,
    Report,
    ToCoordinator,
    ToWorker,
    Trigger,
)
from streamcore.runtime.services import Services
from streamcore.testing.injector import Injector
from streamcore.testing.loop import Killed, SimulatedProcess
from streamcore.time import Clock

T = TypeVar("T")

_START_S = 0.001
_BACKGROUND_S = 0.001


class _SimulatedClock(Clock):
    def __init__(self, process: SimulatedProcess) -> None:
        self._process = process

    def monotonic(self) -> float:
        return self._process.loop.time()

    def now_ms(self) -> int:
        return int(self.wall_s() * 1000)

    def wall_s(self) -> float:
        return 1_700_000_000.0 + self.monotonic() + self._process.clock_offset_s


class SimulatedServices(Services):
    """The services of one process, under the simulation's seed."""

    work_per_turn = 1
    copying_turn_s = 0.0
    rocksdb_compacts = False

    def __init__(
        self,
        process: SimulatedProcess,
        number: int,
        chance: random.Random,
        injector: Injector,
        storage: Callable[[str, SimulatedProcess], Storage],
    ) -> None:
        super().__init__()
        self.clock = _SimulatedClock(process)
        self._process = process
        self._number = number
        self._random = chance
        self._injector = injector
        self._storage = storage

    async def in_background(self, work: Callable[[], T]) -> T:
        fault = self._injector.at_background()
        await asyncio.sleep(self._random.expovariate(1 / _BACKGROUND_S) + (fault.seconds if fault is not None else 0.0))
        try:
            return work()
        except Killed:
            return await self._process.loop.create_future()  # type: ignore[no-any-return]  # for ever: it is dead

    def scratch_file(self) -> BinaryIO:
        return io.BytesIO()

    def open_storage(self, url: str) -> Storage:
        return self._storage(url, self._process)

    def process_id(self) -> int:
        return self._number

    def complain(self, text: str) -> None:
        """Nobody reads it."""

    def leave(self, code: int) -> NoReturn:
        self._process.end(code)
        raise Killed

    def begin_steady_state(self) -> None:
        """The process belongs to whoever simulates; a simulated crash would leave it changed."""

    def end_steady_state(self) -> None:
        """Nothing was begun."""

    def first_channel(self, count: int, turn: int) -> int:
        return self._random.randrange(count)


class SimulatedHost:
    """Starts workers as simulated processes. `new_process` makes one, with its services, by its name."""

    def __init__(
        self, directory: str, chance: random.Random, new_process: Callable[[str], tuple[SimulatedProcess, Services]]
    ) -> None:
        self._directory = directory
        self._chance = chance
        self._new_process = new_process

    def make_directory(self) -> Path:
        return Path(self._directory)

    def remove_directory(self, directory: Path) -> None:
        """Nothing was made."""

    async def start_worker(self, config: dict[str, Any]) -> WorkerProcess:
        await asyncio.sleep(self._chance.expovariate(1 / _START_S))
        process, services = self._new_process(f"worker {config['worker']}")
        started = _StartedProcess(process)
        task = process.start(serve(config, services))
        task.add_done_callback(lambda task: process.end(_exit_code(task)), context=process.context.copy())
        return started


def _exit_code(task: asyncio.Task[int]) -> int:
    return 1 if task.cancelled() or task.exception() is not None else task.result()


class _StartedProcess:
    """A worker process as the one that has started it sees it."""

    def __init__(self, process: SimulatedProcess) -> None:
        self._process = process
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        process.on_exit = self._notice

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def kill(self) -> None:
        if self._process.is_reachable:
            self._process.kill()
        elif not self._ended.done():
            self._ended.set_result(-9)  # out of reach: taken for dead

    def _notice(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)


class LossyWorkers:
    """Workers to which, and from which, messages may be lost that the protocol can do without."""

    def __init__(self, workers: Workers, injector: Injector) -> None:
        self.count = workers.count
        self._workers = workers
        self._injector = injector

    async def start(self, number: int, post: Post) -> Link:
        def receive(message: ToCoordinator | WorkerLost) -> None:
            if not self.loses(message):
                post(message)

        return _LossyLink(await self._workers.start(number, receive), self)

    async def close(self) -> None:
        await self._workers.close()

    def loses(self, message: ToCoordinator | ToWorker | WorkerLost) -> bool:
        """Whether a message is lost. A checkpoint that misses one times out; commits come again with the next one."""
        match message:
            case Trigger() | Abort() | Acknowledge() | Decline() | Report():
                return self._injector.at_message() is not None
            case Complete():
                return not message.final and self._injector.at_message() is not None
        return False


class _LossyLink:
    def __init__(self, link: Link, workers: LossyWorkers) -> None:
        self._link = link
        self._workers = workers

    @property
    def data_address(self) -> str:
        """The data socket of the worker."""
        return self._link.data_address

    @data_address.setter
    def data_address(self, address: str) -> None:
        self._link.data_address = address

    def send(self, message: ToWorker) -> None:
        if not self._workers.loses(message):
            self._link.send(message)

    async def close(self) -> None:
        await self._link.close()
