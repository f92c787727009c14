"""A whole job - coordinator, workers, connections, storage - in one thread, in virtual time, under a seed.

The event loop runs the callback that the seed picks, one at a time, and its clock moves by a little with each
and jumps when nothing can run; so every order of events that the real loop could produce, and many that it
would rarely, comes up under some seed, and comes up again under the same one. (The clock that jumps is trio's
MockClock's idea; the schedule by chance, with faults, is that of the deterministic simulators of FoundationDB.)
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Sequence

from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.storage import Storage
from streamcore.errors import NoCheckpointError, StreamcoreError
from streamcore.job.config import RunConfig
from streamcore.job.coordinator import Coordinator
from streamcore.job.links import LocalWorkers, Workers
from streamcore.job.processes import ProcessWorkers
from streamcore.job.restart import ExponentialDelay, NoRestart, RestartPolicy
from streamcore.job.status import JobResult
from streamcore.runtime.spec import JobSpec
from streamcore.testing.disk import Disk, ProcessStorage
from streamcore.testing.faults import NO_FAULTS, Fault, FaultKind, Faults
from streamcore.testing.injector import Injector
from streamcore.testing.loop import PLACE, SimulatedLoop, SimulatedProcess, SimulationStuckError
from streamcore.testing.memory import MemoryStorage
from streamcore.testing.network import Network
from streamcore.testing.services import LossyWorkers, SimulatedHost, SimulatedServices

__all__ = ["SimulatedWorld", "SimulationStuckError"]

MAX_STEPS = 2_000_000
MAX_SECONDS = 100_000.0


class SimulatedWorld:
    """What outlives crashes: the seed's chance, the snapshot storage, and processes that are wrongly taken for dead.

    Args:
        seed: decides the order of all that happens, and the faults that come by chance.
        faults: what goes wrong.
        traced: keeps a line for each step in `trace`.
        storage: the files at `simulated://`; a class of one's own can watch what is done with them.

    Example:
        >>> from streamcore import Checkpointing, StreamEnvironment
        >>> from streamcore.job.config import RunConfig
        >>> from streamcore.testing import Fault, MemorySink
        >>> env, sink = StreamEnvironment(), MemorySink()
        >>> _ = env.from_values(range(3)).map(lambda x: x + 1).sink(sink)
        >>> world = SimulatedWorld(1, Faults.of(Fault("crash", at=90, target="worker 1")))
        >>> config = RunConfig(checkpointing=Checkpointing("simulated://", interval=0.01))
        >>> world.run(env.compile(), config, workers=2).restarts
        1
        >>> sorted(sink.committed)
        [1, 2, 3]
    """

    def __init__(
        self, seed: int, faults: Faults = NO_FAULTS, *, traced: bool = False, storage: MemoryStorage | None = None
    ) -> None:
        self.seed = seed
        self.storage = storage or MemoryStorage()
        """The files at `simulated://`."""
        self.trace: list[str] = []
        self._chance = random.Random(seed)  # noqa: S311 - chance under a seed is the point
        self._injector = Injector(seed, faults)
        self._loop = SimulatedLoop(self._chance.getrandbits(64))
        self._loop.on_alarm = self._alarm
        if traced:
            self._loop.tracer = self._note
        self._network = Network(self._loop, self._chance)
        self._network.delay = self._injector.at_data
        self._disks: dict[str, Disk] = {"simulated:": Disk(self.storage, self._injector, self._loop.time)}
        self._processes: dict[str, SimulatedProcess] = {}
        self._alive: list[SimulatedProcess] = []
        self._left_behind: list[asyncio.Task[JobResult]] = []
        self._runs = self._started = 0
        self._first_step = 0
        self._crash_after: int | None = None
        self._max_steps = 0

    @property
    def injected(self) -> list[Fault]:
        """The faults that have come, in all runs: as a plan, they come again under the same seed."""
        return list(self._injector.injected)

    @property
    def digest(self) -> int:
        """Equal for two worlds in which the same steps ran at the same times."""
        return self._loop.digest

    @property
    def zombies(self) -> list[JobResult | BaseException | None]:
        """What became of each coordinator that was stopped and left behind; None: it has not ended, or was killed."""
        return [
            None if not task.done() or task.cancelled() else task.exception() or task.result()
            for task in self._left_behind
        ]

    def describe(self) -> str:
        """The seed and the faults that have come, in a form to paste into a test."""
        plan = ", ".join(map(str, self.injected))
        return f"SimulatedWorld({self.seed}, Faults.of({plan})), run {self._runs}"

    def storage_at(self, url: str) -> MemoryStorage:
        """The files at a URL; there is one flat space of files for each."""
        return self._disk(url).files

    def run(
        self,
        job: JobSpec,
        config: RunConfig,
        *,
        workers: int | None = None,
        crash_after: int | None = None,
        stop_after_s: float | None = None,
        max_steps: int = MAX_STEPS,
    ) -> JobResult | None:
        """Runs a job: its coordinator and, beside it, so many worker processes (`config.workers` unless said here; with
        one, coordinator and worker are one process). With `crash_after`, every process is killed after so many steps
        of the event loop, unless the job has ended before. With `stop_after_s`, it is asked to stop gracefully, as by
        SIGTERM, after so many virtual seconds.

        Returns:
            The result; or None when the coordinator is dead, or stands still and is taken for dead. Its workers are
            still there then, and so may be the coordinator: they go on during the next run.

        Raises:
            SimulationStuckError: the job didn't end within `max_steps`, or can't end.
            StreamcoreError: the job failed for good. This and every other error has a note that tells the seed and
                the faults.
        """
        self._begin_run(crash_after, max_steps)
        process, services = self._new_process("coordinator")
        process.ending.append(lambda _: self._loop.stop())
        config = dataclasses.replace(config, restart=self._restart_policy(config))
        count = config.workers if workers is None else workers

        async def main() -> JobResult:
            host = SimulatedHost(f"/simulated/{self._runs}", self._chance, self._new_process)
            these: Workers = LocalWorkers(services) if count == 1 else ProcessWorkers(count, host)
            coordinator = Coordinator(job, config, LossyWorkers(these, self._injector), services)
            if stop_after_s is not None:
                self._loop.call_later(stop_after_s, coordinator.request_stop, config.on_stop)
            return await coordinator.run()

        task = process.start(main())
        task.add_done_callback(lambda _: process.end(0))
        try:
            self._drive()
            if process.exit_code == 0:
                return task.result()
        except BaseException as error:
            error.add_note(self.describe())
            raise
        finally:
            self._clean_up()
        if process.is_alive:
            self._left_behind.append(task)
        return None

    def run_to_end(
        self, job: JobSpec, config: RunConfig, *, workers: int | None = None, max_runs: int = 20
    ) -> JobResult:
        """Runs a job, and starts it again from its newest checkpoint, as the person in charge would, each time that its
        coordinator dies or that it fails under faults. At last it lets all zombies come to their end.

        Raises:
            SimulationStuckError: a run, or the last of `max_runs`, didn't end.
            StreamcoreError: a run failed although no fault came in it.
        """
        for _ in range(max_runs):
            faults = len(self._injector.injected)
            try:
                result = self.run(job, config, workers=workers)
            except SimulationStuckError:
                raise
            except StreamcoreError:
                if len(self._injector.injected) == faults:
                    raise
                result = None
            if result is not None:
                self.settle()
                return result
            config = dataclasses.replace(config, restore=self._newest(config) or config.restore)
        raise SimulationStuckError(f"the job did not end in {max_runs} runs; {self.describe()}")

    def settle(self, *, max_steps: int = MAX_STEPS) -> None:
        """Lets everything that is still there - workers without coordinator, zombies - go on until it has ended.

        Raises:
            SimulationStuckError: it doesn't end.
        """
        self._clean_up()
        if not self._alive:
            return
        self._first_step, self._crash_after, self._max_steps = self._loop.steps, None, max_steps
        self._loop.alarm_at, self._loop.until_s = self._first_step + max_steps, self._loop.time() + MAX_SECONDS
        for process in self._alive:
            process.ending.append(self._stop_when_all_have_ended)
        try:
            self._drive()
        except BaseException as error:
            error.add_note(self.describe())
            raise
        finally:
            self._clean_up()

    # --- a run

    def _begin_run(self, crash_after: int | None, max_steps: int) -> None:
        self._runs += 1
        self._processes = {}
        self._injector.begin_run()
        self._first_step, self._crash_after, self._max_steps = self._loop.steps, crash_after, max_steps
        self._loop.until_s = self._loop.time() + MAX_SECONDS
        self._set_alarm(0)

    def _drive(self) -> None:
        """Runs the loop until it is stopped."""
        try:
            self._loop.run_forever()
        except BaseException:
            for process in self._alive:
                process.kill()
            raise
        if self._loop.failure is not None:
            failure, self._loop.failure = self._loop.failure, None
            raise failure

    def _clean_up(self) -> None:
        self._alive = [process for process in self._alive if process.is_alive]
        self._loop.abandon(everything=not self._alive)

    def _stop_when_all_have_ended(self, process: SimulatedProcess) -> None:
        if not any(process.is_alive for process in self._alive):
            self._loop.stop()

    def _new_process(self, name: str) -> tuple[SimulatedProcess, SimulatedServices]:
        self._started += 1
        process = SimulatedProcess(name, self._loop)
        self._processes[name] = process
        self._alive.append(process)
        return process, SimulatedServices(process, self._started, self._chance, self._injector, self._open_storage)

    def _open_storage(self, url: str, process: SimulatedProcess) -> Storage:
        return ProcessStorage(self._disk(url), process)

    def _disk(self, url: str) -> Disk:
        key = url.rstrip("/")
        if key not in self._disks:
            self._disks[key] = Disk(MemoryStorage(url), self._injector, self._loop.time)
        return self._disks[key]

    def _newest(self, config: RunConfig) -> str | None:
        if config.checkpointing is None:
            return None
        try:
            CheckpointLog(self.storage_at(config.checkpointing.url)).latest()
        except NoCheckpointError:
            return None
        return "latest"

    def _restart_policy(self, config: RunConfig) -> RestartPolicy:
        policy = config.restart or (ExponentialDelay() if config.checkpointing else NoRestart())
        if isinstance(policy, ExponentialDelay) and policy.uniform == random.uniform:
            policy = dataclasses.replace(policy, uniform=lambda low, high: self._chance.uniform(low, high))
        return policy

    # --- faults at steps

    def _alarm(self) -> None:
        step = self._loop.steps - self._first_step
        if self._crash_after is not None and step >= self._crash_after:
            for process in self._alive:
                process.kill()
            return
        if step >= self._max_steps:
            raise SimulationStuckError(f"nothing came of {self._max_steps} steps")
        for fault in self._injector.planned_at(step):
            target = self._injector.choose(fault, self._targets(fault.kind))
            if target is not None:
                self._injector.done(fault, target)
                self._strike(fault, target)
        targets = {kind: self._targets(kind) for kind in ("crash", "slow_subtask", "cut")}
        by_chance = self._injector.by_chance_at(step, targets)
        if by_chance is not None:
            self._injector.done(by_chance)
            self._strike(by_chance, by_chance.target)
        self._set_alarm(step)

    def _set_alarm(self, step: int) -> None:
        limit = self._max_steps if self._crash_after is None else min(self._crash_after, self._max_steps)
        self._loop.alarm_at = self._first_step + min(limit, self._injector.next_step(step))

    def _targets(self, kind: FaultKind) -> Sequence[str]:
        alive = [process for process in self._processes.values() if process.is_alive and not process.stopped]
        if kind == "cut":
            return sorted({connected.name for connected in self._network.connections.values()})
        if kind == "slow_subtask":
            return sorted(name for process in alive for name in process.subtasks)
        return [process.name for process in alive]

    def _strike(self, fault: Fault, target: str) -> None:
        if fault.kind == "cut":
            next(c for c in self._network.connections.values() if c.name == target).cut()
            return
        if fault.kind == "slow_subtask":
            next(p for p in self._processes.values() if target in p.subtasks).slow(fault.seconds, target)
            return
        process = self._processes[target]
        match fault.kind:
            case "crash":
                process.kill()
            case "stop":
                process.stop(fault.seconds)
            case "slow":
                process.slow(fault.seconds)
            case "clock_jump":
                process.clock_offset_s += fault.seconds

    def _note(self, now: float, handle: asyncio.Handle) -> None:
        place = handle._context.get(PLACE)  # type: ignore[attr-defined]
        self.trace.append(f"{now:.6f} {place.name if place is not None else '-'}: {_name(handle)}")


def _name(handle: asyncio.Handle) -> str:
    callback = handle._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return getattr(owner.get_coro(), "__qualname__", "?")
    return getattr(callback, "__qualname__", type(callback).__name__)
