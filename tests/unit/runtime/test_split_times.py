"""Idleness and alignment of a source's splits: what is silent, what is held, who is waited for."""

from __future__ import annotations

import numpy as np
import pytest

from streamcore import monotonous, seconds
from streamcore.errors import TopologyError
from streamcore.runtime.attention import Attention
from streamcore.runtime.split_times import SplitTimes
from streamcore.time import MIN_TIME

IDLE = monotonous("t").with_idleness(seconds(10))


def splits(strategy, **saved):
    times = SplitTimes(strategy)
    times.begin(saved)
    return times


def record(times, split, time):
    times.observe(split, [], np.array([time]), time)


def test_a_silent_split_is_idle_after_the_time_out():
    times = splits(IDLE, a=None, b=None)
    record(times, "a", 100)
    times.nothing("b", 5.0)  # the first look: from here on it counts
    assert times.idle_in_s(5.0) == 10.0
    times.nothing("b", 14.9)
    assert times.watermark_ms == MIN_TIME
    assert times.idle_in_s(14.9) == pytest.approx(0.1)
    times.nothing("b", 15.0)
    assert (times.watermark_ms, times.idle) == (99, False)
    assert times.idle_in_s(15.0) is None


def test_a_record_starts_the_count_anew():
    times = splits(IDLE, a=None)
    times.nothing("a", 0.0)
    record(times, "a", 1)
    times.nothing("a", 9.0)
    times.nothing("a", 18.9)
    assert not times.idle
    times.nothing("a", 19.0)
    assert times.idle


def test_time_in_which_a_split_is_held_does_not_count():
    times = splits(IDLE.with_alignment("g", max_drift=seconds(1)), a=None)
    record(times, "a", 5000)
    times.nothing("a", 0.0)
    times.align(1000)
    assert times.holds("a")
    assert times.idle_in_s(9.0) is None
    times.align(4500)
    assert not times.holds("a")
    times.nothing("a", 20.0)
    assert not times.idle
    times.nothing("a", 30.0)
    assert times.idle


def test_without_a_time_out_nothing_is_ever_idle():
    times = splits(monotonous("t"), a=None)
    times.nothing("a", 0.0)
    times.nothing("a", 1e9)
    assert not times.idle
    assert times.idle_in_s(1e9) is None


def test_a_split_that_wakes_up_holds_time_from_then_on():
    times = splits(IDLE, a=[50, 49, None], b=[100, 99, None])
    times.nothing("a", 0.0)
    times.nothing("a", 10.0)
    assert times.watermark_ms == 99
    times.wake("a")
    record(times, "b", 200)
    assert times.watermark_ms == 99
    record(times, "a", 151)
    assert times.watermark_ms == 150


def test_who_is_ahead_of_the_group_is_held_until_it_has_come_closer():
    times = splits(monotonous("t").with_alignment("g", max_drift=seconds(1)), a=None, b=None)
    record(times, "a", 5001)
    record(times, "b", 101)
    assert not times.any_held
    times.align(times.slowest_ms)
    assert (times.holds("a"), times.holds("b"), times.drift_ms) == (True, False, 4900)
    times.align(3999)
    assert times.holds("a")
    times.align(4000)
    assert not times.any_held
    times.align(None)
    assert not times.any_held


def test_who_is_idle_has_ended_or_had_no_record_is_not_waited_for():
    strategy = IDLE.with_alignment("g", max_drift=seconds(1))
    times = splits(strategy, a=[10, 9, None], b=[20, 19, None], c=None, d=[30, 29, None])
    assert times.slowest_ms == 9
    times.end("a")
    assert times.slowest_ms == 19
    times.nothing("b", 0.0)
    times.nothing("b", 10.0)
    assert times.slowest_ms == 29
    times.end("d")
    assert times.slowest_ms is None


def test_an_idle_split_is_never_held_so_that_it_is_heard_of():
    times = splits(IDLE.with_alignment("g", max_drift=seconds(1)), a=[9000, 8999, None])
    times.nothing("a", 0.0)
    times.nothing("a", 10.0)
    times.align(0)
    assert not times.holds("a")
    times.wake("a")
    assert times.holds("a")


def test_long_work_counts_for_little():
    attention = Attention()
    attention.worked(0.05)
    attention.worked(60.0)
    attention.rested(3.0)
    assert attention.seconds == pytest.approx(3.15)


@pytest.mark.parametrize("wrong", [0, -1, float("inf"), float("nan")])
def test_durations_that_can_not_be(wrong):
    with pytest.raises(TopologyError, match="time-out"):
        monotonous("t").with_idleness(wrong)
    with pytest.raises(TopologyError, match="max_drift"):
        monotonous("t").with_alignment("g", max_drift=wrong)
    with pytest.raises(TopologyError, match="every"):
        monotonous("t").with_alignment("g", max_drift=seconds(1), every=wrong)
