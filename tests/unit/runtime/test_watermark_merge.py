"""The watermark of a subtask over its channels."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamcore.runtime.watermarks import WatermarkMerge
from streamcore.time import MIN_TIME


def test_the_lowest_channel_counts():
    merge = WatermarkMerge(dict.fromkeys([0, 1], MIN_TIME))
    assert merge.advance(0, 10) is None
    assert merge.advance(1, 7) == 7
    assert merge.advance(1, 12) == 10
    assert merge.advance(1, 15) is None


def test_a_watermark_that_goes_back_changes_nothing():
    merge = WatermarkMerge(dict.fromkeys([0], MIN_TIME))
    assert merge.advance(0, 10) == 10
    assert merge.advance(0, 9) is None
    assert merge.advance(0, 10) is None
    assert merge.advance(0, 11) == 11


def test_a_channel_that_ends_holds_nothing_back():
    merge = WatermarkMerge(dict.fromkeys([0, 1, 2], MIN_TIME))
    assert merge.advance(0, 10) is None
    assert merge.advance(1, 8) is None
    assert merge.end(2) == 8
    assert merge.end(1) == 10


def test_after_the_last_end_time_stands_still():
    merge = WatermarkMerge(dict.fromkeys([0], MIN_TIME))
    assert merge.advance(0, 10) == 10
    assert merge.end(0) is None


def test_other_channels_are_not_listened_to():
    merge = WatermarkMerge(dict.fromkeys([0], MIN_TIME))
    assert merge.advance(5, 99) is None
    assert merge.end(5) is None
    assert merge.advance(0, 1) == 1


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(-50, 50))), max_size=40),
)
def test_it_is_the_minimum_over_all_open_channels_and_never_goes_back(count, events):
    merge, times, current = (
        WatermarkMerge(dict.fromkeys(range(count), MIN_TIME)),
        dict.fromkeys(range(count), MIN_TIME),
        MIN_TIME,
    )
    for channel, time in events:
        if channel not in times:
            continue
        if time is None:
            del times[channel]
            moved = merge.end(channel)
        else:
            times[channel] = max(times[channel], time)
            moved = merge.advance(channel, time)
        lowest = min(times.values(), default=current)
        assert moved == (lowest if lowest > current else None)
        current = max(current, lowest)
