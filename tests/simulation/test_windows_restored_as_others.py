"""State of windows is taken up by the same windows over the same fields, and by no others."""

from __future__ import annotations

import pytest

from streamcore import (
    Checkpointing,
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    collect,
    count,
    count_distinct,
    count_windows,
    milliseconds,
    session,
    sliding,
    std_of,
    sum_of,
    tumbling,
    var_of,
)
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import IncompatibleSnapshotError
from streamcore.job.config import RunConfig
from streamcore.testing import MemorySink, SimulatedWorld

RECORD = Schema.of(k=str, t=int, n=int, x=float)
ROWS = [(f"k{i % 5}", 10 * i, i, i / 2) for i in range(200)]
TUMBLING, SEVEN, SESSION = tumbling(milliseconds(100)), count_windows(7), session(milliseconds(100))


def per(windows, *aggregates, key="k"):
    return lambda stream: stream.key_by(key).window(windows).aggregate(*aggregates)


def folded(initial):
    def add(total, record):
        return total + (record.n if type(initial) is int else record.x)

    return lambda stream: stream.key_by("k").window(TUMBLING).fold(initial, add)


def make_job(build, sink):
    env = StreamEnvironment("j", batch_size=4, buffer_timeout=0.0003, max_parallelism=16)
    source = GeneratorSource(lambda start, stop: ROWS[start:stop], count=len(ROWS), splits=1, schema=RECORD, rate=6000)
    stream = env.source(source, watermarks=bounded_out_of_orderness("t", milliseconds(30))).uid("source")
    build(stream).uid("windows").sink(sink).uid("sink")
    return env.compile()


def restored(before, after):
    world, sink = SimulatedWorld(3), MemorySink()
    config = RunConfig(checkpointing=Checkpointing("simulated://", interval=0.002))
    assert world.run(make_job(before, sink), config, crash_after=400) is None
    config.restore = "latest"
    assert world.run(make_job(after, sink), config) is not None
    return sink.committed


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (per(TUMBLING, count()), per(tumbling(0.05), count()), "windows of 100 ms, and now they are of 50 ms"),
        (per(TUMBLING, count()), per(sliding(0.1, every=0.05), count()), "now they are of 100 ms every 50 ms"),
        (per(TUMBLING, count()), per(tumbling(0.1, offset=0.007), count()), "now they are of 100 ms from 7 ms"),
        (per(TUMBLING, count()), lambda stream: stream.key_by("k").aggregate(count()), "now they are of all time"),
        (per(TUMBLING, count()), per(SESSION, count()), "now they are of sessions"),
        (per(SESSION, count()), per(TUMBLING, count()), "windows of sessions, and now"),
        (per(TUMBLING, count()), per(SEVEN, count()), "now they are of 7 records"),
        (per(SEVEN, count()), per(TUMBLING, count()), "windows of 7 records, and now"),
        (per(TUMBLING, count()), per(TUMBLING, count(), sum_of("n")), "no column sum_n: int64 in the snapshot"),
        (per(SESSION, count()), per(SESSION, sum_of("n")), "no column sum_n: int64 in the snapshot"),
        (per(SEVEN, count_distinct("n")), per(SEVEN, collect("n")), "no column places_collected"),
        (folded(0.0), folded(0), "a column fold_value: double, not fold_value: int64 in the snapshot"),
        (
            per(TUMBLING, count()),
            per(TUMBLING, count(), key="n"),
            "kept by k: string in the snapshot, and by n: int64 now",
        ),
        (per(TUMBLING, count()), lambda stream: stream.window_all(TUMBLING).aggregate(count()), "kept by k"),
    ],
)
def test_what_was_added_up_for_others_is_refused(before, after, message):
    with pytest.raises(IncompatibleSnapshotError) as caught:
        restored(before, after)
    assert message in str(caught.value)
    assert "uid" in caught.value.hint


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (per(TUMBLING, count(), sum_of("n")), per(TUMBLING, count())),
        (per(TUMBLING, var_of("n")), per(TUMBLING, std_of("n"), var_of("n"))),
    ],
)
def test_what_is_needed_may_be_less_than_there_is(before, after):
    results = restored(before, after)
    assert sorted(result[:3] for result in results) == sorted(
        (f"k{key}", start, start + 100) for key in range(5) for start in range(0, 2000, 100)
    )
    assert {len(result) for result in results} == {4, 5}
