"""Results of sessions and of windows by count are those of plain Python over the finished stream."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from streamcore import (
    Columns,
    CountWindows,
    OutputTag,
    Schema,
    SessionWindows,
    StreamEnvironment,
    bounded_out_of_orderness,
    count,
    count_windows,
    max_of,
    mean,
    milliseconds,
    min_of,
    session,
    sum_of,
)
from streamcore.api.aggregating import bind_aggregates
from streamcore.api.session_aggregates import add_session_aggregate
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.runtime.event_time import EventTime
from streamcore.testing import MemorySink
from streamcore.time import MAX_TIME, MIN_TIME
from tests.property.session_reference import SessionsByTheBook, sessions_of_all
from tests.property.test_window_results import AGGREGATES, FEW, KEYS, RECORD, SETTINGS, keys_of, run, streams

NAMES = st.lists(st.sampled_from(sorted(AGGREGATES)), min_size=1, max_size=4, unique=True)


@FEW
@given(st.data(), st.integers(0, 12), st.sampled_from(KEYS), st.integers(1, 20), NAMES, SETTINGS)
def test_sessions(data, bound, key, gap, names, setting):
    rows = data.draw(streams(bound))

    def build(env, source):
        # One more: a record exactly at the end of a session belongs to it only while that hasn't fired.
        stream = env.source(source, watermarks=bounded_out_of_orderness("t", (bound + 1) / 1000))
        return stream.key_by(key).window(SessionWindows(gap)).aggregate(*(AGGREGATES[name][0] for name in names))

    results, late = run(setting, rows, build)
    wanted = [
        (*place, start, end, *(AGGREGATES[name][1]([rows[i] for i in mine]) for name in names))
        for place, start, end, mine in sessions_of_all([(keys_of(key)(row), row.t) for row in rows], gap)
    ]
    assert sorted(map(tuple, results)) == sorted(wanted)
    assert late == 0


@FEW
@given(st.data(), st.integers(0, 8), SETTINGS, st.integers(1, 15), st.integers(1, 15))
def test_sessions_of_sessions(data, bound, setting, gap, outer):
    """The second sessions see each result of the first in time, at the last millisecond of its session.

    That is an odd millisecond, and the second sessions end at even ones: no result comes exactly at the end of one,
    which it would belong to only if that hadn't fired yet.
    """
    rows = [row._replace(t=2 * row.t) for row in data.draw(streams(bound))]
    bound, gap, outer = 2 * bound + 1, 2 * gap, 2 * outer - 1

    def build(env, source):
        stream = env.source(source, watermarks=bounded_out_of_orderness("t", bound / 1000))
        counts = stream.key_by("word").window(SessionWindows(gap)).aggregate(count())
        return counts.key_by("count").window(SessionWindows(outer)).aggregate(n=count())

    inner = [(len(mine), end - 1) for _, _, end, mine in sessions_of_all([(row.word, row.t) for row in rows], gap)]
    results, late = run(setting, rows, build)
    wanted = [(key, start, end, len(mine)) for key, start, end, mine in sessions_of_all(inner, outer)]
    assert sorted(map(tuple, results)) == sorted(wanted)
    assert late == 0


@FEW
@given(st.data(), st.sampled_from(KEYS), st.integers(1, 7), st.integers(1, 7), NAMES, SETTINGS)
def test_windows_by_count(data, key, size, every, names, setting):
    """From one split, so that the order of a key's records is that of the list."""
    rows = data.draw(streams(50))
    setting = setting._replace(splits=1)

    def build(env, source):
        windowed = env.source(source).key_by(key).window(CountWindows(size, every))
        return windowed.aggregate(*(AGGREGATES[name][0] for name in names))

    groups, wanted = defaultdict(list), []
    for row in rows:
        mine = groups[keys_of(key)(row)]
        mine.append(row)
        if len(mine) % every == 0:
            wanted.append((*keys_of(key)(row), *(AGGREGATES[name][1](mine[-size:]) for name in names)))
    results, _ = run(setting, rows, build)
    assert Counter(map(tuple, results)) == Counter(wanted)


@FEW
@given(st.data(), st.integers(0, 3), SETTINGS, st.integers(1, 10))
def test_a_record_is_in_one_session_or_late(data, bound, setting, gap):
    rows = data.draw(streams(60))

    def build(env, source):
        stream = env.source(source, watermarks=bounded_out_of_orderness("t", bound / 1000))
        return stream.key_by("word").window(SessionWindows(gap)).aggregate(count())

    results, late = run(setting, rows, build)
    assert sum(row.count for row in results) + late == len(rows)
    by_word = defaultdict(list)
    for row in results:
        by_word[row.word].append((row.window_start, row.window_end))
    for spans in by_word.values():
        spans.sort()
        assert all(end < start for (_, end), (start, _) in itertools.pairwise(spans))


@FEW
@given(st.data(), st.integers(0, 5), st.integers(1, 10), st.sampled_from([0, 3, 40]))
def test_late_records_by_the_book(data, bound, gap, lateness):
    """A watermark after each record, so that what is late is known: what fires, fires again, or goes aside."""
    rows, tag = data.draw(streams(60)), OutputTag("late")
    env, results, late = StreamEnvironment("late", batch_size=1, buffer_timeout=0.0), MemorySink(), MemorySink()
    stream = env.from_values(rows, RECORD).assign_watermarks(bounded_out_of_orderness("t", bound / 1000))
    by_word = stream.key_by("word")
    bound_aggregates = bind_aggregates(by_word, (count(), sum_of("n")))
    out = add_session_aggregate(
        by_word, SessionWindows(gap), EventTime("t"), bound_aggregates, lateness_ms=lateness, late_tag=tag
    )
    out.sink(results)
    out.side_output(tag).sink(late)
    env.execute()

    def fold(value, n):
        return (1, n) if value is None else (value[0] + 1, value[1] + n)

    book = SessionsByTheBook(gap, lateness, fold, lambda one, other: (one[0] + other[0], one[1] + other[1]))
    wanted, wanted_late, latest = [], [], MIN_TIME
    for row in rows:
        fired = book.add(row.word, row.t, row.n)
        if fired is None:
            wanted_late.append(row)
        wanted += fired or []
        latest = max(latest, row.t)
        wanted += book.advance(latest - bound - 1)
    wanted += book.advance(MAX_TIME)
    assert [tuple(row) for row in late.committed] == [tuple(row) for row in wanted_late]
    assert Counter(map(tuple, results.committed)) == Counter((*place, *values) for *place, values in wanted)


EVENT = Schema.of(user=int, t=int, x=float)
COUNT = 200_000


def events():
    chance = np.random.default_rng(5)
    t = np.arange(COUNT) - chance.integers(0, 400, COUNT)
    return Columns(EVENT, {"user": chance.zipf(1.3, COUNT) % 5000, "t": t, "x": chance.integers(0, 1000, COUNT) / 8})


def polars_sessions(frame, gap):
    ordered = frame.sort("user", "t", maintain_order=True)
    begins = (pl.col("t") - pl.col("t").shift(1) > gap) | (pl.col("user") != pl.col("user").shift(1))
    numbered = ordered.with_columns(number=begins.fill_null(value=True).cum_sum())
    return numbered.group_by("number").agg(
        pl.col("user").first(),
        window_start=pl.col("t").min(),
        window_end=pl.col("t").max() + gap,
        count=pl.len(),
        mean_x=pl.col("x").mean(),
        max_x=pl.col("x").max(),
    )


def test_a_large_stream_agrees_with_polars():
    data, gap = events(), 300
    env, sessions, windows = StreamEnvironment("large", parallelism=2), MemorySink(), MemorySink()
    source = GeneratorSource(data.slice, count=COUNT, schema=EVENT)
    stream = env.source(source, watermarks=bounded_out_of_orderness("t", milliseconds(400)))
    by_user = stream.key_by("user")
    by_user.window(session(milliseconds(gap))).aggregate(count(), mean("x"), max_of("x")).sink(sessions)
    by_user.window(count_windows(20, every=8)).aggregate(count(), sum_of("x"), min_of("x")).sink(windows)
    env.execute()
    frame = pl.DataFrame({name: data[name] for name in EVENT.names})
    wanted = polars_sessions(frame, gap).drop("number").sort("user", "window_start").rows()
    assert sorted(map(tuple, sessions.committed)) == wanted
    place = pl.int_range(pl.len()).over("user")
    rolled = frame.with_columns(
        place=place,
        count=pl.min_horizontal(place + 1, 20),
        sum_x=pl.col("x").rolling_sum(20, min_samples=1).over("user"),
        min_x=pl.col("x").rolling_min(20, min_samples=1).over("user"),
    ).filter((pl.col("place") + 1) % 8 == 0)
    assert Counter(map(tuple, windows.committed)) == Counter(rolled.select("user", "count", "sum_x", "min_x").rows())
