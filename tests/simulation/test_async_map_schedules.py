"""Asynchronous calls under random schedules, crashes, loops, and restores at another parallelism."""

import asyncio
import collections
import random

import numpy as np
import pytest

from streamcore import Checkpointing, Columns, Schema, StreamEnvironment
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import IncompatibleSnapshotError
from streamcore.job.config import RunConfig
from streamcore.testing import MemorySink, SimulatedWorld

RECORD = Schema.of(number=int, hops=int)
COUNT = 150


def records(start, stop):
    number = np.arange(start, stop)
    return Columns(RECORD, {"number": number, "hops": number % 4})


async def look_up(record):
    await asyncio.sleep(0.05 if record.number == COUNT - 1 else 0.0001 * (record.number % 5))
    return record._replace(hops=record.hops - 1)


def straight(env, *, ordered):
    source = env.source(GeneratorSource(records, count=COUNT, splits=2, schema=RECORD))
    return source.async_map(look_up, returns=RECORD, ordered=ordered, capacity=4)


def round_a_loop(env, *, ordered):
    source = env.source(GeneratorSource(records, count=COUNT, splits=2, schema=RECORD))
    with env.loop(RECORD) as loop:
        asked = source.union(loop.feedback).async_map(look_up, returns=RECORD, ordered=ordered, capacity=4)
        loop.close(asked.filter(lambda record: record.hops >= 0))
    return asked.filter(lambda record: record.hops < 0)


def expected(build):
    if build is straight:
        return collections.Counter((number, number % 4 - 1) for number in range(COUNT))
    return collections.Counter((number, -1) for number in range(COUNT))


def run_schedule(build, seed):
    chance = random.Random(seed)
    world, sink = SimulatedWorld(seed), MemorySink()
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.0003, 0.001))
    ordered, restored = chance.random() < 0.5, 0
    for last in (False, False, True):
        env = StreamEnvironment("asking", batch_size=chance.choice([1, 5, 50]), parallelism=2, max_parallelism=8)
        stream = build(env, ordered=ordered)
        stream.sink(sink)
        has_checkpoint = any(b'"kind": "checkpoint"' in data for data in world.storage.files.values())
        restored += has_checkpoint
        config = RunConfig(checkpointing=checkpointing, restore="latest" if has_checkpoint else None)
        crash_after = None if last else chance.randint(200, 1500)
        for parallelism in (chance.choice([1, 2, 3]), 1, 2, 3):
            asked = next(node for node in env.graph.nodes if node.name == "async_map")
            asked.parallelism = parallelism
            try:
                result = world.run(env.compile(), config, crash_after=crash_after)
            except IncompatibleSnapshotError:  # some subtasks had finished: only the old parallelism will do
                continue
            break
        if result is not None:
            break
    assert collections.Counter(map(tuple, sink.committed)) == expected(build), f"seed {seed}"
    return restored


@pytest.mark.parametrize("build", [straight, round_a_loop])
def test_every_record_is_answered_once(build):
    assert sum(run_schedule(build, seed) for seed in range(25)) > 15
