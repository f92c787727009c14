"""Aggregates of windows as the API adds them: lateness, late records, a stream without key."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from streamcore import (
    OutputTag,
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    count,
    monotonous,
    seconds,
    sliding,
    sum_of,
    tumbling,
)
from streamcore.api.aggregating import add_aggregate, bind_aggregates, bind_fold
from streamcore.errors import TopologyError
from streamcore.runtime.event_time import EventTime
from streamcore.testing import MemorySink


class Reading(NamedTuple):
    sensor: str
    time: int
    value: int


TIME = EventTime("time")
ROWS = [Reading("ab"[i % 2], 1000 * (i // 2), i) for i in range(40)]
LATE = [Reading("a", 500, 1), Reading("a", 600, 2), Reading("b", 12_000, 3)]


def readings(env, rows=ROWS, bound=100):
    return env.from_values(rows, Reading).assign_watermarks(bounded_out_of_orderness("time", seconds(bound)))


def aggregated(stream, windows, **options):
    return add_aggregate(stream, windows, TIME, bind_aggregates(stream, (count(), sum_of("value"))), **options)


def in_words(results):
    return sorted(map(tuple, results))


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("two_stage", [False, True])
@pytest.mark.parametrize("windows", [tumbling(seconds(5)), sliding(seconds(6), every=seconds(4)), None])
def test_a_stream_as_a_whole(parallelism, two_stage, windows):
    env = StreamEnvironment(parallelism=parallelism, two_stage=two_stage)
    stream = readings(env).rebalance().filter(lambda row: row.value != 3)
    found = aggregated(stream, windows).execute_and_collect()
    wanted = []
    for number in range(-3, 20) if windows is not None else [0]:
        start, end = windows.bounds(number) if windows is not None else (0, 1 << 40)
        values = [row.value for row in ROWS if start <= row.time < end and row.value != 3]
        if values:
            wanted.append((*((start, end) if windows is not None else ()), len(values), sum(values)))
    assert in_words(found) == sorted(wanted)


def test_a_stream_as_a_whole_is_added_up_before_it_meets():
    env = StreamEnvironment(parallelism=3)
    result = aggregated(readings(env).rebalance().map(lambda row: row, returns=Reading), tumbling(seconds(5)))
    result.sink(MemorySink())
    job = env.compile()
    assert [v.parallelism for v in job.vertices if any(o.name.startswith("partial") for o in v.operators)] == [3]
    assert [v.parallelism for v in job.vertices if any(o.name.startswith("aggregate") for o in v.operators)] == [1]
    assert aggregated(readings(StreamEnvironment()), None).schema.names == ("count", "sum_value")


def test_a_stream_as_a_whole_has_one_subtask():
    whole = aggregated(readings(StreamEnvironment()), tumbling(seconds(5)))
    assert whole.parallelism(1) is whole
    with pytest.raises(TopologyError, match=r"parallelism 2 .* takes the stream as a whole"):
        whole.parallelism(2)


def test_a_fold_over_a_stream_as_a_whole():
    stream = readings(StreamEnvironment(parallelism=2))
    bound = bind_fold(stream, 0, lambda total, row: total + row.value, None, None, None, False)
    found = add_aggregate(stream, tumbling(seconds(20)), TIME, [bound], can_merge=False).execute_and_collect()
    assert in_words(found) == [(0, 20_000, sum(range(40)))]


@pytest.mark.parametrize(
    "windows", [tumbling(seconds(5)), sliding(seconds(1), every=seconds(5)), sliding(seconds(5), every=seconds(1))]
)
@pytest.mark.parametrize("duration", [1e17, 1e307])
def test_no_lateness_is_too_long(windows, duration):
    rows = [Reading("a", time, 1) for time in (600, 50_600, 700, 3_600, 100_000)]
    stream = readings(StreamEnvironment(batch_size=1), rows, bound=0).key_by("sensor")
    results = stream.window(windows).allowed_lateness(duration).aggregate(count()).execute_and_collect()
    assert max(result.count for result in results if result.window_start == 0) == (
        2 if windows.every_ms > windows.size_ms else 3
    )


def test_a_name_is_no_tag():
    stream = readings(StreamEnvironment()).key_by("sensor").window(tumbling(seconds(5)))
    with pytest.raises(TopologyError, match=r"late_to .*'late' is no tag"):
        stream.late_to("late")


def test_lateness_counts_from_the_last_millisecond_of_a_window():
    rows = [*ROWS[:22], *LATE]  # the watermark comes to 9999
    env = StreamEnvironment(batch_size=1, buffer_timeout=0)
    stream = env.from_values(rows, Reading).assign_watermarks(monotonous("time")).key_by("sensor")
    results = in_words(aggregated(stream, tumbling(seconds(5)), lateness_ms=5001).execute_and_collect())
    assert [row for row in results if row[:3] == ("a", 0, 5000)] == [
        ("a", 0, 5000, 5, 20),
        ("a", 0, 5000, 6, 21),
        ("a", 0, 5000, 7, 23),
    ]


@pytest.mark.parametrize("type_", [None, Reading, Schema.of(sensor=str, time=int, value=int)])
@pytest.mark.parametrize("parallelism", [1, 2])
def test_late_records_come_as_they_were(type_, parallelism):
    env, late, main = (
        StreamEnvironment(parallelism=parallelism, batch_size=1, buffer_timeout=0),
        MemorySink(),
        MemorySink(),
    )
    stream = env.from_values([*ROWS, *LATE], Reading).assign_watermarks(monotonous("time")).key_by("sensor")
    tag = OutputTag("late", type_)
    result = aggregated(stream, tumbling(seconds(5)), late_tag=tag)
    result.sink(main)
    result.side_output(tag).sink(late)
    env.execute()
    assert in_words(late.committed) == sorted(map(tuple, LATE))
    assert sum(row.count for row in main.committed) == len(ROWS)


def test_a_tag_of_another_type():
    with pytest.raises(TopologyError, match="late records go to 'late' as"):
        aggregated(readings(StreamEnvironment()), tumbling(1), late_tag=OutputTag("late", Schema.of(sensor=str)))


def test_a_key_that_is_a_function_is_refused():
    with pytest.raises(TopologyError, match="a stream with a type, keyed by fields"):
        aggregated(readings(StreamEnvironment()).key_by(lambda row: row.sensor), tumbling(1))
    with pytest.raises(TopologyError, match="it needs a stream with a type"):
        aggregated(StreamEnvironment().from_values([1]), tumbling(1))


def test_a_jump_of_years_costs_nothing_and_extreme_times_are_right():
    far = 1 << 61
    rows = [Reading("a", -far, 1), Reading("a", 0, 2), Reading("a", far, 3)]
    strategy = bounded_out_of_orderness("time", seconds(100)).with_bad_times("fail", min_time=None, max_ahead=None)
    stream = StreamEnvironment().from_values(rows, Reading).assign_watermarks(strategy)
    found = aggregated(stream.key_by("sensor"), sliding(0.002, every=0.001))
    assert in_words(found.execute_and_collect()) == [
        ("a", time - step, time - step + 2, 1, value) for _, time, value in rows for step in (1, 0)
    ]
