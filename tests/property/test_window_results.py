"""Aggregates of windows are those of plain Python over the finished stream, however the records came and were cut."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamcore import (
    Schema,
    StreamEnvironment,
    Windows,
    bounded_out_of_orderness,
    count,
    max_of,
    mean,
    min_of,
    monotonous,
    sum_of,
    tumbling,
)
from streamcore.batch import to_columns
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.testing import MemorySink

MANY = settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(MANY, max_examples=60)

RECORD = Schema.of(number=int, word=str, flag=bool, t=int, n=int, x=float)
KEYS = ["number", "word", "flag", ("word", "number"), ("flag", "word", "number"), ("word",)]
AGGREGATES = {
    "count": (count(), len),
    "mean_n": (mean("n"), lambda rows: sum(r.n for r in rows) / len(rows)),
    "mean_x": (mean("x"), lambda rows: sum(r.x for r in rows) / len(rows)),
    "sum_n": (sum_of("n"), lambda rows: sum(r.n for r in rows)),
    "sum_x": (sum_of("x"), lambda rows: sum(r.x for r in rows)),
    "min_n": (min_of("n"), lambda rows: min(r.n for r in rows)),
    "min_x": (min_of("x"), lambda rows: min(r.x for r in rows)),
    "max_n": (max_of("n"), lambda rows: max(r.n for r in rows)),
    "max_x": (max_of("x"), lambda rows: max(r.x for r in rows)),
    "sum_flag": (sum_of("flag"), lambda rows: sum(r.flag for r in rows)),
}


class Row(NamedTuple):
    number: int
    word: str
    flag: bool
    t: int
    n: int
    x: float


class Setting(NamedTuple):
    """How the job runs, which must not matter."""

    batch_size: int
    buffer_timeout: float
    splits: int
    parallelism: int
    two_stage: bool
    as_columns: bool


SETTINGS = st.builds(
    Setting,
    st.sampled_from([1, 2, 7, 8192]),
    st.sampled_from([0.0, 0.002]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
# halves, so that sums of floats are exact in any order
VALUES = st.tuples(
    st.integers(-2, 3),
    st.sampled_from(["a", "b", "", "ü"]),
    st.booleans(),
    st.integers(-(1 << 40), 1 << 40),
    st.integers(-100, 100).map(lambda n: n / 2),
)
WINDOWS = st.builds(Windows, st.integers(1, 20), st.integers(1, 20), st.integers(-15, 15))


@st.composite
def streams(draw, bound):
    """Records at most `bound` ms out of order in any stretch of the stream."""
    now, rows = draw(st.integers(-100, 100)), []
    for number, word, flag, n, x in draw(st.lists(VALUES, max_size=40)):
        now += draw(st.integers(0, 6))
        rows.append(Row(number, word, flag, now - draw(st.integers(0, bound)), n, x))
    return rows


def run(setting, rows, build):
    """The committed results of what `build` makes of the stream of rows, and how many records were late."""

    def make(start, stop):
        return to_columns(rows[start:stop], RECORD) if setting.as_columns else rows[start:stop]

    env, sink, statuses = (
        StreamEnvironment(
            "windows",
            parallelism=setting.parallelism,
            batch_size=setting.batch_size,
            buffer_timeout=setting.buffer_timeout,
            two_stage=setting.two_stage,
        ),
        MemorySink(),
        [],
    )

    async def watch(status):
        statuses.append(status)

    build(env, GeneratorSource(make, count=len(rows), splits=setting.splits, schema=RECORD)).sink(sink)
    env.execute((watch,))
    return sink.committed, sum(counters.late_records for counters in statuses[0].counters.values())


def keys_of(key):
    names = (key,) if isinstance(key, str) else key
    return lambda row: tuple(getattr(row, name) for name in names)


def expected(rows, key, windows, names):
    """By definition: each window that has a record, made by going through all windows there could be."""
    groups = defaultdict(list)
    for row in rows:
        first = (row.t - windows.offset_ms - windows.size_ms) // windows.every_ms
        for window in range(first, first + windows.size_ms // windows.every_ms + 3):
            start, end = windows.bounds(window)
            if start <= row.t < end:
                groups[(*keys_of(key)(row), start, end)].append(row)
    return sorted((*place, *(AGGREGATES[name][1](got) for name in names)) for place, got in groups.items())


@MANY
@given(
    st.data(),
    st.integers(0, 12),
    st.sampled_from(KEYS),
    WINDOWS,
    st.lists(st.sampled_from(sorted(AGGREGATES)), min_size=1, max_size=4, unique=True),
    SETTINGS,
)
def test_windows(data, bound, key, windows, names, setting):
    rows = data.draw(streams(bound))

    def build(env, source):
        stream = env.source(source, watermarks=bounded_out_of_orderness("t", bound / 1000))
        return stream.key_by(key).window(windows).aggregate(*(AGGREGATES[name][0] for name in names))

    results, late = run(setting, rows, build)
    assert sorted(map(tuple, results)) == expected(rows, key, windows, names)
    assert late == 0


@FEW
@given(st.data(), st.sampled_from(KEYS), SETTINGS)
def test_whole_streams(data, key, setting):
    rows, names = data.draw(streams(50)), ["count", "min_x", "mean_n"]
    results, _ = run(
        setting, rows, lambda env, s: env.source(s).key_by(key).aggregate(*(AGGREGATES[name][0] for name in names))
    )
    whole = Windows(1 << 20, 1 << 20, -(1 << 19))
    width = len(keys_of(key)(Row(0, "", False, 0, 0, 0.0)))
    wanted = [(*row[:width], *row[width + 2 :]) for row in expected(rows, key, whole, names)]
    assert sorted(map(tuple, results)) == sorted(wanted)


@FEW
@given(st.data(), st.integers(0, 8), SETTINGS, st.integers(1, 15), st.integers(1, 15))
def test_windows_of_windows(data, bound, setting, size, every):
    """The second windows see each result of the first in time, at the last millisecond of its window."""
    rows, outer = data.draw(streams(bound)), Windows(size, every)

    def build(env, source):
        stream = env.source(source, watermarks=bounded_out_of_orderness("t", bound / 1000))
        counts = stream.key_by("word").window(tumbling(0.005)).aggregate(count(), x=sum_of("x"))
        return counts.key_by("count").window(outer).aggregate(n=count(), sum_x=sum_of("x"))

    inner = expected(rows, "word", Windows(5, 5), ["count", "sum_x"])
    again = [Row(number, word, False, end - 1, 0, x) for word, _, end, number, x in inner]
    results, late = run(setting, rows, build)
    assert sorted(map(tuple, results)) == expected(again, "number", outer, ["count", "sum_x"])
    assert late == 0


@FEW
@given(st.data(), st.integers(1, 12), SETTINGS)
def test_watermarks_that_are_assigned_on_the_way(data, bound, setting):
    rows, windows = data.draw(streams(bound)), Windows(10, 5)

    def build(env, source):
        stream = env.source(source, watermarks=monotonous(lambda row: row.t))  # wrong, and replaced
        kept = stream.filter(lambda row: row.number != 0).forward()
        assigned = kept.assign_watermarks(bounded_out_of_orderness(lambda row: row.t, bound / 1000))
        return assigned.key_by("word").window(windows, time="t").aggregate(count())

    if setting.splits < setting.parallelism:
        setting = setting._replace(parallelism=setting.splits)
    if setting.splits > setting.parallelism:
        setting = setting._replace(splits=setting.parallelism)  # of two splits in one subtask, one may be far ahead
    results, late = run(setting, rows, build)
    assert late == 0
    assert sorted(map(tuple, results)) == expected([r for r in rows if r.number], "word", windows, ["count"])


@FEW
@given(st.data(), st.integers(0, 3), SETTINGS, st.integers(1, 20))
def test_a_record_is_counted_or_late(data, bound, setting, size):
    """Out of order by more than the bound: in a window of its own time, or among the late ones."""
    rows, windows = data.draw(streams(60)), Windows(size, size)

    def build(env, source):
        stream = env.source(source, watermarks=bounded_out_of_orderness("t", bound / 1000))
        return stream.key_by("word").window(windows).aggregate(count(), sum_of("n"))

    results, late = run(setting, rows, build)
    assert sum(row.count for row in results) + late == len(rows)
    complete = {row[:3]: row[3] for row in expected(rows, "word", windows, ["count"])}
    places = [tuple(row[:3]) for row in results]
    assert len(set(places)) == len(places)
    assert all(row.count <= complete[place] for row, place in zip(results, places, strict=True))


@FEW
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([1.5, -2.0, math.nan, math.inf])), max_size=20), SETTINGS
)
def test_nan_is_left_out_of_the_lowest_and_the_highest(pairs, setting):
    rows = [Row(0, word, False, 0, 0, x) for word, x in pairs]
    results, _ = run(setting, rows, lambda env, s: env.source(s).key_by("word").aggregate(min_of("x"), max_of("x")))
    assert {row.word for row in results} == {word for word, _ in pairs}
    for row in results:
        numbers = [x for word, x in pairs if word == row.word and not math.isnan(x)]
        if numbers:
            assert (row.min_x, row.max_x) == (min(numbers), max(numbers))
        else:
            assert math.isnan(row.min_x)
            assert math.isnan(row.max_x)


@pytest.mark.parametrize("two_stage", [False, True])
@pytest.mark.parametrize("parallelism", [1, 2])
def test_splits_far_apart_in_time_lose_nothing(two_stage, parallelism):
    """The watermark is that of the split furthest behind, also where one subtask reads both."""
    days = 86_400_000
    rows = [Row(0, "a", False, days * (i // 500) * 30 + i % 500, 1, 0.0) for i in range(1500)]
    setting = Setting(16, 0.0, 3, parallelism, two_stage, as_columns=True)
    results, late = run(
        setting,
        rows,
        lambda env, s: (
            env.source(s, watermarks=monotonous("t")).key_by("word").window(tumbling(0.1)).aggregate(count())
        ),
    )
    assert late == 0
    assert sorted(map(tuple, results)) == expected(rows, "word", Windows(100, 100), ["count"])
    assert {row.count for row in results} == {100}
