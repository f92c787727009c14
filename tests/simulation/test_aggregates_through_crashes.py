"""Aggregates that keep objects - sets, lists, sketches, text - through crashes, at another parallelism and with another
number of stages after each."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from streamcore import (
    Checkpointing,
    Schema,
    StreamEnvironment,
    approx_count_distinct,
    bounded_out_of_orderness,
    collect,
    count_distinct,
    last_of,
    median,
    milliseconds,
    sliding,
    top_values,
)
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.state.object_parts import BytesCodec, ListCodec
from streamcore.testing import MemorySink, SimulatedWorld

SPLITS, PER_SPLIT, BOUND = 3, 50, 9
RECORD = Schema.of(key=str, t=int, word=str, n=int)
ROWS = [
    (f"k{i * i % 3}", SPLITS * (3 * (i % PER_SPLIT) - i * 7919 % BOUND // 3) + i // PER_SPLIT, f"w{i % 7}", i)
    for i in range(SPLITS * PER_SPLIT)
]
WINDOWS = sliding(milliseconds(90), every=milliseconds(40))
AGGREGATES = (
    count_distinct("word"),
    approx_count_distinct("word"),
    last_of("word"),
    top_values("n", 3),
    collect("n"),
    median("n"),
)


def results():
    groups = defaultdict(list)
    for key, t, word, n in ROWS:
        for window in range(-10, 20):
            start, end = WINDOWS.bounds(window)
            if start <= t < end:
                groups[key, start, end].append((t, word, n))
    for place, values in groups.items():
        values.sort()
        words, numbers = {word for _, word, _ in values}, [n for *_, n in values]
        last, top = values[-1][1], tuple(sorted(numbers)[:-4:-1])
        yield (*place, len(words), len(words), last, top, tuple(numbers), float(np.median(numbers)))


def make_job(sink, *, parallelism, two_stage, batch_size):
    env = StreamEnvironment(
        "objects",
        parallelism=parallelism,
        max_parallelism=16,
        batch_size=batch_size,
        buffer_timeout=0.0003,
        two_stage=two_stage,
    )
    source = GeneratorSource(
        lambda start, stop: ROWS[start:stop], count=len(ROWS), splits=SPLITS, schema=RECORD, rate=6_000
    )
    marks = bounded_out_of_orderness("t", milliseconds(SPLITS * BOUND))
    stream = env.source(source, watermarks=marks).uid("source")
    stream.key_by("key").window(WINDOWS).aggregate(*AGGREGATES).uid("windows").sink(sink).uid("sink")
    return env.compile()


def run_schedule(seed):
    chance, world, sink = random.Random(seed), SimulatedWorld(seed), MemorySink()
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.001, 0.004))
    settings, restored = {"parallelism": 2, "two_stage": True}, 0
    for crash_after in [chance.randint(150, 500) for _ in range(3)] + [None]:
        config = RunConfig(checkpointing=checkpointing)
        if CheckpointLog(world.storage).checkpoints():
            config.restore, restored = "latest", restored + 1
            settings = {"parallelism": chance.randint(1, 3), "two_stage": chance.random() < 0.5}
        batch_size = chance.choice([1, 3, 20])
        done = world.run(make_job(sink, **settings, batch_size=batch_size), config, crash_after=crash_after)
        if done is not None:
            break
    committed = [tuple(tuple(v) if isinstance(v, list) else v for v in row) for row in sink.committed]
    assert Counter(committed) == Counter(results()), f"seed {seed}"
    return restored


def run_schedules(count):
    return sum(run_schedule(seed) for seed in range(count))


def test_every_window_has_all_its_values_once():
    assert run_schedules(10) > 12


@pytest.mark.parametrize("codec", [ListCodec, BytesCodec])
def test_the_simulation_finds_objects_that_are_not_saved_whole(codec, monkeypatch):
    encode = codec.encode

    def encode_less(self, values):
        values = values.copy()
        values[-1:] = None
        return encode(self, values)

    monkeypatch.setattr(codec, "encode", encode_less)
    with pytest.raises(AssertionError, match="seed"):
        run_schedules(5)
