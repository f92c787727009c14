"""Windows over rows and event timers under random schedules, with crashes, restored at another parallelism."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from streamcore import (
    Checkpointing,
    MapState,
    ProcessFunction,
    Schema,
    StreamEnvironment,
    WindowFunction,
    bounded_out_of_orderness,
    milliseconds,
    session,
    sliding,
)
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.runtime.operators.row_windows import RowWindows
from streamcore.state.timers import TimerQueue
from streamcore.testing import MemorySink, SimulatedWorld
from tests.row_window_rig import every_window

SPLITS, PER_SPLIT, BOUND, GAP, SIZE, EVERY = 3, 40, 9, 12, 50, 20
RECORD = Schema.of(key=str, t=int, n=int)
ROWS = [(f"k{i * i % 7}", 5 * (i % PER_SPLIT) - i * 7919 % (BOUND + 1), i) for i in range(SPLITS * PER_SPLIT)]


def expected():
    """By definition: sessions of each key, sliding windows of their results, and what the timers give."""
    inner = []
    for key in {row[0] for row in ROWS}:
        parts = []
        for _, t, n in sorted(row for row in ROWS if row[0] == key):
            if parts and t - parts[-1][-1][0] <= GAP:
                parts[-1].append((t, n))
            else:
                parts.append([(t, n)])
        inner += [(key, part[0][0], part[-1][0] + GAP, sum(n for _, n in part)) for part in parts]
    outer = Counter()
    for _, _, end, total in inner:
        for start, _ in every_window(SIZE, EVERY, 0)(end - 1):
            outer[start] += total
    buckets = Counter()
    for key, t, n in ROWS:
        buckets[key, t - t % 10 + 9] += n
    timers = [(key, time, total) for (key, time), total in buckets.items()]
    return inner, list(outer.items()), timers + [("again", key, time + 7) for key, time, _ in timers]


INNER, OUTER, TIMERS = expected()


def add(first, second):
    return RECORD.make_row((first.key, first.t, first.n + second.n))


class Total(WindowFunction):
    def process(self, key, window, records, ctx):
        assert key is None
        ctx.emit((window.start_ms, sum(record.n for record in records)))


class Buckets(ProcessFunction):
    """Adds up the records of each 10 ms; a timer gives the sum, and sets another."""

    def open(self, ctx):
        self.sums = ctx.state(MapState("sums"))

    def process(self, record, ctx):
        end = ctx.timestamp - ctx.timestamp % 10 + 9
        self.sums.put(end, self.sums.get(end, 0) + record.n)
        ctx.register_event_timer(end)

    def on_event_timer(self, time_ms, ctx):
        total = self.sums.get(time_ms)
        if total is None:
            ctx.emit(("again", ctx.key, time_ms))
        else:
            ctx.emit((ctx.key, time_ms, total))
            self.sums.remove(time_ms)
            ctx.register_event_timer(time_ms + 7)


def make_job(sinks, *, parallelism, batch_size):
    env = StreamEnvironment(
        "rows", parallelism=parallelism, max_parallelism=16, batch_size=batch_size, buffer_timeout=0.0003
    )
    source = GeneratorSource(
        lambda start, stop: ROWS[start:stop], count=len(ROWS), splits=SPLITS, schema=RECORD, rate=5_000
    )
    stream = env.source(source, watermarks=bounded_out_of_orderness("t", milliseconds(BOUND))).uid("source")
    inner = stream.key_by("key").window(session(milliseconds(GAP))).reduce(add).uid("inner")
    inner.map(lambda row: (row.key, row.window_start, row.window_end, row.n)).sink(sinks[0]).uid("inner-sink")
    outer = inner.window_all(sliding(milliseconds(SIZE), every=milliseconds(EVERY))).process(Total()).uid("outer")
    outer.sink(sinks[1]).uid("outer-sink")
    stream.key_by("key").process(Buckets()).uid("timers").sink(sinks[2]).uid("timers-sink")
    return env.compile()


def run_schedule(seed, crashes):
    """One schedule; returns the (old, new) parallelism of the runs that went on from a checkpoint."""
    chance, world, sinks = random.Random(seed), SimulatedWorld(seed), [MemorySink() for _ in range(3)]
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.001, 0.004))
    parallelism, restored = 2, []
    for crash_after in [chance.randint(150, 900) for _ in range(crashes)] + [None]:
        config, before = RunConfig(checkpointing=checkpointing), parallelism
        if CheckpointLog(world.storage).checkpoints():
            config.restore = "latest"
            parallelism = chance.randint(1, 3)
        batch_size = chance.choice([1, 3, 20])
        job = make_job(sinks, parallelism=parallelism, batch_size=batch_size)
        done = world.run(job, config, crash_after=crash_after)
        if config.restore:
            restored.append((before, parallelism))
        if done is not None:
            break
    assert Counter(map(tuple, sinks[0].committed)) == Counter(INNER), f"seed {seed}"
    assert Counter(sinks[1].committed) == Counter(OUTER), f"seed {seed}"
    assert Counter(sinks[2].committed) == Counter(TIMERS), f"seed {seed}"
    return restored


def run_schedules(count):
    return [change for seed in range(count) for change in run_schedule(seed, crashes=3)]


def test_every_window_and_every_timer_once_through_crashes():
    restored = run_schedules(20)
    assert len(restored) > 25
    assert len(set(restored)) >= 7


def _forgets_event_timers(monkeypatch):
    monkeypatch.setattr(TimerQueue, "capture", lambda self, max_parallelism, *, allow_pickle: {})


def _moves_timers_to_other_subtasks(monkeypatch):
    def open_it(self, real=RowWindows.open):
        real(self)
        self.context.store.event_timers.with_windows = False

    monkeypatch.setattr(RowWindows, "open", open_it)


def _hands_the_watermark_on_first(monkeypatch):
    def advance(self, time_ms, real=RowWindows.advance):
        self.output.emit_watermark(time_ms)
        real(self, time_ms)

    monkeypatch.setattr(RowWindows, "advance", advance)


@pytest.mark.parametrize(
    "break_it", [_forgets_event_timers, _moves_timers_to_other_subtasks, _hands_the_watermark_on_first]
)
def test_the_simulation_finds_what_is_broken_on_purpose(break_it, monkeypatch):
    break_it(monkeypatch)
    with pytest.raises(AssertionError, match="seed"):
        run_schedules(20)
