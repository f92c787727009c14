"""What a simulated world consists of: loop, processes, connections and disks; and the faults that strike them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from streamcore.checkpoint.storage import Storage
from streamcore.testing.disk import Disk, ProcessStorage
from streamcore.testing.faults import Fault, FaultKind, Faults
from streamcore.testing.injector import Injector
from streamcore.testing.loop import PLACE, SimulatedLoop, SimulatedProcess, SimulationStuckError
from streamcore.testing.memory import MemoryStorage
from streamcore.testing.network import Network
from streamcore.testing.services import SimulatedServices

_MAX_SECONDS = 100_000.0


class Stage:
    """One world's machinery. Its runs follow one another; what a run leaves alive goes on during the next."""

    def __init__(self, seed: int, faults: Faults, storage: MemoryStorage, *, traced: bool) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - chance under a seed is the point
        self.injector = Injector(seed, faults)
        self.loop = SimulatedLoop(self.chance.getrandbits(64))
        self.loop.on_alarm = self._alarm
        self.trace: list[str] = []
        if traced:
            self.loop.tracer = self._note
        self._network = Network(self.loop, self.chance, self.injector.at_data)
        self._disks = {"simulated:": Disk(storage, self.injector, self.loop.time)}
        self._processes: dict[str, SimulatedProcess] = {}
        self._alive: list[SimulatedProcess] = []
        self._awaited: SimulatedProcess | None = None
        self._started = 0
        self._first_step = 0
        self._crash_after: int | None = None
        self._max_steps = 0

    @property
    def is_empty(self) -> bool:
        """Whether no process is alive."""
        return not any(process.is_alive for process in self._alive)

    def begin_run(self, crash_after: int | None, max_steps: int) -> None:
        """Another run: faults are counted anew, and fall on its own processes."""
        self._processes = {}
        self.injector.begin_run()
        self._crash_after, self._max_steps = crash_after, max_steps

    def new_process(self, name: str) -> tuple[SimulatedProcess, SimulatedServices]:
        """A process of the present run, with nothing in it yet."""
        self._started += 1
        process = SimulatedProcess(name, self.loop)
        process.on_end = self._ended
        self._processes[name] = process
        self._alive.append(process)
        return process, SimulatedServices(process, self._started, self.chance, self.injector, self._open_storage)

    def play(self, awaited: SimulatedProcess) -> None:
        """Runs until a process has ended or stands still.

        Raises:
            SimulationStuckError: that takes too many steps, or can't happen any more.
        """
        self._play(awaited)

    def play_out(self, max_steps: int) -> None:
        """Runs until every process has ended.

        Raises:
            SimulationStuckError: that takes too many steps, or can't happen any more.
        """
        self._crash_after, self._max_steps = None, max_steps
        if not self.is_empty:
            self._play(None)

    def clear(self) -> None:
        """Takes away what dead processes have left."""
        self._alive = [process for process in self._alive if process.is_alive]
        self.loop.abandon(everything=not self._alive)

    def dismantle(self) -> None:
        """The end of the world."""
        for process in self._alive:
            process.kill()
        self.clear()

    def disk(self, url: str) -> Disk:
        """The disk at a URL; there is one for each."""
        key = url.rstrip("/")
        if key not in self._disks:
            self._disks[key] = Disk(MemoryStorage(url), self.injector, self.loop.time)
        return self._disks[key]

    def _play(self, awaited: SimulatedProcess | None) -> None:
        self._awaited, loop = awaited, self.loop
        self._first_step = loop.steps
        loop.until_s = loop.time() + _MAX_SECONDS
        self._set_alarm(0)
        try:
            loop.run_forever()
            if loop.failure is not None:
                failure, loop.failure = loop.failure, None
                raise failure
        except BaseException:
            for process in self._alive:
                process.kill()
            raise

    def _ended(self, process: SimulatedProcess) -> None:
        if process is self._awaited or (self._awaited is None and self.is_empty):
            self.loop.stop()

    def _open_storage(self, url: str, process: SimulatedProcess) -> Storage:
        return ProcessStorage(self.disk(url), process)

    def _alarm(self) -> None:
        step = self.loop.steps - self._first_step
        if self._crash_after is not None and step >= self._crash_after:
            for process in self._alive:
                process.kill()
            return
        if step >= self._max_steps:
            raise SimulationStuckError(f"nothing came of {self._max_steps} steps")
        if self._awaited is not None:
            for fault in self.injector.planned_at(step):
                target = self.injector.choose(fault, self._targets(fault.kind))
                if target is not None:
                    self.injector.done(fault, target)
                    self._strike(fault, target)
            by_chance = self.injector.by_chance_at(step, self._targets)
            if by_chance is not None:
                self.injector.done(by_chance)
                self._strike(by_chance, by_chance.target)
        self._set_alarm(step)

    def _set_alarm(self, step: int) -> None:
        limit = self._max_steps if self._crash_after is None else min(self._crash_after, self._max_steps)
        if self._awaited is not None:
            limit = min(limit, self.injector.next_step(step))
        self.loop.alarm_at = self._first_step + limit

    def _targets(self, kind: FaultKind) -> Sequence[str]:
        begun = [
            process for process in self._processes.values() if process.has_begun
        ]  # before, it would just start later
        alive = [process for process in begun if process.is_alive and not process.stopped]
        if kind == "cut":
            return sorted({connected.name for connected in self._network.connections.values()})
        if kind == "slow_subtask":
            return sorted(name for process in alive for name in process.subtasks)
        return [process.name for process in alive]

    def _strike(self, fault: Fault, target: str) -> None:
        if fault.kind == "cut":
            next(each for each in self._network.connections.values() if each.name == target).cut()
            return
        if fault.kind == "slow_subtask":
            next(each for each in self._processes.values() if target in each.subtasks).slow(fault.seconds, target)
            return
        process = self._processes[target]
        match fault.kind:
            case "crash":
                process.kill()
            case "stop":
                process.stop(fault.seconds)
            case "isolate":
                self._network.isolate(process, fault.seconds)
            case "slow":
                process.slow(fault.seconds)
            case "clock_jump":
                process.clock_offset_s += fault.seconds

    def _note(self, now: float, handle: asyncio.Handle) -> None:
        place = handle._context.get(PLACE)  # type: ignore[attr-defined]
        callback = handle._callback  # type: ignore[attr-defined]
        owner = getattr(callback, "__self__", None)
        what = owner.get_coro() if isinstance(owner, asyncio.Task) else callback
        name = getattr(what, "__qualname__", type(what).__name__)
        self.trace.append(f"{now:.6f} {place.name if place is not None else '-'}: {name}")
