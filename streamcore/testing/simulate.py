"""A whole job - coordinator, worker, channels, storage - in one thread, in virtual time, under a seed.

The event loop runs the callback that the seed picks, one at a time, and its clock moves by a little with each
and jumps when nothing can run; so every order of events that the real loop could produce, and many that it
would rarely, comes up under some seed, and comes up again under the same one. (The clock that jumps is trio's
MockClock's idea; the schedule by chance is that of the deterministic simulators of FoundationDB.)
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from streamcore.checkpoint.storage import Storage
from streamcore.errors import StreamcoreError
from streamcore.job.config import RunConfig
from streamcore.job.coordinator import Coordinator
from streamcore.job.links import LocalWorkers
from streamcore.job.status import JobResult
from streamcore.runtime.services import Services
from streamcore.runtime.spec import JobSpec
from streamcore.testing.faults import NO_FAULTS, Fault, Faults
from streamcore.testing.memory import MemoryStorage
from streamcore.time import Clock

T = TypeVar("T")

_STEP_S = 20e-6


class SimulationStuckError(StreamcoreError):
    """The job did not end within the allowed steps."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop without I/O whose order of callbacks and clock come from a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)  # noqa: S311 - chance under a seed is the point
        self._now = 0.0
        self.steps = 0
        self.max_steps: int | None = None

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        self._now += self._chance.expovariate(1 / _STEP_S)
        if not ready and scheduled:
            self._now = max(self._now, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        if ready:
            position = self._chance.randrange(len(ready))
            handle = ready[position]
            del ready[position]
            if not handle.cancelled():
                handle._run()
        self.steps += 1
        if self.max_steps is not None and self.steps > self.max_steps:
            raise SimulationStuckError(f"nothing came of {self.max_steps} steps")

    def _process_events(self, event_list: object) -> None:
        """There are no events from outside."""

    def _write_to_self(self) -> None:
        """There is no other thread to wake the loop from."""

    def _timer_handle_cancelled(self, handle: object) -> None:
        """Cancelled handles are skipped when their time comes."""


class _SimulatedClock(Clock):
    def now_ms(self) -> int:
        return int(self.wall_s() * 1000)

    def wall_s(self) -> float:
        return 1_700_000_000.0 + self.monotonic()


class SimulatedServices(Services):
    """Time, chance, storage and background work under the simulation's seed."""

    work_per_turn = 1
    copying_turn_s = 0.0

    def __init__(self, chance: random.Random, storage: Storage) -> None:
        super().__init__()
        self.clock = _SimulatedClock()
        self.random = chance
        self._storage = storage

    async def in_background(self, work: Callable[[], T]) -> T:
        await asyncio.sleep(self.random.expovariate(1 / 0.001))
        return work()

    def open_storage(self, url: str) -> Storage:
        return self._storage

    def begin_steady_state(self) -> None:
        """The process belongs to whoever simulates; a simulated crash would leave it changed."""

    def end_steady_state(self) -> None:
        """Nothing was begun."""

    def first_channel(self, count: int, turn: int) -> int:
        return self.random.randrange(count)


class SimulatedWorld:
    """What outlives crashes: the seed's chance and the snapshot storage.

    Example:
        >>> from streamcore import Checkpointing, StreamEnvironment
        >>> from streamcore.job.config import RunConfig
        >>> from streamcore.testing import MemorySink
        >>> env, sink = StreamEnvironment(), MemorySink()
        >>> _ = env.from_values(range(3)).map(lambda x: x + 1).sink(sink)
        >>> world = SimulatedWorld(seed=1)
        >>> result = world.run(env.compile(), RunConfig(checkpointing=Checkpointing("simulated://", interval=0.01)))
        >>> sorted(sink.committed)
        [1, 2, 3]
    """

    def __init__(self, seed: int, faults: Faults = NO_FAULTS) -> None:
        self.seed = seed
        self.faults = faults
        self.injected: list[Fault] = []
        """The faults that have come, of all runs: as a plan, they come again under the same seed."""
        self.chance = random.Random(seed)  # noqa: S311 - chance under a seed is the point
        self.storage = MemoryStorage()

    def run(
        self,
        job: JobSpec,
        config: RunConfig,
        *,
        workers: int | None = None,
        crash_after: int | None = None,
        stop_after_s: float | None = None,
        max_steps: int = 2_000_000,
    ) -> JobResult | None:
        """Runs a job. With `crash_after`, everything stops dead after so many steps of the event loop - as
        by kill -9 - unless the job has ended before. With `stop_after_s`, it is asked to stop gracefully, as by
        SIGTERM, after so many virtual seconds.

        Returns:
            The result, or None after a crash.

        Raises:
            SimulationStuckError: the job didn't end within `max_steps`.
            StreamcoreError: the job failed.
        """
        loop = SimulatedLoop(self.chance.getrandbits(64))
        services = SimulatedServices(self.chance, self.storage)

        async def main() -> JobResult:
            coordinator = Coordinator(job, config, LocalWorkers(services), services)
            if stop_after_s is not None:
                loop.call_later(stop_after_s, coordinator.request_stop, config.on_stop)
            return await coordinator.run()

        loop.max_steps = crash_after if crash_after is not None else max_steps
        try:
            return _run(loop, main())
        except SimulationStuckError:
            if crash_after is None:
                raise
            return None


def _run(loop: SimulatedLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs to the end, or leaves everything where it is."""
    task = loop.create_task(coroutine)
    task.add_done_callback(lambda _: loop.stop())
    try:
        loop.run_forever()
    finally:
        _abandon(loop)
        loop.close()
    return task.result()


def _abandon(loop: asyncio.AbstractEventLoop) -> None:
    """Unwinds what a crash left, so that Python doesn't complain of it later: nothing is awaited any more, and
    what the tasks say on their way out reaches nobody."""
    asyncio._set_running_loop(loop)
    try:
        for orphan in asyncio.all_tasks(loop):
            orphan._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = orphan.get_coro()
            assert coroutine is not None, "a task without coroutine"
            with contextlib.suppress(RuntimeError):  # it would have awaited on its way out
                coroutine.close()
    finally:
        asyncio._set_running_loop(None)
