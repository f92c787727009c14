"""Windows that take late records, by key and over the stream as a whole, under random schedules with crashes: each
late record gives one result, and the last one of a window has all its records."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from streamcore import (
    Checkpointing,
    OutputTag,
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    count,
    milliseconds,
    sliding,
    sum_of,
    tumbling,
)
from streamcore.api.aggregating import add_aggregate, bind_aggregates
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.operators.window import PartialAggregate, WindowAggregate
from streamcore.state.sliding import SlidingMerge
from streamcore.testing import MemorySink, SimulatedWorld

SPLITS, PER_SPLIT, SPREAD, BOUND, LATENESS = 2, 60, 30, 3, 1000
RECORD = Schema.of(key=str, t=int, n=int)
ROWS = [(f"k{i * i % 3}", 2 * (i % PER_SPLIT) - i * 7919 % (SPREAD + 1), i) for i in range(SPLITS * PER_SPLIT)]
BY_KEY, AS_A_WHOLE, STRICT = (
    sliding(milliseconds(24), every=milliseconds(3)),
    tumbling(milliseconds(25)),
    milliseconds(9),
)
TAG = OutputTag("late", RECORD)


def complete(windows, *, keyed):
    """(count, sum) of each window, by definition."""
    groups = {}
    for key, t, n in ROWS:
        for window in range(-40, 80):
            start, end = windows.bounds(window)
            if start <= t < end:
                groups.setdefault((*((key,) if keyed else ()), start, end), []).append(n)
    return {place: (len(values), sum(values)) for place, values in groups.items()}


def make_job(sinks, *, parallelism, two_stage, batch_size):
    env = StreamEnvironment(
        "late", parallelism=parallelism, max_parallelism=16, batch_size=batch_size, buffer_timeout=0.0003,
        two_stage=two_stage,
    )  # fmt: skip
    source = GeneratorSource(
        lambda start, stop: ROWS[start:stop], count=len(ROWS), splits=SPLITS, schema=RECORD, rate=6_000
    )
    stream = env.source(source, watermarks=bounded_out_of_orderness("t", milliseconds(BOUND))).uid("source")
    keyed, time, aggregates = stream.key_by("key"), EventTime("t"), (count(), sum_of("n"))
    by_key = add_aggregate(keyed, BY_KEY, time, bind_aggregates(keyed, aggregates), lateness_ms=LATENESS)
    by_key.uid("by key").sink(sinks[0]).uid("sink 0")
    whole = add_aggregate(stream, AS_A_WHOLE, time, bind_aggregates(stream, aggregates), lateness_ms=LATENESS)
    whole.uid("whole").sink(sinks[1]).uid("sink 1")
    strict = add_aggregate(keyed, tumbling(STRICT), time, bind_aggregates(keyed, aggregates), late_tag=TAG)
    strict.uid("strict").sink(sinks[2]).uid("sink 2")
    strict.side_output(TAG).sink(sinks[3]).uid("sink 3")
    return env.compile()


def check_updates(found, wanted, seed):
    """A window's counts go up one by one to that of all its records."""
    updates = {}
    for row in found:
        updates.setdefault(tuple(row[:-2]), []).append(tuple(row[-2:]))
    assert set(updates) == set(wanted), f"seed {seed}"
    again = 0
    for place, results in updates.items():
        results.sort()
        counts = [number for number, _ in results]
        assert counts == list(range(counts[0], counts[-1] + 1)), f"seed {seed}"
        assert results[-1] == wanted[place], f"seed {seed}"
        again += len(counts) - 1
    return again


def run_schedule(seed, crashes):
    """One schedule; returns how many results were updates, and how many records late where no lateness is allowed."""
    chance, world, sinks = random.Random(seed), SimulatedWorld(seed), [MemorySink() for _ in range(4)]
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.001, 0.004))
    settings = {"parallelism": 2, "two_stage": True}
    for crash_after in [chance.randint(150, 700) for _ in range(crashes)] + [None]:
        config = RunConfig(checkpointing=checkpointing)
        if CheckpointLog(world.storage).checkpoints():
            config.restore = "latest"
            settings = {"parallelism": chance.randint(1, 3), "two_stage": chance.random() < 0.5}
        batch_size = chance.choice([1, 3, 20])
        done = world.run(make_job(sinks, **settings, batch_size=batch_size), config, crash_after=crash_after)
        if done is not None:
            break
    again = check_updates(sinks[0].committed, complete(BY_KEY, keyed=True), seed)
    again += check_updates(sinks[1].committed, complete(AS_A_WHOLE, keyed=False), seed)
    late = [tuple(row) for row in sinks[3].committed]
    kept = Counter()
    for key, start, end, number, total in sinks[2].committed:
        inside = [n for k, t, n in ROWS if k == key and start <= t < end and (k, t, n) not in late]
        assert (number, total) == (len(inside), sum(inside)), f"seed {seed}"
        kept.update(inside)
    assert kept + Counter(n for _, _, n in late) == Counter(range(len(ROWS))), f"seed {seed}"
    return again, len(late)


def run_schedules(number):
    return [run_schedule(seed, crashes=3) for seed in range(number)]


def test_every_late_record_once_through_crashes_and_changes_of_plan():
    runs = run_schedules(6)
    assert sum(again for again, _ in runs) > 300
    assert sum(late for _, late in runs) > 40


def _adds_up_what_is_behind(monkeypatch):
    def start(self, *arguments, init=PartialAggregate.__init__, **options):
        init(self, *arguments, **{**options, "each_behind": False})

    monkeypatch.setattr(PartialAggregate, "__init__", start)


def _forgets_what_it_has_to_merge_again(monkeypatch):
    monkeypatch.setattr(SlidingMerge, "touch", lambda self, slots, slices: None)


def _forgets_time(monkeypatch):
    capture, never = WindowAggregate.capture, -(1 << 63)
    monkeypatch.setattr(WindowAggregate, "capture", lambda self, number: {**capture(self, number), "watermark": never})


@pytest.mark.parametrize("break_it", [_adds_up_what_is_behind, _forgets_what_it_has_to_merge_again, _forgets_time])
def test_the_simulation_finds_what_is_broken_on_purpose(break_it, monkeypatch):
    break_it(monkeypatch)
    with pytest.raises(AssertionError, match="seed"):
        run_schedules(6)
