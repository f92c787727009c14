"""Decides where faults come: by a plan, or by chance under a seed; and writes down what has come, as a plan."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from streamcore.testing.faults import Fault, FaultKind, Faults

STEP_KINDS: tuple[FaultKind, ...] = ("crash", "stop", "isolate", "slow", "slow_subtask", "cut", "clock_jump")
WRITE_KINDS: tuple[FaultKind, ...] = ("failed_write", "torn_write", "disk_full")

_NEVER = 1 << 62


class Injector:
    """The faults of one world. Each kind of opportunity has a count of its own, which starts anew with each run."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.injected: list[Fault] = []
        self._faults = faults
        self._chance = random.Random(f"{seed} faults")  # noqa: S311 - apart from the schedule's, so that a plan replays
        self._left = faults.at_most
        self._run = 0
        self._planned: list[Fault] = []
        self._counts: dict[FaultKind | str, int] = {}
        self._step_by_chance = _NEVER

    def begin_run(self) -> None:
        """Another run of the world begins."""
        self._run += 1
        self._counts = {}
        self._planned = sorted((f for f in self._faults.plan if f.run == self._run), key=lambda fault: fault.at)
        self._step_by_chance = self._draw_step(0)

    # --- faults of processes and connections, by steps

    def next_step(self, step: int) -> int:
        """The next step at which there is something to do, after `step`."""
        planned = [max(fault.at, step + 1) for fault in self._planned if fault.kind in STEP_KINDS]
        return min([self._step_by_chance, *planned])

    def planned_at(self, step: int) -> list[Fault]:
        """What the plan wants at a step; each stays planned until it is told to have been `done`."""
        return [fault for fault in self._planned if fault.kind in STEP_KINDS and fault.at <= step]

    def by_chance_at(self, step: int, targets_of: Callable[[FaultKind], Sequence[str]]) -> Fault | None:
        """What comes by chance at a step, to one of the targets that there are for it."""
        if step < self._step_by_chance:
            return None
        self._step_by_chance = self._draw_step(step)
        kinds = [kind for kind in STEP_KINDS if self._faults.chances.get(kind)]
        kind = self._chance.choices(kinds, [self._faults.chances[kind] for kind in kinds])[0]
        targets = targets_of(kind)
        return Fault(kind, step, self._run, self._chance.choice(targets), self._seconds(kind)) if targets else None

    def choose(self, fault: Fault, targets: Sequence[str]) -> str | None:
        """Whom a planned fault falls on; None: nobody yet."""
        if not fault.target:
            seed = f"{fault.kind} {fault.run} {fault.at}"
            return random.Random(seed).choice(targets) if targets else None  # noqa: S311
        return fault.target if fault.target in targets else None

    def done(self, fault: Fault, target: str = "") -> None:
        """A fault has come."""
        if fault in self._planned:
            self._planned.remove(fault)
        else:
            self._left -= 1
            if self._left <= 0:
                self._step_by_chance = _NEVER
        self.injected.append(Fault(fault.kind, fault.at, fault.run, target or fault.target, fault.seconds))

    # --- faults of storage and messages, by opportunities

    def at_write(self, *, is_deletion: bool) -> Fault | None:
        """A write or deletion in the storage: what happens to it."""
        kinds: tuple[FaultKind, ...] = ("failed_write", "torn_write") if is_deletion else WRITE_KINDS
        return self._at("write", kinds)

    def at_background(self) -> Fault | None:
        """Work beside the event loop begins: whether it is slow."""
        return self._at("background", ("slow_write",))

    def at_message(self) -> Fault | None:
        """A message is sent that may be lost."""
        return self._at("message", ("lost_message",))

    def at_data(self) -> float:
        """Something is sent on a connection: how many seconds it is late."""
        fault = self._at("data", ("late_message",))
        return 0.0 if fault is None else fault.seconds

    def _at(self, what: str, kinds: tuple[FaultKind, ...]) -> Fault | None:
        count = self._counts[what] = self._counts.get(what, 0) + 1
        for fault in self._planned:
            if fault.at <= count and fault.kind in kinds:
                self.done(fault)
                return fault
        if self._left <= 0 or not self._faults.chances:
            return None
        drawn = self._chance.random()
        for kind in kinds:
            drawn -= self._faults.chances.get(kind, 0.0)
            if drawn < 0:
                fault = Fault(kind, count, self._run, seconds=self._seconds(kind))
                self.done(fault)
                return fault
        return None

    def _draw_step(self, step: int) -> int:
        rate = sum(self._faults.chances.get(kind, 0.0) for kind in STEP_KINDS)
        if rate <= 0 or self._left <= 0:
            return _NEVER
        if rate >= 1:
            return step + 1
        return step + 1 + int(math.log(1.0 - self._chance.random()) / math.log(1.0 - rate))

    def _seconds(self, kind: FaultKind) -> float:
        seconds = self._drawn_seconds(kind)
        return seconds if kind == "clock_jump" else min(seconds, self._faults.longest_s)

    def _drawn_seconds(self, kind: FaultKind) -> float:
        """How long, or how far, a fault by chance is: from what passes unnoticed to what outlasts every time-out."""
        chance = self._chance
        match kind:
            case "stop":
                return chance.choice([0.001, 0.02, 0.5, 20.0, 90.0]) * chance.uniform(0.5, 1.5)
            case "isolate":  # often as long as a replacement takes
                return chance.choice([0.005, 0.1, 0.2, 5.0]) * chance.uniform(0.8, 1.5)
            case "slow" | "slow_subtask":
                return chance.choice([0.0002, 0.002, 0.02]) * chance.uniform(0.5, 1.5)
            case "clock_jump":
                return chance.choice([-3600.0, -1.0, 0.5, 60.0, 86400.0]) * chance.uniform(0.5, 1.5)
            case "slow_write":
                return chance.choice([0.005, 0.1, 5.0]) * chance.uniform(0.5, 1.5)
            case "disk_full":
                return chance.choice([0.001, 0.02, 0.5]) * chance.uniform(0.5, 1.5)
            case "late_message":
                return chance.choice([0.001, 0.02, 1.0]) * chance.uniform(0.5, 1.5)
        return 0.0
