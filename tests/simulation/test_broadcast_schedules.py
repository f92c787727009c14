"""Broadcast state under random schedules, crashes and rescaling: all subtasks end with all rules."""

import random
from collections import Counter

import numpy as np
import pytest

from streamcore import BroadcastFunction, Checkpointing, Columns, MapState, Schema, StreamEnvironment, ValueState
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import IncompatibleSnapshotError
from streamcore.job.config import RunConfig
from streamcore.runtime.broadcast import BroadcastContext
from streamcore.testing import MemorySink, SimulatedWorld

RECORDS, RULES, KEYS, NAMES = 150, 60, 7, 40
RECORD, RULE = Schema.of(key=int, n=int), Schema.of(name=int, version=int)


def records(start, stop):
    number = np.arange(start, stop)
    return Columns(RECORD, {"key": number % KEYS, "n": number})


def rules(start, stop):
    number = np.arange(start, stop)
    return Columns(RULE, {"name": number * 7 % NAMES, "version": number})


class NewestRules(BroadcastFunction):
    """Counts records by key; keeps the newest version of each rule, in whatever order they come."""

    def open(self, ctx):
        self.rules = ctx.broadcast_state(MapState("rules"))
        self.count = ctx.state(ValueState("count", 0))

    def process_broadcast(self, record, ctx):
        if record.version > self.rules.get(record.name, -1):
            self.rules.put(record.name, record.version)

    def process(self, record, ctx):
        self.count.set(self.count.get() + 1)
        ctx.emit(("record", ctx.key, self.count.get()))

    def finish(self, ctx):
        ctx.emit(("rules", ctx.subtask, tuple(sorted(self.rules.items()))))


def run_schedule(seed):
    """One schedule with crashes; returns how many checkpoints were restored from at another parallelism."""
    chance, world, sink = random.Random(seed), SimulatedWorld(seed), MemorySink()
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.0003, 0.001))
    old = rescaled = 0
    for last in (False, False, False, True):
        env = StreamEnvironment(
            "rules", parallelism=2, max_parallelism=8, buffer_timeout=0.0005, batch_size=chance.choice([1, 2, 5])
        )
        stream = env.source(GeneratorSource(records, count=RECORDS, splits=2, schema=RECORD)).key_by("key")
        broadcast = env.source(GeneratorSource(rules, count=RULES, splits=2, schema=RULE)).broadcast()
        out = stream.connect(broadcast).process(NewestRules()).uid("rules")
        out.sink(sink)
        has_checkpoint = any(b'"kind": "checkpoint"' in data for data in world.storage.files.values())
        config = RunConfig(checkpointing=checkpointing, restore="latest" if has_checkpoint else None)
        crash_after = None if last else chance.randint(100, 700)
        for new in (chance.choice([1, 2, 3]), 1, 2, 3):
            out.parallelism(new)
            try:
                result = world.run(env.compile(), config, crash_after=crash_after)
            except IncompatibleSnapshotError:  # some subtasks had finished: only the old parallelism will do
                continue
            break
        rescaled += has_checkpoint and new != old
        old = new
        if result is not None:
            break
    found = Counter(row for row in sink.committed if row[0] == "record")
    assert found == Counter(("record", n % KEYS, n // KEYS + 1) for n in range(RECORDS)), f"seed {seed}"
    ends = sorted(row[1:] for row in sink.committed if row[0] == "rules")
    newest = {rule.name: rule.version for rule in rules(0, RULES).to_rows()}
    assert ends == [(subtask, tuple(sorted(newest.items()))) for subtask in range(len(ends))], f"seed {seed}"
    assert ends
    return rescaled


def run_schedules():
    return sum(run_schedule(seed) for seed in range(40))


def test_every_subtask_ends_with_the_newest_rules():
    assert run_schedules() > 10


def test_the_simulation_finds_state_that_new_subtasks_do_not_get(monkeypatch):
    def takes_its_own_part_only(self, operator, output, *, keyed, make=BroadcastContext.__init__):
        make(self, operator, output, keyed=keyed)
        if not any(part.subtask == operator.subtask for part in operator.saved):
            self._saved = {}

    monkeypatch.setattr(BroadcastContext, "__init__", takes_its_own_part_only)
    with pytest.raises(AssertionError, match="seed"):
        run_schedules()
