"""Aggregates in and behind a loop, in one stage and in two, under schedules with crashes."""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

import pytest

from streamcore import (
    Checkpointing,
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    count,
    milliseconds,
    sum_of,
    tumbling,
)
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import TopologyError
from streamcore.job.config import RunConfig
from streamcore.testing import MemorySink, SimulatedWorld

RECORDS, HOPS, BOUND = 60, 4, 5


class Hop(NamedTuple):
    key: int
    t: int
    hop: int


SCHEMA = Schema.of(key=int, t=int, hop=int)
ROWS = [Hop(i % 7, 2 * (i % 30) - i * 7919 % (BOUND + 1), 0) for i in range(RECORDS)]


def make_job(sinks, batch_size, *, two_stage):
    """Each record goes round HOPS times. Aggregated: all that the loop's body sees, and what leaves it, in windows."""
    env = StreamEnvironment("loops", parallelism=2, batch_size=batch_size, buffer_timeout=0.0005, two_stage=two_stage)
    source = GeneratorSource(lambda start, stop: ROWS[start:stop], RECORDS, 20_000, splits=2, schema=SCHEMA)
    stream = env.source(source, watermarks=bounded_out_of_orderness("t", milliseconds(BOUND))).uid("source")
    with env.loop(SCHEMA) as loop:
        body = stream.union(loop.feedback).uid("body")
        further = body.filter_batch(lambda columns: columns["hop"] < HOPS)
        loop.close(further.map_batch(lambda columns: columns.with_columns(hop=columns["hop"] + 1)).uid("further"))
        body.key_by("key").aggregate(count(), sum_of("hop")).uid("all").sink(sinks[0]).uid("all-sink")
        fresh = body.filter_batch(lambda columns: columns["hop"] == 0).key_by("key")
        windows = fresh.window(tumbling(milliseconds(20)), time="t").aggregate(count()).uid("windows")
        windows.sink(sinks[1]).uid("windows-sink")
    return env.compile()


ALL = {(key, 9 * (HOPS + 1), 9 * sum(range(HOPS + 1))) for key in range(4)} | {
    (key, 8 * (HOPS + 1), 8 * sum(range(HOPS + 1))) for key in range(4, 7)
}
WINDOWS = Counter((row.key, row.t // 20 * 20, row.t // 20 * 20 + 20) for row in ROWS)


@pytest.mark.parametrize("two_stage", [False, True])
def test_every_result_once_through_crashes(two_stage):
    restored = 0
    for seed in range(15):
        chance, world, sinks = random.Random(seed), SimulatedWorld(seed), [MemorySink(), MemorySink()]
        job = make_job(sinks, chance.choice([1, 3, 20]), two_stage=two_stage)
        checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.0003, 0.001))
        for crash_after in [chance.randint(250, 700), chance.randint(250, 700), None]:
            complete = bool(CheckpointLog(world.storage).checkpoints())
            restored += complete
            config = RunConfig(checkpointing=checkpointing, restore="latest" if complete else None)
            if world.run(job, config, crash_after=crash_after) is not None:
                break
        assert sorted(map(tuple, sinks[0].committed)) == sorted(ALL), f"seed {seed}"
        assert sorted(map(tuple, sinks[1].committed)) == sorted((*at, n) for at, n in WINDOWS.items()), f"seed {seed}"
    assert restored > 10


@pytest.mark.parametrize("two_stage", [False, True])
@pytest.mark.parametrize("parallelism", [1, 2])
def test_results_at_the_end_of_input_can_not_go_round(two_stage, parallelism):
    """An aggregate over a loop's feedback that closes the loop would wait for itself."""
    env = StreamEnvironment("round", parallelism=parallelism, two_stage=two_stage)
    with env.loop(SCHEMA) as loop:
        body = env.from_values(ROWS, SCHEMA).union(loop.feedback)
        loop.close(body.key_by("key").aggregate(t=count(), hop=sum_of("hop")))
    with pytest.raises(TopologyError, match=r"after the loop was over|a loop that is over") as caught:
        env.execute()
    assert "from an aggregate" in str(caught.value)
