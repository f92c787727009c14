"""unique_by_sorted and revised_sums: the last revision is that of plain Python over all records, in any order."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from batch_rig import Rig
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import (
    OutputTag,
    Schema,
    StreamcoreError,
    StreamEnvironment,
    bounded_out_of_orderness,
)
from streamcore.operators.periods import checked_period, period_end, period_start
from streamcore.operators.revised_sums import revised_sums
from streamcore.operators.revisions import Revising
from streamcore.operators.unique_by_sorted import UniqueBySorted, unique_by_sorted

HOUR, DAY = 3_600_000, 86_400_000
EVENT = Schema.of(channel=str | None, bot=bool, user=str, amount=int, time=int)
KEY = ("channel", "bot")
FEW = settings(max_examples=40, deadline=None)

events = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.booleans(),
        st.sampled_from(["ann", "bob", "cy", ""]),
        st.integers(-5, 5),
        st.integers(-40 * 24, 40 * 24).map(lambda hour: hour * HOUR),
    ),
    max_size=40,
)
periods = st.sampled_from(["day", "week", "month"])


def start_of(time, period):
    """By the calendar of Python."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time)
    at = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "week":
        at -= timedelta(days=at.weekday())
    if period == "month":
        at = at.replace(day=1)
    return round((at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))


def stream_of(rows, batch_size, parallelism=2):
    env = StreamEnvironment(batch_size=batch_size, parallelism=parallelism)
    return env.from_values(rows, EVENT).assign_watermarks(bounded_out_of_orderness("time", 3600.0))


def last_revisions(lines, key):
    """The line with the highest revision of each key; revisions are 1, 2, 3, …"""
    found = defaultdict(dict)
    for line in lines:
        found[tuple(getattr(line, name) for name in key)][line.revision] = line
    for revisions in found.values():
        assert sorted(revisions) == list(range(1, len(revisions) + 1))
    assert sum(map(len, found.values())) == len(lines)
    return {place: revisions[max(revisions)] for place, revisions in found.items()}


@FEW
@given(events, periods, st.integers(1, 7), st.sampled_from([HOUR, 5 * HOUR, DAY]))
def test_unique_users_are_those_of_a_set_in_any_order_of_arrival(rows, period, batch_size, every):
    lines = unique_by_sorted(
        stream_of(rows, batch_size), KEY, "user", period=period, every=every / 1000
    ).execute_and_collect()
    count, users = Counter(), defaultdict(set)
    for channel, bot, user, _, time in rows:
        count[channel, bot, start_of(time, period)] += 1
        users[channel, bot, start_of(time, period)].add(user)
    found = last_revisions(lines, (*KEY, "period_start"))
    assert {place: line.events for place, line in found.items()} == count
    assert {place: line.users for place, line in found.items()} == {place: len(who) for place, who in users.items()}
    assert all(line.period_end == end_of(line.period_start, period) for line in lines)


def end_of(start, period):
    return start_of(start + {"day": 1, "week": 7, "month": 31}[period] * DAY, period)


@FEW
@given(events, st.none() | periods, st.integers(1, 7))
def test_sums_are_the_sums_in_any_order_of_arrival(rows, period, batch_size):
    lines = revised_sums(
        stream_of(rows, batch_size), "channel", ("amount",), period=period, every=3600
    ).execute_and_collect()
    expected = defaultdict(int)
    for channel, _, _, amount, time in rows:
        expected[(channel, start_of(time, period)) if period else (channel,)] += amount
    found = last_revisions(lines, ("channel", "period_start") if period else ("channel",))
    assert {place: line.amount for place, line in found.items()} == expected


@FEW
@given(events, st.integers(1, 9), st.integers(1, 3))
def test_records_in_time_give_the_same_revisions_however_the_stream_is_cut(rows, batch_size, parallelism):
    rows.sort(key=lambda row: row[-1])

    def lines(batch_size, parallelism):
        stream = stream_of(rows, batch_size, parallelism)
        results = unique_by_sorted(stream, KEY, "user", period="day", every=7200).execute_and_collect()
        return Counter(map(tuple, results))

    assert lines(batch_size, parallelism) == lines(1000, 1)


LATE = OutputTag("late", Schema.of(channel=str | None, bot=bool, user=str, time=int))


@FEW
@given(events, st.integers(1, 4), st.integers(0, 60))
def test_what_comes_after_the_lateness_is_not_counted_but_handed_out(rows, batch_size, lateness_hours):
    results = unique_by_sorted(
        stream_of(rows, batch_size), KEY, "user", period="day", every=3600, lateness=lateness_hours * 3600, late=LATE
    )
    both = results.map(lambda line: ("line", line)).union(results.side_output(LATE).map(lambda line: ("late", line)))
    found = both.execute_and_collect()
    late = [line for kind, line in found if kind == "late"]
    lines = [line for kind, line in found if kind == "line"]
    counted = Counter((channel, bot, user, time) for channel, bot, user, _, time in rows) - Counter(map(tuple, late))
    assert sum(counted.values()) == len(rows) - len(late)
    expected = Counter((channel, bot, start_of(time, "day")) for channel, bot, _, time in counted.elements())
    last = defaultdict(int)
    for line in lines:
        place = (line.channel, line.bot, line.period_start)
        last[place] = max(last[place], line.events)
    assert last == expected
    latest = max((row[-1] for row in rows), default=0)
    for line in late:
        assert start_of(line.time, "day") + DAY + lateness_hours * HOUR <= latest


PLAY = Schema.of(song=str, user=int, time=int)


def rig(snapshot=None, lateness_ms=DAY):
    revising = Revising("song", "time", HOUR, "day", lateness_ms, OutputTag("late"))
    return Rig(UniqueBySorted(revising, PLAY, "user"), snapshot)


@pytest.mark.parametrize("restored", [False, True])
def test_late_records_make_corrected_lines_until_the_lateness_is_over(restored):
    job = rig()
    job.feed([("x", 1, 0), ("x", 1, 1), ("y", 5, HOUR), ("x", 2, 2 * DAY)], PLAY)
    if restored:
        job = rig(job.snapshot())
    job.advance(DAY - 1)
    assert job.take() == [("x", 0, DAY, 2, 1, 1), ("y", 0, DAY, 1, 1, 1)]
    if restored:
        job = rig(job.snapshot())
    job.feed([("x", 3, 5)], PLAY)
    assert job.take() == [("x", 0, DAY, 3, 2, 2)]
    job.feed([("x", 3, 6), ("z", 1, 7)], PLAY)
    assert job.take() == [("x", 0, DAY, 4, 2, 3), ("z", 0, DAY, 1, 1, 1)]
    job.advance(2 * DAY - 2)
    job.feed([("y", 5, 8)], PLAY)
    assert job.take() == [("y", 0, DAY, 2, 1, 2)]
    job.advance(2 * DAY - 1)
    if restored:
        job = rig(job.snapshot())
    job.feed([("y", 5, 8)], PLAY)
    assert (job.take(), job.late) == ([], [("y", 5, 8)])
    assert [len(state) for state in job.snapshot()[1].values()] == [1, 0]  # what waits; the first day's rows are gone


def test_one_watermark_may_end_many_periods():
    job = rig(lateness_ms=0)
    job.feed([("x", user, day * DAY) for day in range(9) for user in (1, 2)], PLAY)
    job.advance(8 * DAY)
    assert [line[3:] for line in job.take()] == [(2, 2, 1)] * 8
    assert [len(state) for state in job.snapshot()[1].values()] == [2, 0]


def test_without_lateness_results_are_corrected_for_good():
    job = rig(lateness_ms=None)
    job.advance(1000 * DAY)
    job.feed([("x", 1, 0)], PLAY)
    assert (job.take(), job.late) == ([("x", 0, DAY, 1, 1, 1)], [])


@given(st.lists(st.integers(-(10**13), 10**13), min_size=1, max_size=5), periods)
def test_periods_are_those_of_the_calendar(times, period):
    starts = period_start(np.array(times), period)
    assert starts.tolist() == [start_of(time, period) for time in times]
    assert period_end(starts, period).tolist() == [end_of(start, period) for start in starts.tolist()]


def test_wrong_arguments_are_refused():
    stream = stream_of([], 1)
    with pytest.raises(StreamcoreError, match="'year'"):
        checked_period("year")
    with pytest.raises(StreamcoreError, match="the periods are: day, week, month"):
        revised_sums(stream, "channel", ("amount",), every=1, period="hour")
    with pytest.raises(StreamcoreError, match="every 0 s"):
        unique_by_sorted(stream, KEY, "user", period="day", every=0)
    with pytest.raises(StreamcoreError, match="needs the fields channel, player, time"):
        unique_by_sorted(stream, "channel", "player", period="day")
    with pytest.raises(StreamcoreError, match="may be missing"):
        unique_by_sorted(stream, "user", "channel", period="day")
    with pytest.raises(StreamcoreError, match="'users'"):
        unique_by_sorted(stream.with_columns(users=1), "users", "user", period="day")
    with pytest.raises(StreamcoreError, match="depend on their order"):
        revised_sums(stream, "channel", ("bot",), every=1)
    with pytest.raises(StreamcoreError, match="needs the fields channel, price, time"):
        revised_sums(stream, "channel", ("price",), every=1)
    with pytest.raises(StreamcoreError, match="'revision'"):
        revised_sums(stream.with_columns(revision=1), "revision", ("amount",), every=1)
