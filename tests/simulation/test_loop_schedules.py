"""Several parallel heads whose feedback is shuffled by key straight back to them, under random schedules.

The case where the published rule for back edges hangs (a feedback barrier comes before a head's own forward
barriers) or miscounts (records behind that barrier are processed before the head's snapshot).
"""

import collections
import random

import pytest

from streamcore import Checkpointing, CoProcessFunction, OutputTag, StreamEnvironment, ValueState
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.runtime.alignment import Alignment
from streamcore.testing import MemorySink, SimulatedWorld, SimulationStuckError

HEADS, SOURCES, RECORDS, HOPS = 3, 2, 40, 4
AGAIN = OutputTag("again")


class Hop(CoProcessFunction):
    """Counts each (record, hop) and sends it round again until it has hopped enough."""

    def open(self, ctx):
        self._seen = ctx.state(ValueState("seen", 0))

    def process_first(self, record, ctx):
        self._seen.set(self._seen.get() + 1)
        number, hop = record
        ctx.emit((number, hop, self._seen.get()))
        if hop < HOPS:
            ctx.side_output(AGAIN, (number, hop + 1))

    process_second = process_first


def make_job(sink: MemorySink, batch_size: int):
    env = StreamEnvironment("hops", parallelism=HEADS, batch_size=batch_size, buffer_timeout=0.0005)
    records = env.source(
        GeneratorSource(lambda start, stop: [(i, 0) for i in range(start, stop)], count=RECORDS, splits=SOURCES)
    )
    with env.loop() as loop:
        hops = records.connect(loop.feedback).key_by(lambda r: r, lambda r: r).process(Hop())
        loop.close(hops.side_output(AGAIN))
    hops.sink(sink)
    return env.compile()


def run_schedule(seed: int) -> int:
    """One schedule with crashes and restores; returns how many checkpoints were restored from."""
    chance = random.Random(seed)
    world, sink = SimulatedWorld(seed), MemorySink()
    job = make_job(sink, batch_size=chance.choice([1, 2, 5]))
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.0003, 0.002))
    restored = 0
    for _ in range(chance.randint(2, 4)):
        config = RunConfig(checkpointing=checkpointing, restore="latest" if _has_checkpoint(world) else None)
        restored += config.restore is not None
        if world.run(job, config, crash_after=chance.randint(120, 420)) is not None:
            break
    else:
        config = RunConfig(checkpointing=checkpointing, restore="latest" if _has_checkpoint(world) else None)
        restored += config.restore is not None
        world.run(job, config)
    expected = collections.Counter((number, hop, 1) for number in range(RECORDS) for hop in range(HOPS + 1))
    assert collections.Counter(sink.committed) == expected, f"seed {seed}"
    return restored


def _has_checkpoint(world: SimulatedWorld) -> bool:
    return any(b'"kind": "checkpoint"' in data for path, data in world.storage.files.items() if path.startswith("log/"))


def run_schedules(count: int, first: int = 0) -> int:
    return sum(run_schedule(seed) for seed in range(first, first + count))


@pytest.mark.parametrize("first", range(0, 1000, 250))  # in parts, which can run beside each other
def test_a_thousand_schedules_with_crashes_are_exactly_once(first):
    assert run_schedules(250, first) > 125  # the crashes did hit jobs that had checkpoints


def test_without_holding_feedback_channels_the_simulation_finds_wrong_results(monkeypatch):
    """The rule that reads on behind an early feedback barrier: some schedule must catch it."""
    holds = Alignment.holds
    monkeypatch.setattr(
        Alignment, "holds", lambda self, channel: channel not in self._feedback and holds(self, channel)
    )
    with pytest.raises((AssertionError, SimulationStuckError)):
        run_schedules(300)


def test_without_the_feedback_log_the_simulation_finds_lost_records(monkeypatch):
    captured = Alignment.captured
    monkeypatch.setattr(Alignment, "captured", lambda self: captured(self) and [])
    with pytest.raises((AssertionError, SimulationStuckError)):
        run_schedules(300)
