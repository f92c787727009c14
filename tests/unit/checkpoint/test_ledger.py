"""The ledger as a state machine: acknowledgements in any order, stale ones, finished subtasks, aborts."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamcore.checkpoint.ledger import Ledger
from streamcore.checkpoint.log import SubtaskEntry
from streamcore.checkpoint.storage import FileRef

SUBTASKS = [(0, 0), (0, 1), (1, 0), (2, 0)]
EPOCH = 7
SUBTASK = st.sampled_from([*SUBTASKS, (9, 9)])


def part(subtask, label):
    return SubtaskEntry(
        *subtask, 1, ["op"], finished=str(label).startswith("f"), file=FileRef(f"{subtask}-{label}", 1, "")
    )


class LedgerMachine(RuleBasedStateMachine):
    """The model: a set of acknowledgements and one of finished subtasks."""

    @initialize()
    def start(self):
        self.ledger = Ledger(SUBTASKS, EPOCH)
        self.pending = None
        self.next_id = 1
        self.acks = {}
        self.finished = {}
        self.captured = {}

    def missing(self):
        stood_for = {subtask for subtask, captured in self.captured.items() if captured < self.pending}
        return set(SUBTASKS) - set(self.acks) - stood_for

    def is_complete(self):
        return self.pending is not None and not self.missing()

    def complete(self):
        expected = {**{k: v for k, v in self.finished.items() if v is not None}, **self.acks}
        assert self.ledger.complete() == [expected[s] for s in sorted(expected)]
        self.pending, self.acks = None, {}

    @precondition(lambda self: self.pending is None)
    @rule()
    def begin(self):
        self.pending, self.acks, self.next_id = self.next_id, {}, self.next_id + 1
        self.ledger.begin(self.pending)
        if self.is_complete():
            self.complete()

    @rule(subtask=SUBTASK, age=st.integers(0, 2), epoch=st.sampled_from([EPOCH, EPOCH, EPOCH, EPOCH - 1]))
    def acknowledge(self, subtask, age, epoch):
        checkpoint_id = (self.pending or self.next_id) - age
        entry = part(subtask, checkpoint_id)
        counts = epoch == EPOCH and age == 0 and self.pending is not None and subtask in SUBTASKS
        if counts:
            self.acks[subtask] = entry
        assert self.ledger.acknowledge(epoch, checkpoint_id, subtask, entry) is (counts and self.is_complete())
        if self.is_complete():
            self.complete()

    @rule(
        subtask=SUBTASK,
        stored=st.booleans(),
        epoch=st.sampled_from([EPOCH, EPOCH, EPOCH, EPOCH + 1]),
        age=st.integers(0, 2),
    )
    def finish(self, subtask, stored, epoch, age):
        entry = part(subtask, "f") if stored else None
        counts = epoch == EPOCH and subtask in SUBTASKS
        captured = (self.pending or self.next_id) - age
        if counts:
            self.finished[subtask], self.captured[subtask] = entry, captured
        assert self.ledger.finish(epoch, subtask, entry, captured) is (counts and self.is_complete())
        if self.is_complete():
            self.complete()

    @rule(age=st.integers(0, 1))
    def abort(self, age):
        checkpoint_id = (self.pending or self.next_id) - age
        aborted = self.pending is not None and age == 0
        assert self.ledger.abort(checkpoint_id) is aborted
        if aborted:
            self.pending, self.acks = None, {}

    @invariant()
    def says_what_is_missing(self):
        if not hasattr(self, "ledger"):
            return
        assert self.ledger.pending == self.pending
        assert self.ledger.all_finished == (set(self.finished) == set(SUBTASKS))
        if self.pending is not None:
            assert self.ledger.missing() == sorted(self.missing())


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_one_at_a_time():
    ledger = Ledger(SUBTASKS, EPOCH)
    ledger.begin(1)
    with pytest.raises(AssertionError, match="still pending"):
        ledger.begin(2)


def test_an_incomplete_checkpoint_cannot_be_completed():
    ledger = Ledger(SUBTASKS, EPOCH)
    with pytest.raises(AssertionError, match="no checkpoint is pending"):
        ledger.complete()
    ledger.begin(1)
    with pytest.raises(AssertionError, match="lacks parts"):
        ledger.complete()


def test_what_a_subtask_acknowledged_before_it_finished_stands_for_that_checkpoint():
    """Its last file is later than the barrier; the pending checkpoint must have the state at the barrier."""
    ledger = Ledger([(0, 0), (1, 0)], EPOCH)
    ledger.begin(1)
    ledger.acknowledge(EPOCH, 1, (0, 0), part((0, 0), 1))
    ledger.finish(EPOCH, (0, 0), part((0, 0), "f"))
    assert ledger.acknowledge(EPOCH, 1, (1, 0), part((1, 0), 1))
    assert ledger.complete() == [part((0, 0), 1), part((1, 0), 1)]
    ledger.begin(2)
    assert ledger.acknowledge(EPOCH, 2, (1, 0), part((1, 0), 2))
    assert ledger.complete() == [part((0, 0), "f"), part((1, 0), 2)]


def test_a_last_snapshot_does_not_stand_for_an_acknowledgement_that_was_lost():
    """The barrier of checkpoint 1 has gone out, so records that came after it are in the last snapshot only."""
    ledger = Ledger([(0, 0), (1, 0)], EPOCH)
    ledger.begin(1)
    assert not ledger.acknowledge(EPOCH, 1, (1, 0), part((1, 0), 1))
    assert not ledger.finish(EPOCH, (0, 0), part((0, 0), "f"), captured=1)
    assert ledger.missing() == [(0, 0)]
    ledger.abort(1)
    ledger.begin(2)
    assert ledger.acknowledge(EPOCH, 2, (1, 0), part((1, 0), 2))
    assert ledger.complete() == [part((0, 0), "f"), part((1, 0), 2)]
