"""TimerQueue against a set: each (time, key) once, due in order of time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_after_the_end_no_timer_is_set():
    queue = TimerQueue()
    queue.register(7, "k")
    assert queue.close() == 7
    queue.register(9, "k")
    assert list(queue.take_due(10)) == [(7, "k")]
    assert queue.next_ms is None
