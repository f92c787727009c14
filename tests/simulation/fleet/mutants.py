"""Twelve deliberate bugs, each a small change of the engine: the proof that the fleet would find them.

    python -m tests.simulation.fleet.mutants            # at which seed each is found, within 1,000
    python -m tests.simulation.fleet.mutants "no fencing" --seeds 200

Each is what somebody might really have written. All run under the same fleet, seed after seed from 0, until a promise
is broken.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from streamcore.checkpoint.ledger import Ledger
from streamcore.checkpoint.log import CheckpointLog
from streamcore.errors import FencedError
from streamcore.runtime.alignment import NOTHING, Alignment, Step
from streamcore.runtime.channel import InputChannel
from streamcore.runtime.elements import Barrier
from streamcore.runtime.operator_task import OperatorTask
from streamcore.runtime.operators.sink import SinkOperator
from streamcore.runtime.operators.source import SourceOperator
from streamcore.runtime.snapshot_writer import SnapshotWriter
from streamcore.state.timers import TimerQueue
from streamcore.testing import MemoryStorage
from tests.simulation.fleet.plan import plan_of
from tests.simulation.fleet.play import play

WITHIN = 1000

Mutant = Callable[[], Any]
MUTANTS: dict[str, Mutant] = {}


def mutant(name: str) -> Callable[[Callable[[], Iterator[None]]], Mutant]:
    """Registers a bug."""

    def register(make: Callable[[], Iterator[None]]) -> Mutant:
        MUTANTS[name] = contextmanager(make)
        return MUTANTS[name]

    return register


@mutant("feedback log dropped")
def feedback_log_dropped() -> Iterator[None]:
    """Records in flight on back edges aren't part of the snapshot."""
    with patch.object(Alignment, "logs", lambda self, channel: False):
        yield


@mutant("printed back-edge rule")
def printed_back_edge_rule() -> Iterator[None]:
    """The rule as published: capture when the marked channels *are* the forward ones, feedback isn't held, and all of
    it is logged until the last barrier has come round, instead of each channel until its own."""

    def holds(self: Alignment, channel: int) -> bool:
        return self._current is not None and not self._captured and channel in self._marked & self._forward

    def logs(self: Alignment, channel: int) -> bool:
        return self._current is not None and self._captured and channel in self._feedback - self._ended

    def advance(self: Alignment) -> Step:
        capture, done = None, self._marked | self._ended
        if not self._captured and self._marked - self._ended == self._forward - self._ended:
            self._captured, capture = True, self._current
        if self._captured and self._feedback <= done:
            checkpoint_id = self._current
            self._reset()
            return Step(capture, checkpoint_id)
        return Step(capture) if capture is not None else NOTHING

    with patch.multiple(Alignment, holds=holds, logs=logs, _advance=advance):
        yield


@mutant("log kept after an abort")
def log_kept_after_an_abort() -> Iterator[None]:
    """What was logged for a checkpoint that was given up is still there when the next one begins to log."""
    perform, handle = OperatorTask._perform, OperatorTask._handle

    async def keeps_on_capture(self: OperatorTask, step: Step) -> None:
        before = {name: list(batches) for name, batches in self._log.items()}
        await perform(self, step)
        if step.capture is not None and step.log_complete is None:
            self._log = before

    async def keeps_on_abort(self: OperatorTask, mail: Any) -> None:
        before = self._log
        await handle(self, mail)
        if not self._log:
            self._log = before

    with patch.multiple(OperatorTask, _perform=keeps_on_capture, _handle=keeps_on_abort):
        yield


@mutant("barrier forwarded before capture")
def barrier_forwarded_before_capture() -> Iterator[None]:
    """The first barrier that comes is sent on at once, and the state is captured when all have come."""
    control, capture = OperatorTask._control, OperatorTask._capture

    async def forwards_at_once(self: OperatorTask, channel: InputChannel, element: Any) -> None:
        if isinstance(element, Barrier) and element.checkpoint_id > max(self._last_captured, _sent_on(self)):
            self.__dict__["sent_on"] = element.checkpoint_id
            await self.outputs.send_all(element)
        await control(self, channel, element)

    async def captures(self: OperatorTask, checkpoint_id: int) -> Any:
        if _sent_on(self) != checkpoint_id:
            return await capture(self, checkpoint_id)
        send_all = self.outputs.send_all
        with patch.object(
            self.outputs, "send_all", lambda element: send_but(Barrier(checkpoint_id), send_all, element)
        ):
            return await capture(self, checkpoint_id)

    async def send_but(sent: Barrier, send_all: Any, element: Any) -> None:
        if element != sent:
            await send_all(element)

    with patch.multiple(OperatorTask, _control=forwards_at_once, _capture=captures):
        yield


def _sent_on(task: OperatorTask) -> int:
    return task.__dict__.get("sent_on", 0)


@mutant("acknowledged before written")
def acknowledged_before_written() -> Iterator[None]:
    """A subtask acknowledges its part, then writes it."""
    store = SnapshotWriter._store

    def stores_later(self: SnapshotWriter, *arguments: Any) -> Any:
        real, self._storage = self._storage, MemoryStorage()
        try:
            refs = store(self, *arguments)
            files = self._storage.files
        finally:
            self._storage = real

        def write() -> None:
            assert real is not None
            for path, data in files.items():
                real.write(path, data)

        self._beside(self._services.in_background(write))
        return refs

    with patch.object(SnapshotWriter, "_store", stores_later):
        yield


@mutant("manifest not last")
def manifest_not_last() -> Iterator[None]:
    """The manifest is written when all subtasks but one have acknowledged."""
    with patch.object(Ledger, "_is_complete", lambda self: len(self.missing()) <= 1):
        yield


@mutant("no fencing")
def no_fencing() -> Iterator[None]:
    """A run that finds its number in the log taken takes the next one."""
    append = CheckpointLog.append

    def goes_on(self: CheckpointLog, entry: Any) -> None:
        while True:
            try:
                return append(self, entry)
            except FencedError:
                self.refresh()

    with patch.object(CheckpointLog, "append", goes_on):
        yield


@mutant("timers not captured")
def timers_not_captured() -> Iterator[None]:
    """Snapshots have the state that timers would look at, but not the timers."""

    def nothing(self: Any, max_parallelism: int, *, allow_pickle: bool) -> dict[int, bytes]:
        return {}

    with patch.object(TimerQueue, "capture", nothing):
        yield


@mutant("a credit lost")
def a_credit_lost() -> Iterator[None]:
    """The credit of a batch that is taken while a barrier waits behind it isn't given back."""
    take = InputChannel.take

    def forgets(self: InputChannel) -> Any:
        grant = self.grant
        if not self.feedback and len(self.queue) > 1 and isinstance(self.queue[1], Barrier):
            self.grant = None
        try:
            return take(self)
        finally:
            self.grant = grant

    with patch.object(InputChannel, "take", forgets):
        yield


class _Late(dict[str, Any]):
    """What a source captured, and the source, which has read on when this is written."""

    source: SourceOperator
    checkpoint_id: int


@mutant("offsets captured late")
def offsets_captured_late() -> Iterator[None]:
    """Sources look at their offsets when the snapshot is written, not when the barrier goes out."""
    capture, store = SourceOperator.capture, SnapshotWriter._store

    def captures(self: SourceOperator, checkpoint_id: int) -> Any:
        late = _Late(capture(self, checkpoint_id))
        late.source, late.checkpoint_id = self, checkpoint_id
        return late

    def stores(self: SnapshotWriter, path: str, captured: Any, *rest: Any) -> Any:
        for operator in captured.values():
            if isinstance(operator.own, _Late):
                operator.own = capture(operator.own.source, operator.own.checkpoint_id)
        return store(self, path, captured, *rest)

    with patch.object(SourceOperator, "capture", captures), patch.object(SnapshotWriter, "_store", stores):
        yield


@mutant("committed before completion")
def committed_before_completion() -> Iterator[None]:
    """A sink commits what it has prepared as soon as it is prepared."""
    capture = SinkOperator.capture

    def commits(self: SinkOperator, checkpoint_id: int) -> Any:
        state = capture(self, checkpoint_id)
        self.notify_complete(checkpoint_id)
        return state

    with patch.object(SinkOperator, "capture", commits):
        yield


@dataclass(frozen=True, slots=True)
class Found:
    """Where a mutant was found: `seed` None is nowhere."""

    name: str
    seed: int | None
    violation: str


def hunt(name: str, first: int = 0, count: int = WITHIN) -> Found:
    """Runs the fleet with a bug until it is found."""
    with MUTANTS[name]():
        for seed in range(first, first + count):
            outcome = play(plan_of(seed))
            if outcome.violations:
                place = f"{outcome.plan.topology.name}, {outcome.plan.mode.name}"
                return Found(name, seed, f"{place}: {outcome.violations[0].strip().splitlines()[-1]}")
    return Found(name, None, "")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which; all by default")
    parser.add_argument("--seeds", type=int, default=WITHIN, help="within how many")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    names = arguments.names or list(MUTANTS)
    missed = 0
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for found in pool.starmap(hunt, [(name, 0, arguments.seeds) for name in names], chunksize=1):
            where = "NOT FOUND" if found.seed is None else f"seed {found.seed}"
            missed += found.seed is None
            print(f"{found.name:>34}: {where:<10} {found.violation[:150]}", flush=True)
    print(f"mutants: {len(names)} bugs, {missed} not found within {arguments.seeds} seeds")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
