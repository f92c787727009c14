"""Transactional ids: which may be used again, whatever the order of barriers, commits and crashes."""

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamcore.connectors.kafka.ids import Slots, id_name, parse_id


def test_names():
    assert id_name("job-topic", 3, 0) == "job-topic-3-0"
    assert parse_id("job-topic", "job-topic-3-0") == (3, 0)
    assert parse_id("job", "job-topic-3-0") is None
    assert parse_id("job-topic", "job-topic-check") is None
    assert parse_id("a.b", "axb-1-2") is None


class Job(RuleBasedStateMachine):
    """A subtask that cuts, commits beside the stream, completes some checkpoints, and is restored from the newest."""

    def __init__(self):
        super().__init__()
        self.slots = Slots()
        self.open = self.slots.take()
        self.uncommitted = []  # (checkpoint, slot), as the engine keeps them
        self.checkpoint = 0
        self.snapshots = {}  # checkpoint → the slots whose handles it has
        self.newest = set()
        self.seen = 1

    @rule()
    def cut_with_records(self):
        self._cut(self.open)
        self.open = self.slots.take()
        assert self.open not in self.newest, "an id that the newest snapshot would commit is written with"
        assert self.open not in [slot for _, slot in self.uncommitted]
        self.seen = max(self.seen, self.open)

    @rule()
    def cut_without_records(self):
        self._cut(None)

    def _cut(self, slot):
        self.checkpoint += 1
        number = self.slots.cut()
        if slot is not None:
            self.slots.prepared(slot, number)
            self.uncommitted.append((self.checkpoint, slot))
        self.snapshots[self.checkpoint] = {one for _, one in self.uncommitted}

    @precondition(lambda self: self.snapshots)
    @rule()
    def complete_the_last_one_cut(self):
        """All before it count as complete with it; their handles are committed one checkpoint after the other."""
        self.newest = self.snapshots.pop(self.checkpoint, self.newest)
        self.snapshots.clear()
        for checkpoint in sorted({checkpoint for checkpoint, _ in self.uncommitted}):
            slots = [slot for at, slot in self.uncommitted if at == checkpoint]
            self.slots.checkpoint_complete(slots)
            for slot in slots:
                self.slots.committed(slot)
            self.uncommitted = [(at, slot) for at, slot in self.uncommitted if at != checkpoint]

    @rule()
    def crash(self):
        self.slots = Slots(self.newest)
        self.open = self.slots.take()
        assert self.open not in self.newest
        self.uncommitted, self.snapshots = [], {}

    @invariant()
    def few_ids_are_enough(self):
        assert self.seen <= 3 + max(self.checkpoint, 1), "ids are used again"


TestJob = Job.TestCase
TestJob.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_job_in_which_all_goes_well_takes_turns_with_two_ids():
    slots, used = Slots(), set()
    for _ in range(50):
        slot = slots.take()
        used.add(slot)
        slots.prepared(slot, slots.cut())
        slots.checkpoint_complete([slot])
        slots.committed(slot)
    assert used == {1, 2}
