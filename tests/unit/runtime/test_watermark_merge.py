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


def test_an_idle_channel_holds_nothing_back():
    merge = WatermarkMerge({0: 5, 1: 5})
    assert merge.advance(0, 20) is None
    assert merge.advance(1, 5, idle=True) == 20
    assert not merge.idle
    assert merge.advance(0, 30) == 30


def test_one_that_wakes_up_behind_holds_time_where_it_is_until_it_has_caught_up():
    merge = WatermarkMerge({0: 5, 1: 5})
    merge.advance(1, 5, idle=True)
    assert merge.advance(0, 20) == 20
    assert merge.advance(1, 5) is None
    assert merge.advance(0, 30) is None
    assert merge.advance(1, 19) is None
    assert merge.advance(1, 22) == 22


def test_it_does_not_matter_which_falls_silent_first():
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        merge = WatermarkMerge({0: 10, 1: 30, 2: 20})
        for channel in order:
            assert not merge.idle
            merge.advance(channel, 0, idle=True)
        assert (merge.idle, merge.current) == (True, 30)


def test_idle_ones_are_left_when_the_active_one_ends():
    merge = WatermarkMerge({0: 10, 1: 30})
    merge.advance(0, 10, idle=True)
    assert merge.end(1) is None
    assert (merge.idle, merge.current) == (True, 30)
    assert merge.end(0) is None


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["end", "idle", "active"]), st.integers(-50, 50))),
)
def test_it_is_the_minimum_over_all_open_active_channels_and_never_goes_back(count, events):
    times, silent, current, ended = dict.fromkeys(range(count), MIN_TIME), set(), MIN_TIME, MIN_TIME
    merge = WatermarkMerge(times)
    for channel, event, time in events:
        if channel not in times:
            continue
        if event == "end":
            ended = max(ended, times.pop(channel))
            silent.discard(channel)
            moved = merge.end(channel)
        else:
            times[channel] = max(times[channel], time)
            (silent.add if event == "idle" else silent.discard)(channel)
            moved = merge.advance(channel, time, idle=event == "idle")
        active = [times[c] for c in times if c not in silent]
        lowest = min(active) if active else max([ended, *times.values()]) if times else current
        assert moved == (lowest if lowest > current else None)
        current = max(current, lowest)
        assert merge.current == current
        assert not times or merge.idle == (not active)
