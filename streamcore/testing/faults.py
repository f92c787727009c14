"""What can go wrong in a simulated world: exact faults, which can be replayed, or chances of faults under its seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from streamcore.errors import UsageError

FaultKind = Literal[
    "crash",
    "stop",
    "isolate",
    "slow",
    "slow_subtask",
    "cut",
    "clock_jump",
    "failed_write",
    "torn_write",
    "slow_write",
    "disk_full",
    "late_message",
    "lost_message",
]
"""What a fault is.

Process faults; `at` counts the steps (callbacks of the event loop) of the run:

- `crash`: kill -9 of a process between two steps. Its connections end; what it had sent last may be lost.
- `stop`: a process stands still for `seconds`, and goes on then, although others may have taken it for dead: a zombie.
  A kill doesn't reach it meanwhile, as on a machine that can't be reached.
- `isolate`: the others see all connections of a process end, and a kill doesn't reach it; it goes on for `seconds`
  without noticing, and what it sends goes nowhere: a zombie that is at work while it is being replaced.
- `slow`: each step of a process takes longer, by `seconds` on average, from now on. `slow_subtask`: of a subtask.
- `cut`: a connection breaks; what is on its way in either direction may be lost.
- `clock_jump`: the wall clock of a process jumps by `seconds`, which may be negative.

Storage faults; `at` counts the writes, creations and deletions in the snapshot storage during the run:

- `failed_write`: it raises OSError and leaves nothing.
- `torn_write`: the process crashes in the middle of it. The file is there, or it isn't; there may be a temporary one.
- `slow_write`: it takes `seconds` longer.
- `disk_full`: it, and all that follow for `seconds`, raise OSError (no space left). Deletions work.

Message faults; `at` counts what was sent during the run:

- `late_message`: something on a connection, and all behind it, arrives `seconds` later. Counts pieces of data.
- `lost_message`: a message between coordinator and worker that may be lost is. (TCP loses none but the last ones; the
  checkpoint protocol bears the loss of any message of its own but the last `Complete`.) Counts such messages.
"""

FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

_CHANCES: dict[FaultKind, float] = {
    "crash": 0.0008,
    "stop": 0.0003,
    "isolate": 0.0003,
    "slow": 0.0002,
    "slow_subtask": 0.0002,
    "cut": 0.0003,
    "clock_jump": 0.0002,
    "failed_write": 0.02,
    "torn_write": 0.03,
    "slow_write": 0.02,
    "disk_full": 0.01,
    "late_message": 0.003,
    "lost_message": 0.02,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: see `FaultKind`.
        at: the number of the step, the write or the message that it falls on, from 1.
        run: of which run of the world, from 1.
        target: whom it falls on: `"coordinator"`, `"worker 0"`, `"subtask (2, 1)"`, or a connection by its two ends,
            `"worker 0 - worker 1"`. Empty: chosen by the seed, or given by what is written or sent. A fault waits
            until its target is there.
        seconds: how long, or how far.
    """

    kind: FaultKind
    at: int
    run: int = 1
    target: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Faults:
    """The faults of a simulated world.

    Attributes:
        plan: exact faults. `SimulatedWorld.injected` of a world is a plan that does the same under the same seed.
        chances: the chance of each kind per step, per write or per message.
        at_most: how many faults come by chance in all runs of the world, so that a job which is started again and
            again ends at last.
        longest_s: how many seconds a fault by chance takes at most; where checkpoints are taken every millisecond, a
            minute is many steps.

    Example:
        >>> Faults.of(Fault("crash", at=120, target="worker 1")).plan[0].kind
        'crash'
        >>> Faults.by_chance(crash=0.001, torn_write=0.05).at_most
        3
    """

    plan: tuple[Fault, ...] = ()
    chances: Mapping[FaultKind, float] = field(default_factory=dict)
    at_most: int = 3
    longest_s: float = math.inf

    def __post_init__(self) -> None:
        """Checks the names of kinds and the chances.

        Raises:
            UsageError: there is no such kind, or a chance is not between 0 and 1.
        """
        for kind in [*self.chances, *(fault.kind for fault in self.plan)]:
            if kind not in FAULT_KINDS:
                raise UsageError(f"there is no fault {kind!r}", hint=f"there are: {', '.join(FAULT_KINDS)}")
        for kind, chance in self.chances.items():
            if not 0 <= chance <= 1:
                raise UsageError(f"the chance of {kind!r} is {chance!r}", hint="a chance is between 0 and 1")

    @classmethod
    def of(cls, *plan: Fault) -> Faults:
        """Exactly these faults."""
        return cls(plan=plan)

    @classmethod
    def by_chance(cls, *, at_most: int = 3, **chances: float) -> Faults:
        """Faults of these kinds, each with its chance per step, per write or per message.

        Raises:
            UsageError: there is no such kind, or a chance is not between 0 and 1.
        """
        return cls(chances=chances, at_most=at_most)  # type: ignore[arg-type]  # checked there

    @classmethod
    def of_every_kind(
        cls, *, at_most: int = 3, scale: float = 1.0, without: Iterable[FaultKind] = (), longest_s: float = math.inf
    ) -> Faults:
        """Faults of every kind but those `without`, with chances that hit small jobs about once or twice in a run;
        `scale` multiplies the chances."""
        excluded = set(without)
        chances = {kind: min(1.0, chance * scale) for kind, chance in _CHANCES.items() if kind not in excluded}
        return cls(chances=chances, at_most=at_most, longest_s=longest_s)


NO_FAULTS = Faults()
"""Nothing goes wrong."""
