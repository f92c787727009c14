"""Sessions and windows by count as users write them, and what they are told when something is wrong."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from streamcore import (
    OutputTag,
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    count,
    count_windows,
    milliseconds,
    monotonous,
    session,
    sum_of,
)
from streamcore.api.aggregating import bind_aggregates
from streamcore.api.session_aggregates import add_count_aggregate, add_session_aggregate
from streamcore.errors import TopologyError
from streamcore.runtime.event_time import EventTime

CLICK = Schema.of(user=str, t=int, n=int)
CLICKS = [("a", 0, 1), ("b", 3, 2), ("a", 8, 3), ("a", 30, 4), ("b", 4, 5), ("a", 31, 6)]


class Total(NamedTuple):
    n: int
    most: int


def clicks(**options):
    env = StreamEnvironment("clicks", **options)
    return env.from_values(CLICKS, CLICK).assign_watermarks(bounded_out_of_orderness("t", milliseconds(50)))


def add(state, click):
    return Total(state.n + click.n, max(state.most, click.n))


def merge(one, other):
    return Total(one.n + other.n, max(one.most, other.most))


def rows(stream):
    return sorted(map(tuple, stream.execute_and_collect()))


def test_sessions_have_the_key_their_bounds_and_the_aggregates():
    results = clicks().key_by("user").window(session(milliseconds(10))).aggregate(count(), total=sum_of("n"))
    assert results.schema == Schema.of(user=str, window_start=int, window_end=int, count=int, total=int)
    assert rows(results) == [("a", 0, 18, 2, 4), ("a", 30, 41, 2, 10), ("b", 3, 14, 2, 7)]


@pytest.mark.parametrize("compiled", [True, False])
def test_sessions_of_a_fold(compiled):
    windows = clicks().key_by("user").window(session(milliseconds(10)))
    results = windows.fold(Total(0, 0), add, merge=merge, compiled=compiled)
    assert rows(results) == [("a", 0, 18, 4, 3), ("a", 30, 41, 10, 6), ("b", 3, 14, 7, 5)]


def test_windows_by_count_have_the_key_and_the_aggregates():
    windows = clicks().key_by("user").window(count_windows(2))
    results = windows.aggregate(count(), sum_of("n"))
    assert results.schema == Schema.of(user=str, count=int, sum_n=int)
    assert rows(results) == [("a", 2, 4), ("a", 2, 10), ("b", 2, 7)]


@pytest.mark.parametrize("compiled", [True, False])
def test_windows_by_count_of_a_fold(compiled):
    by_user = clicks().key_by("user")
    assert rows(by_user.window(count_windows(2)).fold(Total(0, 0), add, compiled=compiled)) == [
        ("a", 4, 3),
        ("a", 10, 6),
        ("b", 7, 5),
    ]
    overlapping = by_user.window(count_windows(3, every=1)).fold(Total(0, 0), add, merge=merge, compiled=compiled)
    assert [row[1] for row in rows(overlapping)] == [1, 4, 8, 13, 2, 7]


def test_windows_by_count_need_no_event_time():
    stream = StreamEnvironment("clicks").from_values(CLICKS, CLICK).key_by("user")
    assert len(rows(stream.window(count_windows(1)).aggregate(count()))) == len(CLICKS)
    with pytest.raises(TopologyError, match="has no event time"):
        stream.window(session(milliseconds(10)))


@pytest.mark.parametrize("windows", [session(milliseconds(10)), count_windows(3, every=2)])
def test_a_fold_of_what_is_merged_needs_merge(windows):
    with pytest.raises(TopologyError, match=r"fold \(test_dsl_sessions.py"):
        clicks().key_by("user").window(windows).fold(Total(0, 0), add)


def test_two_results_of_one_name_are_refused():
    windows = clicks().key_by("user").window(session(milliseconds(10)))
    for name in ("user", "window_start"):
        with pytest.raises(TopologyError, match=f"two results are named '{name}'"):
            windows.aggregate(**{name: count()})


def test_a_gap_that_is_none_is_refused():
    for gap in (0.0, float("inf"), 1e30, 1e306):
        with pytest.raises(TopologyError, match="session gap"):
            session(gap)


def test_numbers_of_records_that_are_none_are_refused():
    for size, every in ((0, 1), (1, 0), (1.5, 1), (3, 2.0), ("3", 1)):
        with pytest.raises(TopologyError, match="windows of"):
            count_windows(size, every=every)


def test_without_key_all_records_are_one_group():
    stream = clicks(parallelism=3)
    bound = bind_aggregates(stream, (count(), sum_of("n")))
    sessions = add_session_aggregate(stream, session(milliseconds(10)), EventTime("t"), bound)
    assert sessions.schema == Schema.of(window_start=int, window_end=int, count=int, sum_n=int)
    assert rows(sessions) == [(0, 18, 4, 11), (30, 41, 2, 10)]
    assert [row[0] for row in rows(add_count_aggregate(stream, count_windows(3), bound))] == [3, 3]


def test_late_records_go_aside_in_the_type_of_the_stream():
    late = OutputTag("late")
    env = StreamEnvironment("clicks", batch_size=1, buffer_timeout=0.0)
    stream = env.from_values([*CLICKS, ("a", 2, 7)], CLICK).assign_watermarks(monotonous("t")).key_by("user")
    bound = bind_aggregates(stream, (count(),))
    results = add_session_aggregate(stream, session(milliseconds(10)), EventTime("t"), bound, late_tag=late)
    assert [tuple(row) for row in results.side_output(late).execute_and_collect()] == [("b", 4, 5), ("a", 2, 7)]
    with pytest.raises(TopologyError, match="late records go to 'late' as"):
        add_session_aggregate(
            stream, session(milliseconds(10)), EventTime("t"), bound, late_tag=OutputTag("late", Schema.of(x=int))
        )


def test_windows_of_many_records_after_each_record_need_no_room_beforehand():
    windowed = clicks().key_by("user").window(count_windows(10**6, every=1))
    results = windowed.aggregate(count(), sum_of("n"))
    of_a = [n for user, _, n in CLICKS if user == "a"]
    found = [row for row in rows(results) if row[0] == "a"]
    assert sorted(found) == sorted(("a", i + 1, sum(of_a[: i + 1])) for i in range(len(of_a)))
