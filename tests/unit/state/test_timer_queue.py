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
            due = queue.pop_due(time_ms)
            if due is None:
                assert all(t > time_ms for t, _ in model)
            else:
                assert due in model
                assert due[0] == min(t for t, _ in model) <= time_ms
                model.remove(due)
        assert len(queue) == len(model)
        assert queue.next_ms == min((t for t, _ in model), default=None)


def test_a_timer_that_was_cancelled_and_set_again_fires_once():
    queue = TimerQueue()
    for _ in range(3):
        queue.register(5, "k")
        queue.cancel(5, "k")
    queue.register(5, "k")
    assert queue.pop_due(5) == (5, "k")
    assert queue.pop_due(5) is None
