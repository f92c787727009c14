"""Deliberate bugs, each a small change of the engine: the proof that the fleet would find them.

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
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from streamcore.checkpoint.ledger import Ledger
from streamcore.checkpoint.log import CheckpointLog
from streamcore.errors import FencedError
from streamcore.runtime.alignment import Alignment
from streamcore.runtime.barriers import Barriers
from streamcore.runtime.channel import InputChannel
from streamcore.runtime.elements import Barrier, Mode
from streamcore.runtime.operator import Pending
from streamcore.runtime.operator_task import OperatorTask
from streamcore.runtime.operators.async_sink import AsyncSink
from streamcore.runtime.operators.sink import SinkOperator
from streamcore.runtime.operators.source import SourceOperator
from streamcore.runtime.output import Outputs
from streamcore.runtime.snapshot_writer import SnapshotWriter
from streamcore.state.timers import TimerQueue
from streamcore.testing import MemoryStorage
from tests.simulation.fleet.plan import Plan, plan_of
from tests.simulation.fleet.play import play

WITHIN = 1000

Concerns = Callable[[Plan], bool]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A deliberate bug: `make` gives a context in which the engine has it, `concerns` says under which plans it can
    matter at all."""

    make: Callable[[], AbstractContextManager[None]]
    concerns: Concerns


MUTANTS: dict[str, Mutant] = {}


def mutant(name: str, concerns: Concerns = lambda plan: True) -> Callable[[Callable[[], Iterator[None]]], None]:
    """Registers a bug."""

    def register(make: Callable[[], Iterator[None]]) -> None:
        MUTANTS[name] = Mutant(contextmanager(make), concerns)

    return register


def loops(plan: Plan) -> bool:
    return "loop" in plan.topology.name


def heads(plan: Plan) -> bool:
    """Feedback comes straight back to parallel heads, whose other inputs have barriers to wait for."""
    return loops(plan) and plan.mode.name.startswith("aligned") and any(run.shape.parallelism > 1 for run in plan.runs)


def overtakes(plan: Plan) -> bool:
    return plan.mode.name == "unaligned" and any(run.shape.credits == 1 for run in plan.runs)


def aligned(plan: Plan) -> bool:
    return plan.mode.name == "aligned"


@mutant("feedback log dropped", loops)
def feedback_log_dropped() -> Iterator[None]:
    """Records in flight on back edges aren't part of the snapshot."""
    captured = Alignment.captured
    with patch.object(Alignment, "captured", lambda self: [c for c in captured(self) if c in self._forward]):
        yield


@mutant("printed back-edge rule", heads)
def printed_back_edge_rule() -> Iterator[None]:
    """The rule as published: capture when the marked channels *are* the forward ones; feedback is never held."""

    def capture_due(self: Alignment) -> int | None:
        if self._current is None or self._captured:
            return None
        ready = self._mode is Mode.UNALIGNED or self._marked - self._ended == self._forward - self._ended
        return self._current if ready else None

    with patch.object(Alignment, "capture_due", property(capture_due)), feedback_is_not_held():
        yield


@mutant("printed rule, hanging mended", heads)
def printed_rule_mended() -> Iterator[None]:
    """The rule as published but for where it hangs: feedback behind an early barrier is processed before the capture,
    and logged after it."""
    with feedback_is_not_held():
        yield


@contextmanager
def feedback_is_not_held() -> Iterator[None]:
    holds = Alignment.holds
    with patch.object(Alignment, "holds", lambda self, channel: channel in self._forward and holds(self, channel)):
        yield


def slow_sinks(plan: Plan) -> bool:
    return plan.slow_sinks


@mutant("ack before output is durable", slow_sinks)
def ack_before_output_is_durable() -> Iterator[None]:
    """A snapshot is acknowledged with the output that happens to be durable by then."""
    capture = AsyncSink.capture

    def known_now(self: AsyncSink, checkpoint_id: int) -> Pending:
        capture(self, checkpoint_id)

        async def state() -> Any:
            done = [prepared.result() for prepared in self._uncommitted.values() if prepared.done()]
            return {"prepared": [handle for handles in done for handle in handles]}

        return Pending(state)

    with patch.object(AsyncSink, "capture", known_now):
        yield


@mutant("handles dropped when a commit begins", slow_sinks)
def handles_dropped_when_a_commit_begins() -> Iterator[None]:
    """The next snapshot leaves out what is being committed but isn't yet."""
    notify = AsyncSink.notify_complete
    capture = AsyncSink.capture

    def complete(self: AsyncSink, checkpoint_id: int) -> None:
        self.__dict__.setdefault("left_out", set()).update(n for n in self._uncommitted if n <= checkpoint_id)
        notify(self, checkpoint_id)

    def without(self: AsyncSink, checkpoint_id: int) -> Any:
        left_out = self.__dict__.get("left_out", set())
        hidden = {n: self._uncommitted.pop(n) for n in left_out & self._uncommitted.keys()}
        state = capture(self, checkpoint_id)
        self._uncommitted.update(hidden)
        return state

    with patch.object(AsyncSink, "notify_complete", complete), patch.object(AsyncSink, "capture", without):
        yield


@mutant("log kept after an abort")
def log_kept_after_an_abort() -> Iterator[None]:
    """What was logged for a checkpoint that was given up becomes part of the next one."""
    complete = Barriers._complete

    def gives_up(self: Barriers) -> None:
        if self._recordings is not None:
            for channel in self._recordings.inputs:
                channel.recording.close()
                channel.detach()
            self.__dict__.setdefault("kept", []).extend(self._recordings.inputs)
        self._captured = self._recordings = None

    def completes(self: Barriers, checkpoint_id: int) -> None:
        assert self._recordings is not None
        self._recordings.inputs[:0] = self.__dict__.pop("kept", [])
        complete(self, checkpoint_id)

    with patch.multiple(Barriers, _give_up=gives_up, _complete=completes):
        yield


@mutant("barrier forwarded before capture", aligned)
def barrier_forwarded_before_capture() -> Iterator[None]:
    """The first barrier that comes is sent on at once, and the state is captured when all have come."""
    control, send_ahead = OperatorTask._control, Outputs.send_ahead

    async def forwards_at_once(self: OperatorTask, channel: InputChannel, element: Any) -> None:
        if isinstance(element, Barrier) and element.mode is Mode.ALIGNED:
            newest = max(self._barriers.last_captured, self.outputs.__dict__.get("sent_on", 0))
            if element.checkpoint_id > newest:
                self.outputs.__dict__["sent_on"] = element.checkpoint_id
                await self.outputs.send_all(element)
        await control(self, channel, element)

    def sends_ahead(self: Outputs, barrier: Barrier) -> Any:
        return [] if self.__dict__.get("sent_on") == barrier.checkpoint_id else send_ahead(self, barrier)

    with patch.object(OperatorTask, "_control", forwards_at_once), patch.object(Outputs, "send_ahead", sends_ahead):
        yield


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


@mutant("timers not captured", lambda plan: plan.topology.name == "timers")
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


@mutant("overtaken buffers dropped", overtakes)
def overtaken_buffers_dropped() -> Iterator[None]:
    """What a barrier has overtaken in the outputs isn't part of the snapshot."""
    send_ahead = Outputs.send_ahead

    def forgets(self: Outputs, barrier: Barrier) -> Any:
        send_ahead(self, barrier)
        return []

    with patch.object(Outputs, "send_ahead", forgets):
        yield


@dataclass(frozen=True, slots=True)
class Found:
    """Where a mutant was found: `seed` None is nowhere."""

    name: str
    seed: int | None
    violation: str


def hunt(name: str, count: int = WITHIN, *, all_seeds: bool = True) -> Found:
    """Runs the fleet with a bug until it is found; if not under all seeds, then under those which it concerns."""
    mutant = MUTANTS[name]
    with mutant.make():
        for plan in map(plan_of, range(count)):
            if not (all_seeds or mutant.concerns(plan)):
                continue
            outcome = play(plan)
            if outcome.violations:
                place = f"{plan.topology.name}, {plan.mode.name}"
                return Found(name, plan.seed, f"{place}: {outcome.violations[0].strip().splitlines()[-1]}")
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
        for found in pool.starmap(hunt, [(name, arguments.seeds) for name in names], chunksize=1):
            where = "NOT FOUND" if found.seed is None else f"seed {found.seed}"
            missed += found.seed is None
            print(f"{found.name:>34}: {where:<10} {found.violation[:150]}", flush=True)
    print(f"mutants: {len(names)} bugs, {missed} not found within {arguments.seeds} seeds")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
