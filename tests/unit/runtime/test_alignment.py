"""The table at the top of `runtime.alignment`, row by row, and its invariants over random sequences of events."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.runtime.alignment import NOTHING, Alignment, Step

A, B, BACK, BACK2 = 0, 1, 2, 3  # two forward channels and two feedback channels


def head():
    return Alignment(forward=[A, B], feedback=[BACK, BACK2])


def join():
    return Alignment(forward=[A, B], feedback=[])


def test_a_barrier_holds_its_channel_until_all_forward_channels_have_it():
    alignment = join()
    assert alignment.barrier(A, 1) == NOTHING
    assert (alignment.holds(A), alignment.holds(B)) == (True, False)
    assert alignment.current == 1
    assert alignment.barrier(B, 1) == Step(capture=1, log_complete=1)
    assert not alignment.holds(A)
    assert alignment.current is None


def test_one_input_captures_at_once():
    assert Alignment([A], []).barrier(A, 5) == Step(5, 5)


def test_a_head_captures_without_waiting_for_feedback_and_logs_it_until_the_barrier_returns():
    alignment = head()
    assert not alignment.logs(BACK)
    alignment.barrier(A, 1)
    assert not alignment.logs(BACK)  # before the capture it is part of the state
    assert alignment.barrier(B, 1) == Step(capture=1)
    assert [alignment.logs(c) for c in (A, B, BACK, BACK2)] == [False, False, True, True]
    assert [alignment.holds(c) for c in (A, B, BACK, BACK2)] == [False] * 4
    assert alignment.barrier(BACK, 1) == NOTHING
    assert (alignment.logs(BACK), alignment.logs(BACK2)) == (False, True)
    assert alignment.barrier(BACK2, 1) == Step(log_complete=1)
    assert not alignment.logs(BACK2)


def test_a_feedback_barrier_before_the_forward_ones_holds_that_channel_alone_until_the_capture():
    alignment = head()
    assert alignment.barrier(BACK, 1) == NOTHING
    assert [alignment.holds(c) for c in (A, B, BACK, BACK2)] == [False, False, True, False]
    assert alignment.barrier(A, 1) == NOTHING
    assert alignment.holds(BACK)
    assert alignment.barrier(B, 1) == Step(capture=1)
    assert not alignment.holds(BACK)
    assert (alignment.logs(BACK), alignment.logs(BACK2)) == (False, True)  # its log for 1 is empty


def test_all_feedback_barriers_first_make_capture_and_log_one_step():
    alignment = head()
    alignment.barrier(BACK, 1)
    alignment.barrier(BACK2, 1)
    alignment.barrier(A, 1)
    assert alignment.barrier(B, 1) == Step(1, 1)


def test_trigger_captures_a_source_at_once():
    source = Alignment([], [])
    assert source.trigger(1) == Step(1, 1)
    assert source.trigger(1) == NOTHING
    assert source.trigger(2) == Step(2, 2)


def test_trigger_waits_for_forward_inputs_that_have_not_ended():
    alignment = head()
    assert alignment.trigger(1) == NOTHING
    assert not any(alignment.holds(c) for c in (A, B, BACK, BACK2))
    alignment.barrier(A, 1)
    assert alignment.barrier(B, 1) == Step(capture=1)


def test_trigger_with_all_forward_inputs_ended_captures_and_logs_feedback():
    alignment = head()
    assert alignment.end(A) == NOTHING
    assert not alignment.forward_ended
    alignment.end(B)
    assert alignment.forward_ended
    assert not alignment.all_ended
    assert alignment.trigger(3) == Step(capture=3)
    assert alignment.logs(BACK)
    alignment.barrier(BACK, 3)
    assert alignment.barrier(BACK2, 3) == Step(log_complete=3)


def test_a_feedback_barrier_triggers_a_head_whose_forward_inputs_have_ended():
    alignment = head()
    alignment.end(A)
    alignment.end(B)
    assert alignment.barrier(BACK, 1) == Step(capture=1)
    assert not alignment.holds(BACK)


def test_end_counts_as_marked_for_this_and_every_later_checkpoint():
    alignment = join()
    alignment.barrier(A, 1)
    assert alignment.end(B) == Step(1, 1)
    assert alignment.has_ended(B)
    assert alignment.barrier(A, 2) == Step(2, 2)


def test_the_end_of_a_feedback_channel_closes_its_log():
    alignment = head()
    alignment.end(BACK2)
    alignment.barrier(A, 1)
    assert alignment.barrier(B, 1) == Step(capture=1)
    assert (alignment.logs(BACK), alignment.logs(BACK2)) == (True, False)
    assert alignment.end(BACK) == Step(log_complete=1)


def test_end_without_a_checkpoint_does_nothing():
    alignment = join()
    assert alignment.end(A) == NOTHING
    assert alignment.end(B) == NOTHING
    assert alignment.all_ended


def test_a_newer_barrier_supersedes_and_drops_the_log():
    alignment = head()
    alignment.barrier(A, 1)
    alignment.barrier(B, 1)
    assert alignment.logs(BACK)
    assert alignment.barrier(A, 2) == NOTHING
    assert not alignment.logs(BACK)
    assert alignment.holds(A)
    assert alignment.current == 2
    assert alignment.barrier(BACK, 1) == NOTHING  # of the one that was given up
    assert not alignment.holds(BACK)
    assert alignment.barrier(B, 2) == Step(capture=2)


def test_a_newer_barrier_supersedes_marks_too():
    alignment = join()
    alignment.barrier(A, 1)
    assert alignment.barrier(B, 2) == NOTHING
    assert (alignment.holds(A), alignment.holds(B)) == (False, True)
    assert alignment.barrier(A, 2) == Step(2, 2)


def test_a_newer_trigger_supersedes():
    alignment = join()
    alignment.barrier(A, 1)
    assert alignment.trigger(2) == NOTHING
    assert not alignment.holds(A)


def test_a_late_barrier_and_a_late_trigger_are_ignored():
    alignment = join()
    alignment.barrier(A, 2)
    alignment.barrier(B, 2)
    assert alignment.barrier(A, 1) == NOTHING
    assert alignment.barrier(A, 2) == NOTHING
    assert alignment.trigger(2) == NOTHING
    assert alignment.current is None
    assert not alignment.holds(A)


def test_abort_releases_held_channels_and_drops_the_log():
    alignment = head()
    alignment.barrier(A, 1)
    alignment.abort(1)
    assert not alignment.holds(A)
    assert alignment.current is None
    alignment.barrier(A, 2)
    alignment.barrier(B, 2)
    alignment.abort(2)
    assert not alignment.logs(BACK)
    assert alignment.barrier(BACK, 2) == NOTHING


def test_abort_before_any_barrier_makes_its_barriers_late():
    alignment = join()
    alignment.abort(4)
    assert alignment.barrier(A, 4) == NOTHING
    assert not alignment.holds(A)
    assert alignment.barrier(A, 5) == NOTHING
    assert alignment.holds(A)


def test_abort_of_an_older_checkpoint_leaves_the_current_one():
    alignment = join()
    alignment.barrier(A, 3)
    alignment.abort(2)
    assert alignment.holds(A)
    assert alignment.barrier(B, 3) == Step(3, 3)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["barrier", "trigger", "end", "abort"]), st.integers(0, 3), st.integers(1, 4)),
    max_size=40,
)


@given(EVENTS)
@settings(max_examples=300, deadline=None)
def test_any_sequence_captures_once_in_order_and_never_holds_what_it_waits_for(events):
    alignment = head()
    captured, logged, ended = [], [], set()
    marked: dict[int, set[int]] = {}
    for kind, channel, number in events:
        if kind == "barrier":
            marked.setdefault(number, set()).add(channel)
            step = alignment.barrier(channel, number)
        elif kind == "trigger":
            step = alignment.trigger(number)
        elif kind == "end":
            ended.add(channel)
            step = alignment.end(channel)
        else:
            alignment.abort(number)
            step = NOTHING
        if step.capture is not None:
            assert {A, B} <= marked.get(step.capture, set()) | ended
            captured.append(step.capture)
        if step.log_complete is not None:
            assert step.log_complete == captured[-1]
            assert {A, B, BACK, BACK2} <= marked.get(step.log_complete, set()) | ended
            logged.append(step.log_complete)
        for c in (A, B, BACK, BACK2):
            assert not (alignment.holds(c) and alignment.logs(c))
            assert not alignment.holds(c) or c in marked.get(alignment.current, set())
        waits_for = {c for c in (A, B) if not alignment.holds(c)} - ended
        assert waits_for or not any(alignment.holds(c) for c in (A, B, BACK, BACK2)), "held for ever"
    assert captured == sorted(set(captured))
    assert logged == sorted(set(logged))
