"""Many seeds of the fleet on all cores; prints what was broken, and what the seeds have covered.

    python -m tests.simulation.fleet.run --seeds 10000
    python -m tests.simulation.fleet.run --seed 278          # exactly that one again, with its plan and its faults

The last line is `simulate: N seeds, N violations`, where a violation is a seed under which a promise was broken;
the exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from tests.simulation.fleet.plan import plan_of
from tests.simulation.fleet.play import Outcome, play

_BATCH = 20


def play_seeds(seeds: Iterable[int]) -> list[Outcome]:
    """Plays some seeds."""
    return [play(plan_of(seed)) for seed in seeds]


def play_all(first: int, count: int, processes: int) -> Iterator[Outcome]:
    """Plays seeds on several processes; the outcomes come in the order of the seeds."""
    batches = [range(start, min(start + _BATCH, first + count)) for start in range(first, first + count, _BATCH)]
    if processes == 1:
        for batch in batches:
            yield from play_seeds(batch)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for outcomes in pool.imap(play_seeds, batches):
            yield from outcomes


class Tally:
    """What a number of seeds have covered."""

    def __init__(self) -> None:
        self.seeds = 0
        self.failed: list[int] = []
        self._of: dict[str, Counter[str]] = {}

    def add(self, outcome: Outcome) -> None:
        """Counts one seed."""
        self.seeds += 1
        if outcome.violations:
            self.failed.append(outcome.plan.seed)
        faults = Counter(fault.kind for fault in outcome.injected)
        for place in (outcome.plan.topology.name, outcome.plan.mode.name):
            mine = self._of.setdefault(place, Counter())
            mine.update(
                seeds=1, restores=outcome.restores, rescaled=outcome.rescaled, restarts=outcome.restarts, **faults
            )

    def __str__(self) -> str:
        lines = [f"{'':>28} {'seeds':>8} {'restores':>9} {'rescaled':>9} {'restarts':>9}  faults"]
        for place, counts in self._of.items():
            known = [f"{counts.pop(name):>{width}}" for name, width in _COLUMNS]
            faults = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
            lines.append(f"{place:>28} {' '.join(known)}  {faults}")
        return "\n".join(lines)


_COLUMNS = [("seeds", 8), ("restores", 9), ("rescaled", 9), ("restarts", 9)]


def report(outcome: Outcome) -> str:
    """A failed seed in words: its plan, its faults, what was broken, and how to see it again."""
    lines = [str(outcome.plan), *(f"  fault: {fault}" for fault in outcome.injected)]
    lines += [f"  VIOLATION: {violation}" for violation in outcome.violations]
    lines.append(f"  again: make simulate SEED={outcome.plan.seed}")
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="one seed, in detail")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if arguments.seed is not None:
        arguments.first, arguments.seeds, arguments.processes = arguments.seed, 1, 1
    tally, started = Tally(), time.monotonic()
    for outcome in play_all(arguments.first, arguments.seeds, arguments.processes):
        tally.add(outcome)
        if outcome.violations or arguments.seed is not None:
            print(report(outcome), flush=True)
    print(tally)
    print(f"{time.monotonic() - started:.0f} s on {arguments.processes} processes")
    print(f"simulate: {tally.seeds} seeds, {len(tally.failed)} violations")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
