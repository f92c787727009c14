"""A worker process at the edges of its life, on simulated connections."""

import asyncio
import random

import pytest

from streamcore.job.worker_main import EXIT_ORPHANED, EXIT_UNREACHABLE, serve
from streamcore.runtime.connection import Connection
from streamcore.runtime.services import Services
from streamcore.testing.loop import Killed, SimulatedLoop, SimulatedProcess
from streamcore.testing.network import Network

SECRET = b"s" * 32


class Leaving(Services):
    """Writes down how the process leaves."""

    def __init__(self, process: SimulatedProcess):
        super().__init__()
        self._process = process
        self.complaints: list[str] = []

    def leave(self, code):
        self._process.end(code)
        raise Killed

    def complain(self, text):
        self.complaints.append(text)


class Fickle(Connection):
    """A coordinator that goes away as soon as it knows the worker."""

    def _become_trusted(self):
        super()._become_trusted()
        self.close()


def play(seed: int, *, listens: bool) -> tuple[int | None, Leaving, BaseException | None]:
    loop = SimulatedLoop(seed)
    Network(loop, random.Random(seed), lambda: 0.0)
    coordinator, worker = SimulatedProcess("coordinator", loop), SimulatedProcess("worker 0", loop)
    services = Leaving(worker)

    async def listen():
        ignore = lambda *frame: None  # noqa: E731
        await asyncio.get_running_loop().create_unix_server(
            lambda: Fickle(SECRET, is_server=True, on_frame=ignore, on_close=ignore), "/control"
        )

    if listens:
        coordinator.start(listen())
    config = {"worker": 0, "control": "/control", "data": "/data", "secret": SECRET.hex()}

    async def start():
        await asyncio.sleep(0.01)
        return await serve(config, services)

    task = worker.start(start())
    loop.call_later(1.0, loop.stop)
    loop.run_forever()
    loop.abandon(everything=True)
    return (task.result() if task.done() else worker.exit_code), services, loop.failure


@pytest.mark.parametrize("seed", range(20))
def test_a_worker_whose_coordinator_leaves_at_once_leaves_too(seed):
    code, services, failure = play(seed, listens=True)
    assert failure is None
    assert code == EXIT_ORPHANED
    assert services.complaints == []


def test_a_worker_that_finds_no_coordinator_says_so():
    code, services, _ = play(1, listens=False)
    assert code == EXIT_UNREACHABLE
    (complaint,) = services.complaints
    assert complaint.startswith("worker 0: can't join the job at /control: nobody listens")
