"""The arithmetic of windows, against a list of windows made one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
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
    return (time - windows.offset_ms) // windows.slice_ms


@given(WINDOWS, TIMES)
def test_the_windows_of_a_slice_are_those_that_contain_each_of_its_times(windows, time):
    assert list(windows.windows_of(slice_of(windows, time))) == containing(windows, time)


@given(WINDOWS, st.integers(-20, 20))
def test_a_window_is_made_of_whole_slices(windows, window):
    start, end = windows.bounds(window)
    slices = windows.slices(window)
    assert [slice_of(windows, time) for time in range(start, end, windows.slice_ms)] == list(slices)
    assert windows.end_of_slice(slices[-1]) == end
    assert windows.end_of_slice(slices[0] - 1) == start


@given(WINDOWS, st.lists(TIMES, max_size=8))
def test_slices_inside_are_those_with_windows(windows, times):
    slices = np.array([slice_of(windows, time) for time in times], np.int64)
    inside = windows.inside(slices)
    expected = [bool(containing(windows, time)) for time in times]
    assert expected == ([True] * len(times) if inside is None else inside.tolist())


@given(WINDOWS, TIMES, TIMES)
def test_a_slice_is_live_while_a_window_with_it_is_not_over(windows, time, watermark):
    alive = any(windows.bounds(k)[1] - 1 > watermark for k in containing(windows, time))
    is_late = slice_of(windows, time) < windows.first_live_slice(watermark)
    if containing(windows, time):
        assert alive != is_late


@given(WINDOWS, st.one_of(TIMES, st.just(MIN_TIME)), st.one_of(TIMES, st.just(MAX_TIME)), st.lists(TIMES, max_size=8))
def test_due_windows_end_between_the_watermarks(windows, before, watermark, times):
    slices = {slice_of(windows, time) for time in times}
    expected = {
        k for time in times for k in containing(windows, time) if before < windows.bounds(k)[1] - 1 <= watermark
    }
    assert windows.due(before, watermark, slices) == sorted(expected)


def test_no_slice_is_late_before_the_first_watermark_and_every_one_after_the_last():
    windows = tumbling(seconds(5))
    assert windows.first_live_slice(MIN_TIME) == MIN_TIME
    assert windows.first_live_slice(MAX_TIME) == MAX_TIME


def test_a_window_is_over_when_the_watermark_has_reached_its_last_millisecond():
    windows = tumbling(seconds(5))
    assert windows.due(MIN_TIME, 4998, [0]) == []
    assert windows.due(4998, 4999, [0]) == [0]
    assert windows.due(4999, 9000, [0]) == []
    assert (windows.first_live_slice(4998), windows.first_live_slice(4999)) == (0, 1)


def test_slices_are_as_long_as_the_windows_allow():
    assert sliding(seconds(5), every=seconds(1)).slice_ms == 1000
    assert sliding(seconds(10), every=seconds(4)).slice_ms == 2000
    assert sliding(milliseconds(200), every=seconds(1)).slice_ms == 200
    assert tumbling(minutes(1)).slice_ms == 60_000


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
    with pytest.raises(TopologyError, match="from inf s"):
        tumbling(1, offset=float("inf"))
