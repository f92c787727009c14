"""Windows as users write them: small results, and each mistake as one error that names the user's own line."""

from __future__ import annotations

import datetime
import inspect
from dataclasses import dataclass
from pathlib import Path

import pytest

from streamcore import (
    OutputTag,
    ProcessFunction,
    StreamEnvironment,
    Windows,
    bounded_out_of_orderness,
    count,
    max_of,
    mean,
    min_of,
    monotonous,
    seconds,
    sliding,
    sum_of,
    tumbling,
)
from streamcore.connectors.iterable_source import IterableSource
from streamcore.errors import TopologyError

FILE = Path(__file__).name
NOON = datetime.datetime.fromisoformat("2026-11-21T12:00:00")
NOON_MS = int(NOON.replace(tzinfo=datetime.UTC).timestamp() * 1000)


@dataclass
class Reading:
    sensor: str
    time: int
    celsius: float
    when: datetime.datetime
    note: str
    maybe: int | None


def reading(sensor, time, celsius):
    return Reading(sensor, time, celsius, NOON + datetime.timedelta(milliseconds=time), "", None)


READINGS = [reading("a", 100, 1.0), reading("b", 900, 5.0), reading("a", 1500, 3.0), reading("a", 400, 2.0)]
LATE = OutputTag("late", Reading)


@pytest.fixture(params=[1, 2])
def env(request):
    return StreamEnvironment(parallelism=request.param, batch_size=2)


def stream_of(env, time="time"):
    return env.source(IterableSource(READINGS, Reading), watermarks=bounded_out_of_orderness(time, seconds(2)))


def collected(stream):
    return sorted(map(tuple, stream.execute_and_collect()))


def test_tumbling_windows(env):
    results = stream_of(env).key_by("sensor").window(tumbling(seconds(1))).aggregate(count(), mean("celsius"))
    assert results.schema.names == ("sensor", "window_start", "window_end", "count", "mean_celsius")
    assert collected(results) == [("a", 0, 1000, 2, 1.5), ("a", 1000, 2000, 1, 3.0), ("b", 0, 1000, 1, 5.0)]


def test_sliding_windows(env):
    windows = sliding(seconds(1), every=seconds(0.5))
    results = stream_of(env).key_by("sensor").window(windows).aggregate(total=sum_of("celsius"))
    assert collected(results) == [
        ("a", -500, 500, 3.0),
        ("a", 0, 1000, 3.0),
        ("a", 1000, 2000, 3.0),
        ("a", 1500, 2500, 3.0),
        ("b", 0, 1000, 5.0),
        ("b", 500, 1500, 5.0),
    ]


def test_datetimes_are_event_time(env):
    results = stream_of(env, "when").key_by("sensor").window(tumbling(seconds(1))).aggregate(count())
    assert collected(results)[0] == ("a", NOON_MS, NOON_MS + 1000, 2)


def test_a_function_is_event_time(env):
    stream = stream_of(env, lambda record: record.time + 10_000)
    results = stream.key_by("sensor").window(tumbling(seconds(1))).aggregate(count())
    assert collected(results)[0] == ("a", 10_000, 11_000, 2)


def test_watermarks_of_a_typed_stream_of_rows(env):
    rows = env.from_values(READINGS, Reading).map(
        lambda r: reading(r.sensor, r.time + 1000, r.celsius), returns=Reading
    )
    assigned = rows.forward().assign_watermarks(bounded_out_of_orderness("time", seconds(2)))
    results = assigned.key_by("sensor").window(tumbling(seconds(1))).aggregate(count())
    assert collected(results) == [("a", 1000, 2000, 2), ("a", 2000, 3000, 1), ("b", 1000, 2000, 1)]


def test_a_mapped_stream_keeps_its_event_time_by_the_field_s_name(env):
    @dataclass
    class Short:
        time: int
        odd: bool

    short = stream_of(env).map(lambda r: Short(r.time, r.celsius % 2 == 1), returns=Short)
    results = short.key_by("odd").window(tumbling(seconds(1))).aggregate(count())
    assert collected(results) == [(False, 0, 1000, 1), (True, 0, 1000, 2), (True, 1000, 2000, 1)]


def test_a_renamed_field_of_event_time(env):
    @dataclass
    class Renamed:
        sensor: str
        at: int

    renamed = stream_of(env).map(lambda r: Renamed(r.sensor, r.time), returns=Renamed)
    results = renamed.key_by("sensor").window(tumbling(seconds(1)), time="at").aggregate(count())
    assert collected(results) == [("a", 0, 1000, 2), ("a", 1000, 2000, 1), ("b", 0, 1000, 1)]


def test_a_side_output_has_event_time_by_name(env):
    class Aside(ProcessFunction):
        def process(self, record, ctx):
            ctx.side_output(LATE, record)

    aside = stream_of(env).process(Aside(), returns=Reading).side_output(LATE)
    results = aside.key_by("sensor").window(tumbling(seconds(1)), time="time").aggregate(count())
    assert collected(results)[0] == ("a", 0, 1000, 2)


def test_a_union_of_streams_with_the_same_event_time(env):
    both = stream_of(env).union(stream_of(env))
    results = both.key_by("sensor").window(tumbling(seconds(1))).aggregate(count())
    assert collected(results)[0] == ("a", 0, 1000, 4)


def test_aggregates_after_aggregates_and_of_a_column_called_count(env):
    counts = stream_of(env).key_by("sensor").window(tumbling(seconds(1))).aggregate(count())
    spread = counts.key_by("count").window(tumbling(seconds(10))).aggregate(sensors=count(), last=max_of("window_end"))
    assert collected(spread) == [(1, 0, 10_000, 2, 2000), (2, 0, 10_000, 1, 1000)]


def test_aggregates_without_windows(env):
    results = stream_of(env).key_by(("sensor", "note")).aggregate(min_of("time"), n=count())
    assert results.schema.names == ("sensor", "note", "min_time", "n")
    assert collected(results) == [("a", "", 100, 3), ("b", "", 900, 1)]


def test_no_records_no_results(env):
    empty = env.source(IterableSource([], Reading), watermarks=monotonous("time")).key_by("sensor")
    assert collected(empty.window(tumbling(seconds(1))).aggregate(count())) == []
    other = StreamEnvironment().from_values([], Reading).key_by("sensor")
    assert collected(other.aggregate(count())) == []


# --- mistakes ----------------------------------------------------------------------------------------------


def refused(call, *parts):
    """`call` raises one clear error that names the caller's line, and has all `parts`."""
    frame = inspect.currentframe().f_back
    with pytest.raises(TopologyError) as caught:
        call()
    text = str(caught.value)
    for part in (f"({FILE}:{frame.f_lineno})", *parts):
        assert part in text, f"{part!r} is not in {text!r}"
    assert caught.value.exit_code == 2
    assert "hint: " in text


SECOND = tumbling(seconds(1))


def keyed(env, **options):
    return env.from_values([], Reading, **options).key_by("sensor")


def timed(env):
    return stream_of(env).key_by("sensor")


def test_no_event_time(env):
    refused(lambda: keyed(env).window(SECOND), "window", "the stream from 'values'", "has no event time")


def test_event_time_that_a_map_has_dropped(env):
    @dataclass
    class Bare:
        sensor: str

    bare = stream_of(env).map(lambda r: Bare(r.sensor), returns=Bare).key_by("sensor")
    refused(lambda: bare.window(SECOND), "the stream from 'map'", "has no event time", "time='name'")


def test_event_time_of_different_streams(env):
    both = stream_of(env).union(stream_of(env, "when")).key_by("sensor")
    refused(lambda: both.window(SECOND), "the stream from 'union'", "has no event time")


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("tim", "there is no field 'tim'"),
        ("celsius", "field celsius: double can't be event time"),
        ("note", "field note: string can't be event time"),
        ("maybe", "field maybe: int64? can't be event time"),
    ],
)
def test_fields_that_are_no_event_time(env, field, said):
    strategy = monotonous(field)
    refused(lambda: env.source(IterableSource(READINGS, Reading), watermarks=strategy), "source", said)
    refused(lambda: env.from_values([], Reading).assign_watermarks(strategy), "assign_watermarks", said)
    refused(lambda: timed(env).window(SECOND, time=field), "window", said)


def test_event_time_in_a_field_of_an_untyped_stream(env):
    strategy = monotonous("time")
    said = "the stream has no type, so it has no field 'time'"
    refused(lambda: env.source(IterableSource(READINGS), watermarks=strategy), "source", said)
    refused(lambda: env.from_values(READINGS).assign_watermarks(strategy), "assign_watermarks", said)
    refused(lambda: env.from_values(READINGS).key_by("sensor").window(SECOND, time="time"), "window", said)


@pytest.mark.parametrize("method", [sum_of, mean, min_of, max_of])
def test_aggregates_of_fields_that_are_not_there_or_no_numbers(env, method):
    windowed = timed(env).window(SECOND)
    name = method.__name__.removesuffix("_of")
    refused(lambda: windowed.aggregate(method("celcius")), f"{name}_celcius of a field 'celcius' that isn't there")
    refused(lambda: windowed.aggregate(count(), method("note")), f"{name}_note of field note: string", "plain number")
    refused(lambda: keyed(env).aggregate(method("note")), f"{name}_note of field note: string", "plain number")


def test_two_results_of_one_name(env):
    windowed = timed(env).window(SECOND)
    refused(lambda: windowed.aggregate(count(), count()), "two results are named 'count'")
    refused(lambda: windowed.aggregate(sensor=count()), "two results are named 'sensor'")
    refused(lambda: windowed.aggregate(window_end=max_of("time")), "two results are named 'window_end'")
    again = windowed.aggregate(count()).key_by("window_start").window(SECOND)
    refused(lambda: again.aggregate(n=count()), "two results are named 'window_start'", "the field before")


def test_nothing_to_aggregate(env):
    refused(lambda: timed(env).window(SECOND).aggregate(), "nothing to aggregate")
    refused(lambda: keyed(env).aggregate(), "nothing to aggregate")


def test_what_is_no_aggregate_and_no_windows(env):
    refused(lambda: timed(env).window(SECOND).aggregate(count), "is no aggregate")
    refused(lambda: keyed(env).aggregate(n="celsius"), "'celsius' is no aggregate")
    refused(lambda: timed(env).window(seconds(1)), "1.0 is no windows")


def test_windows_are_values():
    assert tumbling(seconds(1)) == SECOND == Windows(1000, 1000)
    assert len({tumbling(seconds(1)), SECOND}) == 1
