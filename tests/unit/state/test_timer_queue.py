"""TimerQueue against a set: each (time, key) once, due in order of time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import plain
from streamcore.errors import TopologyError, UsageError
from streamcore.state import guarded_values, timer_capture
from streamcore.state.key_groups import groups_of
from streamcore.state.timers import TimerQueue

OPERATION = st.tuples(
    st.sampled_from(["register", "cancel", "pop"]), st.integers(0, 8), st.sampled_from(["a", None, 3, (1, "t")])
)


@given(st.lists(OPERATION, max_size=60))
@settings(max_examples=150, deadline=None)
def test_against_a_set(operations):
    queue, model = TimerQueue(), set()
    for operation, time_ms, key in operations:
        if operation == "register":
            queue.register(time_ms, key)
            model.add((time_ms, key))
        elif operation == "cancel":
            queue.cancel(time_ms, key)
            model.discard((time_ms, key))
        else:
            due = list(queue.take_due(time_ms))
            assert [t for t, _ in due] == sorted(t for t, _ in due)
            assert set(due) == {timer for timer in model if timer[0] <= time_ms}
            assert len(due) == len(set(due))
            model.difference_update(due)
        assert len(queue) == len(model)
        assert queue.next_ms == min((t for t, _ in model), default=None)


def test_a_timer_that_was_cancelled_and_set_again_fires_once():
    queue = TimerQueue()
    for _ in range(3):
        queue.register(5, "k")
        queue.cancel(5, "k")
    queue.register(5, "k")
    assert list(queue.take_due(5)) == [(5, "k")]
    assert list(queue.take_due(5)) == []


def test_what_is_set_or_cancelled_while_timers_fire():
    queue = TimerQueue()
    for key in "abc":
        queue.register(5, key)
    fired = []
    for _, key in queue.take_due(5):
        fired.append(key)
        queue.register(4, key + key)  # fires in the next round, not in this one
        queue.cancel(5, "c")
    assert fired == ["a", "b"]
    assert sorted(queue.take_due(5)) == [(4, "aa"), (4, "bb")]


@given(st.lists(OPERATION, max_size=60), st.sampled_from([1, 2, 5]))
@settings(max_examples=150, deadline=None)
def test_event_timers_against_a_set(operations, step):
    """What is set while timers fire, fires in its turn if it is due; what is cancelled doesn't."""
    queue, model = TimerQueue(), set()
    for operation, time_ms, key in operations:
        if operation == "register":
            queue.register(time_ms, key)
            model.add((time_ms, key))
        elif operation == "cancel":
            queue.cancel(time_ms, key)
            model.discard((time_ms, key))
        else:
            for at_ms, found in queue.take_until(time_ms):
                assert (at_ms, found) in model
                assert at_ms == min(t for t, _ in model)
                model.discard((at_ms, found))
                if isinstance(found, str) and len(found) < 4:  # sets others, before and after, and cancels one
                    for change in (-step, step, 0):
                        queue.register(at_ms + change, found + "x")
                        model.add((at_ms + change, found + "x"))
                    queue.cancel(at_ms, 3)
                    model.discard((at_ms, 3))
                assert len(queue) == len(model)
            assert all(t > time_ms for t, _ in model)
        assert len(queue) == len(model)
        assert queue.next_ms == min((t for t, _ in model), default=None)


def test_timers_of_one_time_fire_in_the_order_in_which_they_were_set():
    queue = TimerQueue()
    for key in (3, "a", 1, None, (2, 2)):
        queue.register(7, key)
    assert [key for _, key in queue.take_until(7)] == [3, "a", 1, None, (2, 2)]


def test_timers_of_one_time_share_an_entry_and_cancelled_ones_leave_nothing():
    queue = TimerQueue()
    for key in range(1000):
        queue.register(5, key)
    assert len(queue._heap) == 1
    for time_ms in range(10_000):  # as a session does that goes on and on
        queue.register(100 + time_ms, "s")
        queue.cancel(99 + time_ms, "s")
    assert len(queue) == 1001
    assert len(queue._heap) < 3000


def test_at_the_end_timers_fire_with_those_that_they_set():
    queue = TimerQueue()
    queue.register(5, 3)
    fired = []
    for time_ms, left in queue.take_rest():
        fired.append(time_ms)
        if left:
            queue.register(time_ms + 100, left - 1)
    assert fired == [5, 105, 205, 305]


def test_timers_that_set_each_other_for_ever_are_an_error():
    queue = TimerQueue()
    queue.register(5, "k")

    def go_on():
        for time_ms, key in queue.take_rest():
            queue.register(time_ms + 1, key)

    with pytest.raises(TopologyError, match="go on setting timers"):
        go_on()


@pytest.mark.parametrize("keys", [[1, 2, 3], ["a", "b", 4], [(1, "x"), (2, "y")], [None], [1 << 70, 5], [True, 1.5]])
def test_a_snapshot_gives_every_key_back_as_it_was(keys):
    queue, times = TimerQueue(), [5, 1 << 70, 5]
    for time_ms, key in zip(times, keys, strict=False):
        queue.register(time_ms, key)
    saved = captured(queue, 8)
    again = TimerQueue()
    again.restore(saved, range(8), allow_pickle=False)
    restored = list(again.take_until(math.inf))
    assert sorted(map(repr, restored)) == sorted(map(repr, zip(times, keys, strict=False)))


def test_a_snapshot_of_pairs_is_still_read():
    queue, pairs = TimerQueue(), [(5, "ab"), (6, "c")]
    queue.restore(
        {1: plain.encode(pairs, allow_pickle=False), 2: plain.encode([(7, "d")], allow_pickle=False)},
        range(2),
        allow_pickle=False,
    )
    assert list(queue.take_until(9)) == pairs


def test_timers_of_windows_move_with_the_keys_of_the_windows():
    queue = TimerQueue()
    queue.with_windows = True
    for key in range(50):
        queue.register(key % 3, (key, "window"))
    groups = groups_of(list(range(50)), 4).tolist()
    for group, body in captured(queue, 4).items():
        part = TimerQueue()
        part.restore({group: body}, range(4), allow_pickle=False)
        assert {key for _, (key, _) in part.take_until(9)} == {key for key in range(50) if groups[key] == group}


def test_after_the_end_no_timer_is_set():
    queue = TimerQueue()
    queue.register(7, "k")
    assert queue.close() == 7
    queue.register(9, "k")
    assert list(queue.take_due(10)) == [(7, "k")]
    assert queue.next_ms is None


@pytest.mark.parametrize("time", [math.nan, 5.0, math.inf, None, "5", np.float64(5)])
def test_a_time_that_is_no_whole_number_is_refused(time):
    with pytest.raises(UsageError, match="a timer for "):
        TimerQueue().register(time, "key")


def test_whole_numbers_of_other_types_are_one_time():
    queue = TimerQueue()
    for time in (5, np.int64(5), np.uint8(5), np.int32(4)):
        queue.register(time, "key")
    due = list(queue.take_due(9))
    assert due == [(4, "key"), (5, "key")]
    assert [type(time) for time, _ in due] == [int, int]


def captured(queue, groups):
    capture = queue.capture(groups, allow_pickle=False)
    capture.finish()
    return capture.saved()


def timers_in(saved):
    queue = TimerQueue()
    queue.restore(saved, range(4), allow_pickle=False)
    return sorted(queue.take_until(math.inf))


TIMER = st.tuples(st.integers(0, 12), st.integers(0, 5))
ACTION = st.one_of(
    st.tuples(st.sampled_from(["register", "cancel"]), TIMER),
    st.tuples(st.just("due"), st.integers(0, 12)),
    st.tuples(st.sampled_from(["capture", "step", "step", "abandon"]), st.none()),
)


@given(st.lists(ACTION, max_size=60))
@settings(max_examples=150, deadline=None)
def test_a_capture_has_the_timers_as_of_its_moment(actions):
    queue, model, running = TimerQueue(), set(), None
    for action, what in actions:
        match action:
            case "register":
                queue.register(*what)
                model.add(what)
            case "cancel":
                queue.cancel(*what)
                model.discard(what)
            case "due":
                due = {timer for timer in model if timer[0] <= what}
                assert sorted(queue.take_due(what)) == sorted(due)
                model -= due
            case "capture":
                if running is not None:
                    running[0].finish()
                    assert timers_in(running[0].saved()) == running[1]
                running = queue.capture(4, allow_pickle=False), sorted(model)
            case "step" if running is not None:
                running[0].step()
            case "abandon" if running is not None:
                running[0].abandon()
                running = None
        assert len(queue) == len(model)
        assert queue.next_ms == min((time for time, _ in model), default=None)
    assert sorted(queue.take_until(math.inf)) == sorted(model)


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch):
    monkeypatch.setattr(timer_capture, "STEP_TIMES", 2)
    monkeypatch.setattr(guarded_values, "_DRAINED", 1)
