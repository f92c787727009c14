"""The arithmetic of windows, against a list of windows made one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Windows, milliseconds, minutes, seconds, sliding, tumbling
from streamcore.errors import TopologyError
from streamcore.time import MAX_TIME, MIN_TIME

LENGTHS = st.integers(1, 24)
WINDOWS = st.builds(Windows, LENGTHS, LENGTHS, st.integers(-30, 30))  # also such that lie apart
TIMES = st.integers(-200, 200)


def containing(windows, time):
    """The windows with a time, by definition."""
    return [k for k in range(-500, 500) if windows.bounds(k)[0] <= time < windows.bounds(k)[1]]


def slice_of(windows, time):
    return windows.slices_of(np.array([time]))[0].item()


@settings(deadline=None)  # a kernel is compiled
@given(WINDOWS, TIMES)
def test_the_windows_of_a_slice_are_those_that_contain_each_of_its_times(windows, time):
    assert list(windows.windows_of(slice_of(windows, time))) == containing(windows, time)


@settings(deadline=None)  # a kernel is compiled
@given(WINDOWS, st.integers(-20, 20))
def test_a_window_is_made_of_whole_slices(windows, window):
    start, end = windows.bounds(window)
    slices = windows.slices(window)
    assert list(dict.fromkeys(slice_of(windows, time) for time in range(start, end))) == list(slices)
    assert len(slices) == windows.slices_per_window
    assert windows.end_of_slice(slices[-1]) == end
    assert windows.end_of_slice(slices[0] - 1) == start


@settings(deadline=None)  # a kernel is compiled
@given(WINDOWS, TIMES)
def test_a_slice_ends_where_its_number_changes(windows, time):
    end = windows.end_of_slice(slice_of(windows, time))
    assert {slice_of(windows, t) for t in range(time, end)} == {slice_of(windows, time)}
    assert slice_of(windows, end) == slice_of(windows, time) + 1


@settings(deadline=None)  # a kernel is compiled
@given(WINDOWS, st.lists(TIMES, max_size=8))
def test_slices_inside_are_those_with_windows(windows, times):
    slices = np.array([slice_of(windows, time) for time in times], np.int64)
    inside = windows.inside(slices)
    expected = [bool(containing(windows, time)) for time in times]
    assert expected == ([True] * len(times) if inside is None else inside.tolist())


@settings(deadline=None)  # a kernel is compiled
@given(WINDOWS, TIMES, TIMES, st.integers(0, 50))
def test_a_slice_is_live_while_a_window_with_it_takes_records(windows, time, watermark, lateness):
    alive = any(windows.bounds(k)[1] - 1 + lateness > watermark for k in containing(windows, time))
    is_late = slice_of(windows, time) < windows.first_live_slice(watermark, lateness)
    if containing(windows, time):
        assert alive != is_late


@settings(deadline=None)  # a kernel is compiled
@given(WINDOWS, TIMES, TIMES)
def test_slices_ahead_are_in_no_window_that_is_over(windows, time, watermark):
    over = any(windows.bounds(k)[1] - 1 <= watermark for k in containing(windows, time))
    if containing(windows, time):
        assert over == (slice_of(windows, time) < windows.first_slice_ahead(watermark))


@settings(deadline=None)  # a kernel is compiled
@given(WINDOWS, st.lists(TIMES, min_size=1, max_size=8))
def test_the_windows_of_many_slices_at_once(windows, times):
    slices = windows.slices_of(np.array(times))
    assert windows.first_of(slices).tolist() == [windows.windows_of(number).start for number in slices.tolist()]
    assert windows.last_of(slices).tolist() == [windows.windows_of(number).stop - 1 for number in slices.tolist()]


@settings(deadline=None)  # a kernel is compiled
@given(WINDOWS, st.one_of(TIMES, st.just(MIN_TIME)), st.one_of(TIMES, st.just(MAX_TIME)), st.lists(TIMES, max_size=8))
def test_due_windows_end_between_the_watermarks(windows, before, watermark, times):
    slices = sorted({slice_of(windows, time) for time in times if containing(windows, time)})
    expected = {
        k for time in times for k in containing(windows, time) if before < windows.bounds(k)[1] - 1 <= watermark
    }
    assert windows.due(before, watermark, slices) == sorted(expected)


def test_no_slice_is_late_before_the_first_watermark_and_every_one_after_the_last():
    earliest, latest = tumbling(seconds(5)).slices_of(np.array([-(1 << 62), 1 << 62])).tolist()
    windows = tumbling(seconds(5))
    for lateness in (0, 1 << 70):
        assert windows.first_live_slice(MIN_TIME, lateness) < earliest
    assert windows.first_live_slice(MAX_TIME) > latest
    assert windows.first_slice_ahead(MIN_TIME) < earliest
    assert windows.first_slice_ahead(MAX_TIME) > latest
    assert Windows(1, 1).first_live_slice(MIN_TIME, 5) == MIN_TIME


@pytest.mark.parametrize("size", [1, 7, 5000, (1 << 60) - 1])
@pytest.mark.parametrize("every", [1, 2, 4095, 4096, 4097, 1 << 60])
@pytest.mark.parametrize("offset", [0, -3, 1 << 60, -(1 << 60)])
def test_slices_of_times_at_the_limits(size, every, offset):
    windows = Windows(size, every, offset)
    edges = [sign * (1 << power) + step for power in (0, 49, 53, 61) for sign in (-1, 1) for step in (-1, 0, 1)]
    for time in [*edges, 1 << 62, -(1 << 62)]:
        number = slice_of(windows, time)
        assert windows.end_of_slice(number - 1) <= time < windows.end_of_slice(number)
        for window in (windows.first_of(number), windows.last_of(number)) if len(windows.windows_of(number)) else ():
            start, end = windows.bounds(window)
            assert start <= time < end
            assert MIN_TIME < start < end < MAX_TIME


def test_what_due_windows_cost_does_not_depend_on_how_much_time_has_passed():
    windows = sliding(milliseconds(2), every=milliseconds(1))
    far = 1 << 60
    assert windows.due(MIN_TIME, MAX_TIME, [-far, 5, far]) == [-far - 1, -far, 4, 5, far - 1, far]


def test_a_window_is_over_when_the_watermark_has_reached_its_last_millisecond():
    windows = tumbling(seconds(5))
    assert windows.due(MIN_TIME, 4998, [0]) == []
    assert windows.due(4998, 4999, [0]) == [0]
    assert windows.due(4999, 9000, [0]) == []
    assert (windows.first_live_slice(4998), windows.first_live_slice(4999)) == (0, 1)


def test_windows_have_at_most_two_slices_for_each_one_that_begins_meanwhile():
    assert sliding(seconds(5), every=seconds(1)).slices_per_window == 5
    assert sliding(seconds(10), every=seconds(4)).slices_per_window == 5
    assert sliding(milliseconds(200), every=seconds(1)).slices_per_window == 1
    assert tumbling(minutes(1)).slices_per_window == 1
    assert sliding(minutes(60), every=milliseconds(7001)).slices_per_window == 2 * (3_600_000 // 7001) + 1


def test_windows_that_overlap():
    assert sliding(seconds(5), every=seconds(4)).overlap
    assert not tumbling(seconds(5)).overlap
    assert not sliding(seconds(5), every=seconds(6)).overlap


def test_windows_in_words():
    assert str(tumbling(seconds(5))) == "5000 ms"
    assert str(sliding(seconds(5), every=seconds(1))) == "5000 ms every 1000 ms"


def test_an_offset_moves_all_windows():
    assert tumbling(minutes(60), offset=minutes(15)).bounds(-1) == (-2_700_000, 900_000)


@pytest.mark.parametrize("size", [0, 0.0004, -1, float("inf"), float("nan")])
def test_lengths_that_are_none(size):
    for make in (lambda: tumbling(size), lambda: sliding(5, every=size), lambda: sliding(size, every=1)):
        with pytest.raises(TopologyError, match="the shortest is a millisecond"):
            make()
    for make in (lambda: tumbling(1e306), lambda: sliding(1, every=1e17), lambda: tumbling(1, offset=-1e17)):
        with pytest.raises(TopologyError, match="1e") as caught:
            make()
        assert "the longest is" in str(caught.value)
    with pytest.raises(TopologyError, match="from inf s"):
        tumbling(1, offset=float("inf"))
