"""Plays one plan in a simulated world and judges what has come of it."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from streamcore.errors import IncompatibleSnapshotError, StreamcoreError
from streamcore.job.config import RunConfig
from streamcore.job.status import JobResult
from streamcore.state import table_capture
from streamcore.testing import Fault, SimulatedWorld, SimulationStuckError
from tests.simulation.fleet.audit import Audit, AuditedSink, AuditedStorage
from tests.simulation.fleet.plan import Plan, Run
from tests.simulation.fleet.topology import Row, Shape, Topology

MAX_STEPS = 60_000
"""Many times what any run of the fleet takes: a run that isn't over by then won't ever be."""


@dataclass(slots=True)
class Outcome:
    """What has come of a plan.

    Attributes:
        violations: the promises that were broken, in words.
        injected: the faults that came by chance.
        restores: how many runs went on from a checkpoint, `rescaled` of them at another parallelism.
        restarts: how often the coordinator has deployed the job again within a run.
    """

    plan: Plan
    violations: list[str] = field(default_factory=list)
    restores: int = 0
    rescaled: int = 0
    refused: int = 0
    restarts: int = 0
    injected: list[Fault] = field(default_factory=list)


def play(plan: Plan) -> Outcome:
    """Runs the job as planned, to its end, and compares."""
    outcome, audit = Outcome(plan), Audit()
    world, storage = SimulatedWorld(plan.seed), AuditedStorage(audit)
    world.storage = storage
    sinks: dict[str, AuditedSink] = {}
    game = _Game(plan, world, storage, outcome, lambda name: sinks.setdefault(name, AuditedSink(name, audit, storage)))
    with _quiet():
        try:
            game.run()
        except SimulationStuckError as error:
            audit.broken.append(f"stuck: {error}")
        except StreamcoreError as error:
            audit.broken.append(f"the job failed: {type(error).__name__}: {error}")
        except Exception:  # noqa: BLE001 - whatever comes out of the engine is a finding
            audit.broken.append(f"the engine failed:\n{traceback.format_exc()}")
        else:
            storage.check_end(plan.checkpointing.retain)
            rows = Counter(row for sink in sinks.values() for row in sink.committed)
            audit.broken.extend(judge(plan.topology, rows, exactly_once=plan.mode.exactly_once))
    outcome.violations, outcome.injected = audit.broken, world.injected
    return outcome


def judge(topology: Topology, found: Counter[Row], *, exactly_once: bool) -> list[str]:
    """What is wrong with the output, in words."""
    expected = topology.expected()
    if topology.repeated is not None:  # once from every subtask: the same from all
        found = Counter({row: 1 if row[0] == topology.repeated else many for row, many in found.items()})
    if exactly_once:
        lacking, surplus = expected - found, found - expected
        wrong = [f"lost: {_some(lacking)}"] if lacking else []
        return [*wrong, f"too much: {_some(surplus)}"] if surplus else wrong
    there = {item for row in found for item in topology.essence(row)}
    wanted = {item for row in expected for item in topology.essence(row)}
    wrong = [f"lost: {_some(Counter(wanted - there))}"] if wanted - there else []
    return [*wrong, f"made up: {_some(Counter(there - wanted))}"] if there - wanted else wrong


def _some(rows: Counter[object]) -> str:
    named = ", ".join(f"{row} x {many}" if many > 1 else str(row) for row, many in sorted(rows.items(), key=str)[:4])
    return f"{rows.total()} rows: {named}{', …' if len(rows) > 4 else ''}"


class _Game:
    """The runs of one plan, one after the other on the same storage and sinks."""

    def __init__(self, plan, world, storage, outcome, sinks) -> None:
        self._plan = plan
        self._world = world
        self._storage = storage
        self._outcome = outcome
        self._sinks = sinks
        self._shape: Shape | None = None

    def run(self) -> None:
        for run in self._plan.runs:
            result = self._start(run)
            if result is not None and not result.stopped:
                return
        assert result is not None, "the last run has crashed"

    def _start(self, run: Run) -> JobResult | None:
        self._storage.restores = bool(self._storage.manifests())
        shape, before = run.shape, self._shape
        try:
            result = self._run_as(run, shape)
        except IncompatibleSnapshotError:
            # a part of an operator had finished: its parallelism can't change any more
            assert self._storage.restores
            assert before is not None
            self._outcome.refused += 1
            shape = before
            result = self._run_as(run, shape)
        if self._storage.restores:
            self._outcome.restores += 1
            self._outcome.rescaled += before is not None and shape.parallelism != before.parallelism
        self._shape = shape
        return result

    def _run_as(self, run: Run, shape: Shape) -> JobResult | None:
        job = self._plan.topology.compile(self._sinks, shape)
        self._storage.job = job
        config = RunConfig(checkpointing=self._plan.checkpointing, restore="latest" if self._storage.restores else None)
        return self._world.run(
            job, config, crash_after=run.crash_after, stop_after_s=run.stop_after_s, max_steps=MAX_STEPS
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the engine's log, and with columnar state copied three rows at a time, so that small jobs have much to
    copy."""
    rows, table_capture.CHUNK_ROWS = table_capture.CHUNK_ROWS, 3
    logger = logging.getLogger("streamcore")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        table_capture.CHUNK_ROWS = rows
