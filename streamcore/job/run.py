"""Runs a job from the outside: an event loop, signals, and the way its status gets out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from streamcore.errors import MachineError
from streamcore.job.config import RunConfig
from streamcore.job.control import JobControl
from streamcore.job.control_server import ControlServer
from streamcore.job.coordinator import Coordinator
from streamcore.job.links import LocalWorkers, Workers
from streamcore.job.processes import ProcessWorkers
from streamcore.job.status import JobResult, JobStatus
from streamcore.runtime.services import Services
from streamcore.runtime.spec import JobSpec

logger = logging.getLogger("streamcore.job")

Observer = Callable[[JobStatus], Awaitable[None]]
"""Runs beside the job until it ends, and is cancelled then: a progress line, a metrics server."""


def run_job(job: JobSpec, config: RunConfig, observers: tuple[Observer, ...] = ()) -> JobResult:
    """Runs a job to its end. The first SIGTERM or SIGINT stops it gracefully, the second at once.

    Where an event loop runs already, as in a notebook, the job gets a thread with a loop of its own.

    Raises:
        StreamcoreError: the job failed; see `Coordinator.run`.
    """

    def run() -> JobResult:
        return asyncio.run(run_job_async(job, config, observers))

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    with ThreadPoolExecutor(1, thread_name_prefix="streamcore-job") as thread:
        return thread.submit(run).result()


async def run_job_async(job: JobSpec, config: RunConfig, observers: tuple[Observer, ...] = ()) -> JobResult:
    """The same inside a running event loop; signals are taken over only in the main thread."""
    services = Services()
    workers: Workers = ProcessWorkers(config.workers) if config.workers > 1 else LocalWorkers(services)
    coordinator = Coordinator(job, config, workers, services)
    async with _control(coordinator, config, services):
        with _signals(coordinator, config):
            watching = [asyncio.ensure_future(observe(coordinator.status)) for observe in observers]
            try:
                return await coordinator.run()
            finally:
                for task in watching:
                    task.cancel()
                for outcome in await asyncio.gather(*watching, return_exceptions=True):
                    if isinstance(outcome, Exception):
                        logger.warning("an observer of the job failed: %r", outcome, extra={"job": job.name})


@contextlib.asynccontextmanager
async def _control(coordinator: Coordinator, config: RunConfig, services: Services) -> AsyncIterator[None]:
    """Lets other processes ask the job while it runs; their last answers are given after it has ended."""
    server = None
    if config.control != "off":
        control = JobControl(coordinator, services, asyncio.get_running_loop())
        try:
            server = ControlServer(control, services.clock.now_ms(), config.workers)
        except MachineError as error:
            if config.control == "required":
                raise
            logger.warning("the job can't be asked while it runs: %s", error.message)
    try:
        yield
    finally:
        if server is not None:
            await asyncio.to_thread(server.close)


@contextlib.contextmanager
def _signals(coordinator: Coordinator, config: RunConfig) -> Iterator[None]:
    loop, asked = asyncio.get_running_loop(), False

    def stop() -> None:
        nonlocal asked
        if asked:
            os._exit(130)
        asked = True
        coordinator.request_stop(config.on_stop)

    taken: list[signal.Signals] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: the host handles signals
            loop.add_signal_handler(number, stop)
            taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
