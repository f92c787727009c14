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
import weakref
from collections.abc import Callable

from streamcore.checkpoint.log import CheckpointLog
from streamcore.errors import NoCheckpointError, StreamcoreError
from streamcore.job.config import RunConfig
from streamcore.job.coordinator import Coordinator
from streamcore.job.links import LocalWorkers, Workers
from streamcore.job.processes import ProcessWorkers
from streamcore.job.restart import ExponentialDelay, NoRestart, RestartPolicy
from streamcore.job.status import JobResult
from streamcore.runtime.spec import JobSpec
from streamcore.testing.faults import NO_FAULTS, Fault, Faults
from streamcore.testing.loop import SimulationStuckError
from streamcore.testing.memory import MemoryStorage
from streamcore.testing.services import LossyWorkers, SimulatedHost
from streamcore.testing.stage import Stage

__all__ = ["SimulatedWorld", "SimulationStuckError"]

MAX_STEPS = 2_000_000
RESTART_S = 5.0
"""Virtual seconds after which a person starts a job again that has failed."""


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
        self._stage = Stage(seed, faults, self.storage, traced=traced)
        self._left_behind: list[asyncio.Task[JobResult]] = []
        self._runs = 0
        weakref.finalize(self, self._stage.dismantle)

    @property
    def injected(self) -> list[Fault]:
        """The faults that have come, in all runs: as a plan, they come again under the same seed."""
        return list(self._stage.injector.injected)

    @property
    def trace(self) -> list[str]:
        """A line for each step: time, process or subtask, what ran. Empty unless asked for."""
        return self._stage.trace

    @property
    def digest(self) -> int:
        """Equal for two worlds in which the same steps ran at the same times."""
        return self._stage.loop.digest

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
        return self._stage.disk(url).files

    def run(
        self,
        job: JobSpec,
        config: RunConfig,
        *,
        workers: int | None = None,
        crash_after: int | None = None,
        stop_after_s: float | None = None,
        on_start: Callable[[Coordinator], None] | None = None,
        max_steps: int = MAX_STEPS,
    ) -> JobResult | None:
        """Runs a job: its coordinator and, beside it, so many worker processes (`config.workers` unless said here; with
        one, coordinator and worker are one process). With `crash_after`, every process is killed after so many steps
        of the event loop, unless the job has ended before. With `stop_after_s`, it is asked to stop gracefully, as by
        SIGTERM, after so many virtual seconds. `on_start` is called in the coordinator's event loop, before it runs.

        Returns:
            The result; or None when the coordinator is dead, or stands still and is taken for dead. Its workers are
            still there then, and so may be the coordinator: they go on during the next run.

        Raises:
            SimulationStuckError: the job didn't end within `max_steps`, or can't end.
            StreamcoreError: the job failed for good. This and every other error has a note that tells the seed and
                the faults.
        """
        self._runs += 1
        stage = self._stage
        stage.begin_run(crash_after, max_steps)
        process, services = stage.new_process("coordinator")
        config = dataclasses.replace(config, restart=_policy(config, stage.chance))
        count = config.workers if workers is None else workers
        host = SimulatedHost(f"/simulated/{self._runs}", stage.chance, stage.new_process)

        async def main() -> JobResult:
            these: Workers = LocalWorkers(services) if count == 1 else ProcessWorkers(count, host)
            coordinator = Coordinator(job, config, LossyWorkers(these, stage.injector), services)
            if on_start is not None:
                on_start(coordinator)
            if stop_after_s is not None:
                stage.loop.call_later(stop_after_s, coordinator.request_stop, config.on_stop)
            return await coordinator.run()

        task = process.start(main())
        task.add_done_callback(lambda _: process.end(0))
        try:
            stage.play(process)
            if process.exit_code == 0:
                return task.result()
        except BaseException as error:
            error.add_note(self.describe())
            raise
        finally:
            stage.clear()
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
            try:
                result = self.run(job, config, workers=workers)
            except SimulationStuckError:
                raise
            except StreamcoreError:
                if not self.injected:
                    raise
                result = None
                self.wait(RESTART_S)
            if result is not None:
                self.settle()
                return result
            config = dataclasses.replace(config, restore=self._newest(config) or config.restore)
        raise SimulationStuckError(f"the job did not end in {max_runs} runs; {self.describe()}")

    def wait(self, seconds: float) -> None:
        """Lets time pass between two runs: a full disk may have room again."""
        self._stage.loop.advance(seconds)

    def settle(self, *, max_steps: int = MAX_STEPS) -> None:
        """Lets everything that is still there - workers without coordinator, zombies - go on until it has ended.

        Raises:
            SimulationStuckError: it doesn't end.
        """
        try:
            self._stage.play_out(max_steps)
        except BaseException as error:
            error.add_note(self.describe())
            raise
        finally:
            self._stage.clear()

    def _newest(self, config: RunConfig) -> str | None:
        if config.checkpointing is None:
            return None
        try:
            CheckpointLog(self.storage_at(config.checkpointing.url)).latest()
        except NoCheckpointError:
            return None
        return "latest"


def _policy(config: RunConfig, chance: random.Random) -> RestartPolicy:
    """The restart policy, with its jitter under the seed."""
    policy = config.restart or (ExponentialDelay() if config.checkpointing else NoRestart())
    if not isinstance(policy, ExponentialDelay) or policy.uniform != random.uniform:
        return policy

    def uniform(low: float, high: float) -> float:
        return chance.uniform(low, high)  # a function, since a policy is copied for each run, and a method would be too

    return dataclasses.replace(policy, uniform=uniform)
