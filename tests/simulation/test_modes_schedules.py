"""Every mode of checkpoints on every kind of topology, under seeds with crashes, restores and other parallelisms."""

import collections
import random

import pytest
from checkpoint_modes import MODES, TOPOLOGIES, Outcome, make_job, run_schedule

from streamcore import Checkpointing
from streamcore.errors import StreamcoreError
from streamcore.job.config import RunConfig
from streamcore.runtime.alignment import Alignment
from streamcore.runtime.channel import InputChannel
from streamcore.runtime.output import Outputs
from streamcore.runtime.recording import Recording
from streamcore.testing import MemorySink, SimulatedWorld

SEEDS = 2
"""For each topology and mode; `make simulate` runs thousands."""


def run_schedules(topology: str, mode: str, count: int) -> list[Outcome]:
    outcomes = []
    for seed in range(count):
        outcome = run_schedule(topology, mode, seed)
        assert not outcome.lost, f"seed {seed}"
        assert outcome.is_exact or mode == "at-least-once", f"seed {seed}"
        outcomes.append(outcome)
    return outcomes


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_lost_and_nothing_doubled_but_at_least_once(mode):
    outcomes = [outcome for topology in TOPOLOGIES for outcome in run_schedules(topology, mode, SEEDS)]
    assert sum(outcome.restored for outcome in outcomes) > 5
    assert sum(outcome.rescaled for outcome in outcomes) > 1
    if "aligned" in mode:
        assert (sum(outcome.with_outputs for outcome in outcomes) > 2) == (mode != "aligned")
    if mode == "at-least-once":
        assert not all(outcome.is_exact for outcome in outcomes)  # or it would not differ


def test_a_barrier_that_a_subtask_sends_to_itself_ends_its_recording():
    """Its feedback lies on disk, so it can't be seen in the queue: under this seed all that came after was recorded."""
    assert run_schedule("loop", "aligned timeout", 115).is_exact


def is_found(topology: str, mode: str, count: int = 60) -> bool:
    try:
        run_schedules(topology, mode, count)
    except (AssertionError, StreamcoreError):
        return True
    return False


def test_dropping_what_a_barrier_overtook_is_found(monkeypatch):
    send_ahead = Outputs.send_ahead
    monkeypatch.setattr(Outputs, "send_ahead", lambda self, barrier: send_ahead(self, barrier) and [])
    assert is_found("chain", "unaligned")


def test_dropping_what_arrives_before_the_barrier_is_found(monkeypatch):
    monkeypatch.setattr(Recording, "arrives", lambda self, element: self._ends_at(element) and self.close())
    assert is_found("chain", "unaligned")


def test_dropping_what_waits_in_the_queue_is_found(monkeypatch):
    monkeypatch.setattr(InputChannel, "waiting", lambda self: iter(()))
    assert is_found("chain", "unaligned")


def test_saving_what_was_behind_a_barrier_is_found(monkeypatch):
    captured = Alignment.captured
    monkeypatch.setattr(Alignment, "captured", lambda self: [captured(self), sorted(self._all)][1])
    assert is_found("chain", "aligned timeout")


def test_watermarks_that_pass_restored_records_are_found(monkeypatch):
    """Restored records go behind what has arrived since, as if order in a channel didn't matter."""
    take = InputChannel.take

    def late(self):
        if self.restored and len(self.queue) > 1:
            self.queue.rotate(-1)
        return take(self)

    monkeypatch.setattr(InputChannel, "take", late)
    assert is_found("windows", "unaligned")


@pytest.mark.parametrize("mode", MODES)
def test_checkpoints_that_are_given_up_leave_nothing_behind(mode):
    """Their time is over before the barriers have come: held channels are read again, recordings are dropped."""
    given_up = 0
    for seed in range(4):
        world, sink, chance = SimulatedWorld(seed), MemorySink(), random.Random(seed)
        given = {"aligned_timeout": 0.0003} if mode == "aligned timeout" else MODES[mode](chance)
        checkpointing = Checkpointing("simulated://", 0.001, timeout=0.0008, tolerable_failures=10**6, **given)
        result = world.run(make_job("slow chain", sink, 2, chance), RunConfig(checkpointing=checkpointing))
        given_up += checkpointing.interval * result.checkpoints < result.run_s / 2
        assert collections.Counter(sink.committed) == TOPOLOGIES["slow chain"].expected()
    assert given_up == 4
