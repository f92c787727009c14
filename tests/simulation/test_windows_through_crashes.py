"""Windows under random schedules, with crashes, restored at another parallelism and with another number of stages."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from streamcore import (
    Checkpointing,
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    count,
    max_of,
    milliseconds,
    sliding,
    sum_of,
    tumbling,
)
from streamcore.checkpoint.inspect import read_state
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.runtime.operators.source import SourceOperator
from streamcore.runtime.operators.window import PartialAggregate, WindowAggregate
from streamcore.testing import MemorySink, SimulatedWorld

SPLITS, PER_SPLIT, BOUND = 3, 60, 9
RECORD = Schema.of(key=str, t=int, n=int)
ROWS = [(f"k{i * i % 5}", 3 * (i % PER_SPLIT) - i * 7919 % (BOUND + 1), i) for i in range(SPLITS * PER_SPLIT)]
INNER, OUTER = sliding(milliseconds(20), every=milliseconds(8)), tumbling(milliseconds(50))


def grouped(rows, windows):
    """The values of each (key, window), by definition; rows are (key, time, value)."""
    groups = {}
    for key, t, value in rows:
        for window in range(-10, 100):
            start, end = windows.bounds(window)
            if start <= t < end:
                groups.setdefault((key, start, end), []).append(value)
    return groups


INNER_RESULTS = [(*place, len(values), sum(values)) for place, values in grouped(ROWS, INNER).items()]
OUTER_RESULTS = [
    (*place, sum(values), max(values))
    for place, values in grouped([(key, end - 1, n) for key, _, end, n, _ in INNER_RESULTS], OUTER).items()
]


def make_job(sinks, *, parallelism, two_stage, batch_size):
    env = StreamEnvironment(
        "windows",
        parallelism=parallelism,
        max_parallelism=16,
        batch_size=batch_size,
        buffer_timeout=0.0003,
        two_stage=two_stage,
    )
    source = GeneratorSource(
        lambda start, stop: ROWS[start:stop], count=len(ROWS), splits=SPLITS, schema=RECORD, rate=6_000
    )
    stream = env.source(source, watermarks=bounded_out_of_orderness("t", milliseconds(BOUND))).uid("source")
    inner = stream.key_by("key").window(INNER).aggregate(count(), sum_of("n")).uid("inner")
    inner.sink(sinks[0]).uid("inner-sink")
    outer = inner.key_by("key").window(OUTER).aggregate(sum_of("count"), max_of("count")).uid("outer")
    outer.sink(sinks[1]).uid("outer-sink")
    return env.compile()


def run_schedule(seed, crashes):
    """One schedule; returns the settings of the runs that went on from a checkpoint."""
    chance, world, sinks = random.Random(seed), SimulatedWorld(seed), [MemorySink(), MemorySink()]
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.001, 0.004))
    settings, restored = {"parallelism": 2, "two_stage": True}, []
    for crash_after in [chance.randint(150, 700) for _ in range(crashes)] + [None]:
        config = RunConfig(checkpointing=checkpointing)
        before = settings
        if CheckpointLog(world.storage).checkpoints():
            config.restore = "latest"
            settings = {"parallelism": chance.randint(1, 3), "two_stage": chance.random() < 0.5}
        batch_size = chance.choice([1, 3, 20])
        done = world.run(make_job(sinks, **settings, batch_size=batch_size), config, crash_after=crash_after)
        if config.restore:
            restored.append((before, settings))
        if done is not None:
            break
    assert Counter(sinks[0].committed) == Counter(INNER_RESULTS), f"seed {seed}"
    assert Counter(sinks[1].committed) == Counter(OUTER_RESULTS), f"seed {seed}"
    return restored


def run_schedules(count):
    return [change for seed in range(count) for change in run_schedule(seed, crashes=3)]


def test_every_window_once_through_crashes_and_changes_of_plan():
    restored = run_schedules(30)
    assert len(restored) > 40
    changes = [(old["two_stage"], new["two_stage"]) for old, new in restored]
    assert {(False, True), (True, False), (True, True), (False, False)} == set(changes)
    assert len({(old["parallelism"], new["parallelism"]) for old, new in restored}) == 9


def test_every_window_once_without_crashes():
    for seed in range(25):
        run_schedule(1000 + seed, crashes=0)


def _keeps_over_barriers(monkeypatch):
    monkeypatch.setattr(PartialAggregate, "before_barrier", lambda self: None)


def _forgets_time(monkeypatch):
    def capture(self, checkpoint_id, capture=SourceOperator.capture):
        return {**capture(self, checkpoint_id), "times": {}}

    monkeypatch.setattr(SourceOperator, "capture", capture)
    old, never = WindowAggregate.capture, -(1 << 63)
    monkeypatch.setattr(WindowAggregate, "capture", lambda self, number: {**old(self, number), "watermark": never})


def _sends_slices_too_late(monkeypatch):
    def advance(self, time_ms, advance=PartialAggregate.advance):
        advance(self, time_ms - 40)
        self.output.emit_watermark(time_ms)

    monkeypatch.setattr(PartialAggregate, "advance", advance)


@pytest.mark.parametrize("break_it", [_keeps_over_barriers, _forgets_time, _sends_slices_too_late])
def test_the_simulation_finds_what_is_broken_on_purpose(break_it, monkeypatch):
    break_it(monkeypatch)
    with pytest.raises(AssertionError, match="seed"):
        run_schedules(30)


def test_the_state_of_windows_can_be_read_from_a_checkpoint():
    world = SimulatedWorld(seed=5)
    config = RunConfig(checkpointing=Checkpointing("simulated://", interval=0.002))
    job = make_job([MemorySink(), MemorySink()], parallelism=2, two_stage=True, batch_size=20)
    assert world.run(job, config, crash_after=400) is None
    manifest = CheckpointLog(world.storage).latest()
    state = read_state(world.storage, manifest)
    assert "inner-partial" not in state
    assert "inner-partial" not in manifest.operators
    rows = [row for rows in state["inner"]["windows"].values() for row in rows]
    assert rows
    assert all(row.count > 0 and row.key.startswith("k") for row in rows)
