"""From a seed to what is done under it: topology, mode, layouts, crashes, faults."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from streamcore import Checkpointing
from streamcore.testing import Fault, FaultKind, Faults
from streamcore.testing.faults import NO_FAULTS
from tests.simulation.fleet.forward import FORWARD
from tests.simulation.fleet.loops import LOOPS
from tests.simulation.fleet.topology import Shape, Topology

TOPOLOGIES = [*FORWARD, *LOOPS]


@dataclass(frozen=True, slots=True)
class Mode:
    """A way to take checkpoints, and what it promises."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    exactly_once: bool = True

    @property
    def overtakes(self) -> bool:
        """Whether barriers may overtake records."""
        return bool({"unaligned", "aligned_timeout"} & self.options.keys())


MODES = [
    Mode("aligned"),
    Mode("unaligned", {"unaligned": True}),
    Mode("aligned with a timeout", {"aligned_timeout": 0.0003}),
    Mode("at least once", {"mode": "at-least-once"}, exactly_once=False),
]

LONG_TIMEOUT_S = 0.2
"""No checkpoint takes that long unless something goes wrong."""
HEARTBEAT_TIMEOUT_S = 1.2
LONGEST_FAULT_S = 3.0
"""Long enough for a worker to be taken for dead that isn't."""


@dataclass(frozen=True, slots=True)
class Run:
    """One start of the job on so many workers. With `crash_after` everything stops dead so many steps after it has
    begun, or after the checkpoint of which `checkpoints` says the count; with `stop_after_s` it is asked to stop with a
    last checkpoint. Otherwise it runs to its end."""

    shape: Shape
    workers: int
    crash_after: int | None = None
    checkpoints: int = 0
    stop_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about a seed that isn't left to the simulation."""

    seed: int
    topology: Topology
    mode: Mode
    checkpointing: Checkpointing
    runs: tuple[Run, ...]
    faults: Faults

    @property
    def slow_sinks(self) -> bool:
        """Whether the sinks work beside the stream."""
        return self.seed // (len(TOPOLOGIES) * len(MODES)) % 2 == 1

    def __reduce__(self) -> Any:
        """To other processes goes the seed: topologies are made of functions that can't be sent."""
        return plan_of, (self.seed,)

    def __str__(self) -> str:
        settings = self.checkpointing
        lines = [
            f"seed {self.seed}: {self.topology.name}, {self.mode.name}{', slow sinks' if self.slow_sinks else ''}",
            f"  a checkpoint every {settings.interval * 1e3:.2f} ms, given up after {settings.timeout * 1e3:.2f} ms, "
            f"{settings.retain} kept",
        ]
        lines += [f"  slowed: {fault}" for fault in self.faults.plan]
        for number, run in enumerate(self.runs, start=1):
            if run.crash_after is not None:
                since = f"checkpoint {run.checkpoints} of it" if run.checkpoints else "its begin"
                end = f"crash of everything {run.crash_after} steps after {since}"
            elif run.stop_after_s is not None:
                end = f"stop after {run.stop_after_s * 1e3:.2f} ms"
            else:
                end = "to the end"
            lines.append(f"  run {number}: {run.workers} workers, {run.shape}, {end}")
        return "\n".join(lines)


def plan_of(seed: int) -> Plan:
    """The plan of a seed. Topologies and modes take turns, everything else is by chance."""
    chance = random.Random(seed)
    topology = TOPOLOGIES[seed % len(TOPOLOGIES)]
    mode = MODES[seed // len(TOPOLOGIES) % len(MODES)]
    stops = chance.random() < 0.2
    hurries = not stops and chance.random() < 0.4
    is_slowed = not hurries and chance.random() < 0.6
    checkpointing = Checkpointing(
        "simulated://",
        interval=chance.uniform(0.0002, 0.001),
        timeout=chance.uniform(0.0005, 0.004) if hurries else LONG_TIMEOUT_S,
        retain=chance.randint(1, 3),
        tolerable_failures=1_000_000,
        **mode.options,
    )
    faults = NO_FAULTS
    if chance.random() < 0.6:
        # who is so slow that checkpoints come faster than it can look does nothing else any more: see `is_slowed`
        without: list[FaultKind] = ["slow", "slow_subtask"]
        faults = Faults.of_every_kind(
            at_most=chance.randint(1, 4),
            scale=chance.choice([1.0, 2.0, 4.0]),
            without=[*without, "clock_jump"] if topology.clocked else without,
            longest_s=LONGEST_FAULT_S,
        )
    rescales = chance.random() < 0.5 and not (topology.ordered and mode.overtakes)
    runs = [Run(_shape(chance), chance.choice([1, 1, 2, 3]))]
    for _ in range(chance.choice([0, 1, 1, 2] if faults.chances else [1, 1, 2, 2, 3])):
        if stops and chance.random() < 0.6:
            runs[-1] = replace(runs[-1], stop_after_s=chance.uniform(0.001, 0.01))
        else:
            checkpoints = chance.choice([0, 1, 1, 1, 2, 2, 3])
            steps = chance.randint(1, 150) if checkpoints else chance.randint(80, 400) * (1 + runs[-1].workers)
            runs[-1] = replace(runs[-1], crash_after=steps, checkpoints=checkpoints)
        runs.append(Run(_shape(chance) if rescales else runs[-1].shape, chance.choice([1, 1, 2, 3])))
    if is_slowed:  # one subtask holds up the others, so that barriers have something to overtake
        slow = [
            Fault("slow_subtask", chance.randint(30, 150), number, seconds=chance.uniform(0.0001, 0.0006))
            for number in range(1, len(runs) + 1)
        ]
        faults = replace(faults, plan=tuple(slow))
    return Plan(seed, topology, mode, checkpointing, tuple(runs), faults)


def _shape(chance: random.Random) -> Shape:
    return Shape(
        parallelism=chance.randint(1, 3),
        batch_size=chance.choice([1, 1, 2, 5, 12]),
        credits=chance.choice([1, 1, 2, 3]),
        two_stage=chance.random() < 0.5,
        rate=chance.choice([None, None, 1500.0, 3000.0, 6000.0]),
    )
