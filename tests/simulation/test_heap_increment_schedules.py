"""State of Python objects that is encoded while the stream goes on, in increments, under random schedules with crashes
and restores at another parallelism: every key's lists, maps and values are right, and no file is left that no kept
manifest names."""

import random
from collections import defaultdict

import pytest

from streamcore import Checkpointing, ListState, MapState, ProcessFunction, StreamEnvironment, ValueState
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.state import changed_keys, guarded_values, object_capture
from streamcore.state.guarded_values import GuardedValues
from streamcore.testing import MemorySink, SimulatedWorld

RECORDS, KEYS, SEEDS = 8000, 400, 10


def numbers(start, stop):
    """(number, key): once all keys are there, few change."""
    return [(n, n % KEYS if n < 800 or n % 100 == 0 else n % 5) for n in range(start, stop)]


class Gather(ProcessFunction):
    """The sum of each key's numbers, from a list of a few parts, and how many there were of each remainder, emitted at
    the end; and a value that is forgotten from time to time."""

    def open(self, ctx):
        self.numbers = ctx.state(ListState("numbers"))
        self.remainders = ctx.state(MapState("remainders"))
        self.sums = ctx.state(ValueState("sums", None))

    def process(self, record, ctx):
        number, _key = record
        self.numbers.add(number)
        if len(parts := self.numbers.get()) > 3:
            self.numbers.set([sum(parts)])
        self.remainders.put(number % 3, (self.remainders.get(number % 3) or 0) + 1)
        sums = self.sums.get()
        if number % 7 == 6 and sums is not None:
            self.sums.clear()  # and again from the start: their order doesn't matter to the other two
        else:
            self.sums.set([1 if sums is None else sums[0] + 1])

    def finish(self, ctx):
        for key in self.numbers.all_keys():
            self.remainders._current.key = key
            ctx.emit((key, sum(self.numbers.get()), tuple(sorted(self.remainders.items()))))


def make_job(sink, parallelism):
    env = StreamEnvironment("heap", parallelism=parallelism, batch_size=8, buffer_timeout=0.0005)
    stream = env.source(GeneratorSource(numbers, count=RECORDS, splits=2)).uid("source").key_by(lambda r: r[1])
    stream.process(Gather()).uid("gather").sink(sink).uid("sink")
    counted = stream.scan([], lambda state, r: ([*state[-2:], r[0]], ()))
    counted.filter(lambda result: False).uid("none").sink(MemorySink()).uid("nowhere")
    return env.compile()


def run_schedule(seed):
    """Crashes, restores, and runs to the end; returns the output and the longest chain that was restored from."""
    chance = random.Random(seed)
    world, sink, longest = SimulatedWorld(seed), MemorySink(), 0
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.0005, 0.003), retain=chance.randint(1, 2))
    for turn in range(3):
        log = CheckpointLog(world.storage)
        restore = "latest" if log.checkpoints() else None
        if restore:
            longest = max(longest, *(len(part.tables) for part in log.latest().subtasks))
        config = RunConfig(checkpointing=checkpointing, restore=restore)
        crash_after = chance.randint(1200, 3600) if turn < 2 else None
        if world.run(make_job(sink, chance.randint(1, 3)), config, crash_after=crash_after) is not None:
            break
    kept = set().union(*(entry.paths for entry in CheckpointLog(world.storage).checkpoints()))
    assert {path for path in world.storage.files if not path.startswith("log/")} == kept, f"seed {seed}"
    return sorted(sink.committed), longest


def expected():
    found = defaultdict(list)
    for number, key in numbers(0, RECORDS):
        found[key].append(number)
    return sorted(
        (key, sum(of_key), tuple((r, n) for r in range(3) if (n := sum(x % 3 == r for x in of_key))))
        for key, of_key in found.items()
    )


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch):
    monkeypatch.setattr(object_capture, "STEP_KEYS", 24)
    monkeypatch.setattr(guarded_values, "_DRAINED", 5)


def test_state_is_right_under_every_schedule():
    chains = []
    for seed in range(SEEDS):
        committed, longest = run_schedule(seed)
        assert committed == expected(), f"seed {seed}"
        chains.append(longest)
    assert max(chains) > 2, "no chain of increments was ever restored"


def is_found():
    return any(run_schedule(seed)[0] != expected() for seed in range(SEEDS))


def test_without_setting_values_aside_it_is_wrong(monkeypatch):
    monkeypatch.setattr(object_capture.ObjectCapture, "keep", lambda self, key, value: None)
    assert is_found()


def test_without_noting_changes_it_is_wrong(monkeypatch):
    monkeypatch.setattr(changed_keys.ChangedKeys, "add", lambda self, keys: None)
    assert is_found()


def test_without_putting_new_keys_in_it_is_wrong(monkeypatch):
    drain = GuardedValues.drain

    def forgetful(self):
        self._fresh.clear()
        return drain(self)

    monkeypatch.setattr(GuardedValues, "drain", forgetful)
    assert is_found()
