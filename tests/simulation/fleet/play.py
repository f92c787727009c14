"""Plays one plan in a simulated world and judges what has come of it."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from streamcore.errors import DamagedCheckpointError, IncompatibleSnapshotError, StreamcoreError
from streamcore.job.config import RunConfig
from streamcore.job.status import JobResult
from streamcore.state import table_capture
from streamcore.testing import Fault, SimulatedWorld, SimulationStuckError
from tests.simulation.fleet.audit import Audit, AuditedSink, AuditedStorage
from tests.simulation.fleet.plan import HEARTBEAT_TIMEOUT_S, LONG_TIMEOUT_S, Plan, Run
from tests.simulation.fleet.slow_sink import SlowSink
from tests.simulation.fleet.topology import Row, Shape, Topology

MAX_STEPS = 150_000
"""Many times what any run of the fleet takes: a run that isn't over by then won't ever be."""
MAX_RUNS = 12
"""More than there are faults."""


@dataclass(slots=True)
class Outcome:
    """What has come of a plan.

    Attributes:
        violations: the promises that were broken, in words.
        injected: the faults that came by chance.
        restores: how many runs went on from a checkpoint, `rescaled` of them at another parallelism.
        restarts: how often the coordinator has deployed the job again within a run.
        digest: of all steps and their times: two plays of a plan in which the same happened have the same.
    """

    plan: Plan
    violations: list[str] = field(default_factory=list)
    restores: int = 0
    rescaled: int = 0
    refused: int = 0
    restarts: int = 0
    digest: int = 0
    injected: list[Fault] = field(default_factory=list)


def play(plan: Plan) -> Outcome:
    """Runs the job as planned, to its end, and compares."""
    game = _Game(plan)
    with _watched(game):
        try:
            game.run()
        except SimulationStuckError as error:
            game.audit.broken.append(f"stuck: {error}")
        except StreamcoreError as error:
            game.audit.broken.append(f"the job failed: {type(error).__name__}: {error}")
        except Exception:  # noqa: BLE001 - whatever comes out of the engine is a finding
            game.audit.broken.append(f"the engine failed:\n{traceback.format_exc()}")
        else:
            game.check_end()
    game.outcome.violations, game.outcome.injected = game.audit.broken, game.world.injected
    game.outcome.digest = game.world.digest
    return game.outcome


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

    def __init__(self, plan: Plan) -> None:
        self.outcome = Outcome(plan)
        self.audit = Audit()
        self.storage = AuditedStorage(self.audit)
        self.world = SimulatedWorld(plan.seed, plan.faults, storage=self.storage)
        self._plan = plan
        self._sinks: dict[str, AuditedSink] = {}
        self._shapes: list[Shape] = []
        self._run, self._checkpoints = plan.runs[0], 0
        self.storage.on_checkpoint = self._count_checkpoint

    def run(self) -> None:
        """Runs the job as planned, then again and again until it has ended; at last lets all zombies end."""
        *planned, last = self._plan.runs
        for run in planned:
            result = self._start(run)
            if result is not None and not result.stopped:
                break
        else:
            for _ in range(MAX_RUNS):
                if self._start(last) is not None:
                    break
            else:
                raise SimulationStuckError(f"the job did not end in {MAX_RUNS} runs")
        self.world.settle(max_steps=MAX_STEPS)

    def hear(self, message: str) -> None:
        """The engine says something. A checkpoint that comes to nothing, although nothing went wrong and it had all
        the time, would have waited for ever."""
        hopeless = "not complete after" in message and self._plan.checkpointing.timeout == LONG_TIMEOUT_S
        self.audit.expect(not hopeless or bool(self.world.injected), f"stuck: {message}")

    def check_end(self) -> None:
        """Compares output and storage with what they should be."""
        for _ in range(MAX_RUNS):
            if self.storage.is_tidy(self._plan.checkpointing.retain):
                break
            # the last retention failed, or somebody wrote after it who had not heard that the job is over: the next
            # start of the job, which goes on from its end, clears it away
            self._start(self._plan.runs[-1])
            self.world.settle(max_steps=MAX_STEPS)
        self.storage.check_end(self._plan.checkpointing.retain)
        orphans = self.storage.orphans()
        self.audit.expect(not orphans, f"orphan files: {orphans}")
        rows = Counter(row for sink in self._sinks.values() for row in sink.committed)
        self.audit.broken.extend(judge(self._plan.topology, rows, exactly_once=self._plan.mode.exactly_once))

    def _start(self, run: Run) -> JobResult | None:
        """One run; None: it has crashed, or failed because of a fault."""
        self.storage.restores = bool(self.storage.manifests())
        try:
            # where a part of an operator had finished, or records were in flight on a broadcast edge, the parallelism
            # can't change any more: then as one of the runs before
            result = self._run_as_can_be(run, [run.shape, *reversed(self._shapes)])
        except (SimulationStuckError, DamagedCheckpointError):
            raise
        except StreamcoreError:
            if not self.world.injected:
                raise
            self.world.wait(1.0)  # until somebody looks
            result = None
        self.outcome.restores += self.storage.restores
        self.outcome.restarts += result.restarts if result is not None else 0
        return result

    def _run_as_can_be(self, run: Run, shapes: list[Shape]) -> JobResult | None:
        before = self._shapes[-1] if self._shapes else None
        for shape in shapes:
            try:
                result = self._run_as(run, shape)
            except IncompatibleSnapshotError as error:
                self.outcome.refused += 1
                refusal = error
                continue
            self.outcome.rescaled += (
                before is not None and self.storage.restores and before.parallelism != shape.parallelism
            )
            self._shapes.append(shape)
            return result
        raise refusal

    def _run_as(self, run: Run, shape: Shape) -> JobResult | None:
        job = self._plan.topology.compile(self._sink, shape)
        self.storage.job = job
        config = RunConfig(
            checkpointing=self._plan.checkpointing,
            restore="latest" if self.storage.restores else None,
            heartbeat_timeout=HEARTBEAT_TIMEOUT_S,
        )
        self._run, self._checkpoints = run, 0
        return self.world.run(
            job,
            config,
            workers=run.workers,
            crash_after=None if run.checkpoints else run.crash_after,
            stop_after_s=run.stop_after_s,
            max_steps=MAX_STEPS,
        )

    def _count_checkpoint(self) -> None:
        self._checkpoints += 1
        if self._run.crash_after is not None and self._checkpoints == self._run.checkpoints:
            self.world.crash_in(self._run.crash_after)

    def _sink(self, name: str) -> AuditedSink:
        if name not in self._sinks:
            make = partial(SlowSink, seed=self._plan.seed) if self._plan.slow_sinks else AuditedSink
            self._sinks[name] = make(name, self.audit, self.storage)
        return self._sinks[name]


class _Ear(logging.Handler):
    """Hears the engine's log, and keeps it from everybody else."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self._hear(record.getMessage())


@contextmanager
def _watched(game: _Game) -> Iterator[None]:
    """With an ear for the engine's log, and with columnar state copied three rows at a time, so that small jobs have
    much to copy."""
    rows, table_capture.CHUNK_ROWS = table_capture.CHUNK_ROWS, 3
    logger, ear = logging.getLogger("streamcore"), _Ear(game.hear)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(ear)
    try:
        yield
    finally:
        logger.removeHandler(ear)
        logger.propagate = propagates
        table_capture.CHUNK_ROWS = rows
