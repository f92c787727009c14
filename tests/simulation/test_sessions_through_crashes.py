"""Sessions and windows by count under random schedules, with crashes, restored at another parallelism."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest

from streamcore import (
    Checkpointing,
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    count,
    count_windows,
    milliseconds,
    session,
    sum_of,
)
from streamcore.checkpoint.inspect import read_state
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.runtime.operators.session import SessionAggregate
from streamcore.state.counted import CountTable
from streamcore.state.sessions import SessionTable
from streamcore.testing import MemorySink, SimulatedWorld
from tests.property.session_reference import sessions_of_all

SPLITS, PER_SPLIT, BOUND, GAP = 3, 60, 9, 14
RECORD = Schema.of(key=str, t=int, n=int)
ROWS = [(f"k{i * i % 11}", 3 * (i % PER_SPLIT) - i * 7919 % (BOUND + 1), i) for i in range(SPLITS * PER_SPLIT)]
SESSIONS = [
    (key, start, end, len(mine), sum(ROWS[i][2] for i in mine))
    for key, start, end, mine in sessions_of_all([row[:2] for row in ROWS], GAP)
]
OUTER = [
    (count, start, end, len(mine))
    for count, start, end, mine in sessions_of_all([(row[3], row[2] - 1) for row in SESSIONS], 2 * GAP)
]
BY_SPLIT = Schema.of(split=int, key=str, t=int, n=int)


def windows_of_each_split():
    """Of the records of a split, whose order is fixed, the sum of the last 4 after every 3rd of a key."""
    wanted, groups = [], defaultdict(list)
    for i, (key, _, n) in enumerate(ROWS):
        mine = groups[i // PER_SPLIT, key]
        mine.append(n)
        if len(mine) % 3 == 0:
            wanted.append((i // PER_SPLIT, key, min(len(mine), 4), sum(mine[-4:])))
    return wanted


def make_job(sinks, *, parallelism, batch_size):
    env = StreamEnvironment(
        "sessions", parallelism=parallelism, max_parallelism=16, batch_size=batch_size, buffer_timeout=0.0003
    )
    rows = [(i // PER_SPLIT, *row) for i, row in enumerate(ROWS)]
    source = GeneratorSource(
        lambda start, stop: rows[start:stop], count=len(rows), splits=SPLITS, schema=BY_SPLIT, rate=6_000
    )
    stream = env.source(source, watermarks=bounded_out_of_orderness("t", milliseconds(BOUND))).uid("source")
    inner = stream.key_by("key").window(session(milliseconds(GAP))).aggregate(count(), sum_of("n")).uid("inner")
    inner.sink(sinks[0]).uid("inner-sink")
    outer = inner.key_by("count").window(session(milliseconds(2 * GAP))).aggregate(sessions=count()).uid("outer")
    outer.sink(sinks[1]).uid("outer-sink")
    counted = stream.key_by(("split", "key")).window(count_windows(4, every=3)).aggregate(count(), sum_of("n"))
    counted.uid("counted").sink(sinks[2]).uid("counted-sink")
    return env.compile()


def run_schedule(seed, crashes):
    """One schedule; returns the parallelisms before and after each restore."""
    chance, world, sinks = random.Random(seed), SimulatedWorld(seed), [MemorySink() for _ in range(3)]
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.001, 0.004))
    parallelism, restored = 2, []
    for crash_after in [chance.randint(300, 1300) for _ in range(crashes)] + [None]:
        config = RunConfig(checkpointing=checkpointing)
        before = parallelism
        if CheckpointLog(world.storage).checkpoints():
            config.restore = "latest"
            parallelism = chance.randint(1, 3)
        batch_size = chance.choice([1, 3, 20])
        done = world.run(
            make_job(sinks, parallelism=parallelism, batch_size=batch_size), config, crash_after=crash_after
        )
        if config.restore:
            restored.append((before, parallelism))
        if done is not None:
            break
    for sink, wanted in zip(sinks, (SESSIONS, OUTER, windows_of_each_split()), strict=True):
        assert Counter(map(tuple, sink.committed)) == Counter(wanted), f"seed {seed}"
    return restored


def run_schedules(count):
    return [change for seed in range(count) for change in run_schedule(seed, crashes=3)]


def test_every_result_once_through_crashes_and_changes_of_parallelism():
    restored = run_schedules(10)
    assert len(restored) > 12
    assert len(set(restored)) > 4


def test_every_result_once_without_crashes():
    for seed in range(5):
        run_schedule(1000 + seed, crashes=0)


def _forgets_sessions(monkeypatch):
    captured = SessionTable.captured
    monkeypatch.setattr(SessionTable, "captured", lambda self: captured(self).slice(0, len(self) // 2))


def _forgets_time(monkeypatch):
    capture, late = SessionAggregate.capture, 1 << 40
    monkeypatch.setattr(SessionAggregate, "capture", lambda self, number: {**capture(self, number), "watermark": late})


def _forgets_slices(monkeypatch):
    captured = CountTable.captured
    monkeypatch.setattr(CountTable, "captured", lambda self: captured(self).slice(0, len(captured(self)) // 2))


@pytest.mark.parametrize("break_it", [_forgets_sessions, _forgets_time, _forgets_slices])
def test_the_simulation_finds_what_is_broken_on_purpose(break_it, monkeypatch):
    break_it(monkeypatch)
    with pytest.raises(AssertionError, match="seed"):
        run_schedules(20)


def test_the_state_of_sessions_can_be_read_from_a_checkpoint():
    world, sinks = SimulatedWorld(seed=5), [MemorySink() for _ in range(3)]
    config = RunConfig(checkpointing=Checkpointing("simulated://", interval=0.002))
    assert world.run(make_job(sinks, parallelism=2, batch_size=20), config, crash_after=900) is None
    state = read_state(world.storage, CheckpointLog(world.storage).latest())
    sessions = [row for rows in state["inner"]["sessions"].values() for row in rows]
    assert sessions
    assert all(row.end - row.start >= GAP and row.count > 0 for row in sessions)
    slices = [row for rows in state["counted"]["count windows"].values() for row in rows]
    assert slices
    assert all(row.seen > 0 and 0 <= row.place < 4 for row in slices)
