"""The table at the top of `runtime.alignment`, row by row; `tests/property/test_alignment_cuts.py` has what follows."""

from __future__ import annotations

import pytest

from streamcore.runtime.alignment import Alignment
from streamcore.runtime.elements import Mode

A, B, BACK, BACK2 = 0, 1, 2, 3  # two forward channels and two feedback channels
UNALIGNED, AT_LEAST_ONCE = Mode.UNALIGNED, Mode.AT_LEAST_ONCE


def head():
    return Alignment(forward=[A, B], feedback=[BACK, BACK2])


def join():
    return Alignment(forward=[A, B], feedback=[])


def holds(alignment, channels=(A, B, BACK, BACK2)):
    return [c for c in channels if alignment.holds(c)]


def finish(alignment):
    """Completes what is due; its number."""
    due = alignment.complete_due
    if due is not None:
        alignment.completed()
    return due


# --- aligned -----------------------------------------------------------------------------------------------


def test_a_barrier_holds_its_channel_until_all_forward_channels_have_it():
    alignment = join()
    alignment.barrier(A, 1)
    assert alignment.capture_due is None
    assert holds(alignment, (A, B)) == [A]
    assert alignment.current == 1
    alignment.barrier(B, 1)
    assert (alignment.capture_due, alignment.overtakes) == (1, False)
    assert alignment.captured() == []
    assert (alignment.capture_due, alignment.complete_due) == (None, 1)
    assert holds(alignment, (A, B)) == []
    alignment.completed()
    assert (alignment.current, alignment.complete_due) == (None, None)


def test_a_barrier_that_has_only_arrived_neither_begins_nor_holds():
    alignment = join()
    alignment.arrives(A, 1)
    alignment.arrives(B, 1)
    assert (alignment.current, alignment.capture_due) == (None, None)
    assert holds(alignment, (A, B)) == []


def test_a_head_captures_without_waiting_for_feedback_and_records_it_until_the_barrier_arrives():
    alignment = head()
    alignment.barrier(A, 1)
    alignment.barrier(B, 1)
    assert alignment.capture_due == 1
    assert alignment.captured() == [BACK, BACK2]
    assert holds(alignment) == []
    assert alignment.complete_due is None
    alignment.arrives(BACK, 1)
    assert (alignment.has_arrived(BACK), alignment.has_arrived(BACK2)) == (True, False)
    alignment.arrives(BACK2, 1)
    assert finish(alignment) == 1
    alignment.barrier(BACK, 1)  # its turn comes later, and means nothing any more
    assert alignment.current is None


def test_a_feedback_barrier_whose_turn_came_before_the_forward_ones_holds_that_channel_alone_until_the_capture():
    alignment = head()
    alignment.barrier(BACK, 1)
    assert holds(alignment) == [BACK]
    alignment.barrier(A, 1)
    assert holds(alignment) == [A, BACK]
    alignment.barrier(B, 1)
    assert alignment.captured() == [BACK2]  # its recording for 1 would be empty
    assert holds(alignment) == []


def test_a_feedback_barrier_that_has_arrived_before_the_capture_is_recorded_up_to():
    alignment = head()
    alignment.arrives(BACK, 1)
    alignment.barrier(A, 1)
    alignment.barrier(B, 1)
    assert alignment.captured() == [BACK, BACK2]
    assert alignment.has_arrived(BACK)
    assert alignment.complete_due is None
    alignment.arrives(BACK2, 1)
    assert finish(alignment) == 1


def test_all_feedback_barriers_first_make_capture_and_completion_one_step():
    alignment = head()
    for channel in (BACK, BACK2, A, B):
        alignment.barrier(channel, 1)
    assert alignment.captured() == []
    assert finish(alignment) == 1


def test_trigger_captures_a_source_at_once():
    source = Alignment([], [])
    source.trigger(1)
    assert source.capture_due == 1
    assert source.captured() == []
    assert finish(source) == 1
    source.trigger(1)
    assert source.capture_due is None
    source.trigger(2)
    assert source.capture_due == 2


def test_trigger_waits_for_forward_inputs_that_have_not_ended():
    alignment = head()
    alignment.trigger(1)
    assert alignment.capture_due is None
    assert holds(alignment) == []
    alignment.barrier(A, 1)
    alignment.barrier(B, 1)
    assert alignment.capture_due == 1


def test_trigger_with_all_forward_inputs_ended_captures_and_records_feedback():
    alignment = head()
    alignment.end(A)
    assert not alignment.forward_ended
    alignment.end(B)
    assert alignment.forward_ended
    assert not alignment.all_ended
    alignment.trigger(3)
    assert alignment.captured() == [BACK, BACK2]
    alignment.arrives(BACK, 3)
    alignment.arrives(BACK2, 3)
    assert finish(alignment) == 3


def test_a_feedback_barrier_triggers_a_head_whose_forward_inputs_have_ended():
    alignment = head()
    alignment.end(A)
    alignment.end(B)
    alignment.barrier(BACK, 1)
    assert alignment.capture_due == 1
    assert alignment.captured() == [BACK2]


def test_end_counts_as_marked_for_this_and_every_later_checkpoint():
    alignment = join()
    alignment.barrier(A, 1)
    alignment.end(B)
    assert alignment.has_ended(B)
    assert alignment.captured() == []
    assert finish(alignment) == 1
    alignment.barrier(A, 2)
    assert alignment.capture_due == 2


def test_the_end_of_a_feedback_channel_ends_its_recording():
    alignment = head()
    alignment.end(BACK2)
    alignment.barrier(A, 1)
    alignment.barrier(B, 1)
    assert alignment.captured() == [BACK]
    assert alignment.complete_due is None
    alignment.end(BACK)
    assert finish(alignment) == 1


def test_end_without_a_checkpoint_does_nothing():
    alignment = join()
    alignment.end(A)
    alignment.end(B)
    assert alignment.all_ended
    assert (alignment.current, alignment.capture_due, alignment.complete_due) == (None, None, None)


def test_a_newer_barrier_supersedes():
    alignment = head()
    alignment.barrier(A, 1)
    alignment.barrier(B, 1)
    alignment.captured()
    alignment.barrier(A, 2)
    assert holds(alignment) == [A]
    assert (alignment.current, alignment.capture_due) == (2, None)
    alignment.barrier(BACK, 1)  # of the one that was given up
    assert holds(alignment) == [A]
    alignment.barrier(B, 2)
    assert alignment.capture_due == 2


def test_a_newer_barrier_supersedes_marks_too():
    alignment = join()
    alignment.barrier(A, 1)
    alignment.barrier(B, 2)
    assert holds(alignment, (A, B)) == [B]
    alignment.barrier(A, 2)
    assert alignment.capture_due == 2


def test_a_newer_trigger_supersedes():
    alignment = join()
    alignment.barrier(A, 1)
    alignment.trigger(2)
    assert alignment.current == 2
    assert holds(alignment, (A, B)) == []


def test_a_late_barrier_and_a_late_trigger_are_ignored():
    alignment = join()
    alignment.barrier(A, 2)
    alignment.barrier(B, 2)
    alignment.captured()
    assert finish(alignment) == 2
    for mode in Mode:
        alignment.barrier(A, 1, mode)
        alignment.barrier(A, 2, mode)
        alignment.arrives(A, 2, mode)
        alignment.trigger(2, mode)
        assert alignment.current is None
        assert holds(alignment, (A, B)) == []


def test_abort_releases_held_channels():
    alignment = head()
    alignment.barrier(A, 1)
    alignment.abort(1)
    assert (alignment.current, holds(alignment)) == (None, [])
    alignment.barrier(A, 2)
    alignment.barrier(B, 2)
    alignment.captured()
    alignment.abort(2)
    alignment.arrives(BACK, 2)
    alignment.arrives(BACK2, 2)
    assert (alignment.current, alignment.complete_due) == (None, None)


def test_abort_before_any_barrier_makes_its_barriers_late():
    alignment = join()
    alignment.abort(4)
    alignment.barrier(A, 4)
    alignment.trigger(4, UNALIGNED)
    assert alignment.current is None
    alignment.barrier(A, 5)
    assert holds(alignment, (A, B)) == [A]


def test_abort_of_an_older_checkpoint_leaves_the_current_one():
    alignment = join()
    alignment.barrier(A, 3)
    alignment.abort(2)
    assert holds(alignment, (A, B)) == [A]
    alignment.barrier(B, 3)
    assert alignment.capture_due == 3


def test_nothing_is_captured_that_is_not_due():
    alignment = join()
    alignment.barrier(A, 1)
    with pytest.raises(AssertionError):
        alignment.captured()


# --- unaligned ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["arrives", "trigger", "barrier"])
@pytest.mark.parametrize("channel", [A, BACK])
def test_the_first_sign_of_an_unaligned_checkpoint_makes_the_capture_due(sign, channel):
    alignment = head()
    if sign == "trigger":
        alignment.trigger(1, UNALIGNED)
    else:
        getattr(alignment, sign)(channel, 1, UNALIGNED)
    assert (alignment.capture_due, alignment.overtakes, alignment.mode) == (1, True, UNALIGNED)


def test_every_channel_is_recorded_until_its_barrier_arrives():
    alignment = head()
    alignment.arrives(A, 1, UNALIGNED)
    assert alignment.captured() == [A, B, BACK, BACK2]
    assert [alignment.has_arrived(c) for c in (A, B, BACK, BACK2)] == [True, False, False, False]
    assert holds(alignment) == []
    for channel in (BACK, B):
        alignment.arrives(channel, 1, UNALIGNED)
        assert alignment.complete_due is None
    alignment.barrier(A, 1, UNALIGNED)  # its turn changes nothing
    assert holds(alignment) == []
    alignment.end_arrives(BACK2)
    assert finish(alignment) == 1


def test_the_end_of_input_ends_a_recording_when_it_arrives():
    alignment = join()
    alignment.end_arrives(A)
    alignment.trigger(1, UNALIGNED)
    assert alignment.captured() == [A, B]
    assert (alignment.has_arrived(A), alignment.has_arrived(B)) == (True, False)
    alignment.arrives(B, 1)
    assert finish(alignment) == 1


def test_an_aligned_checkpoint_becomes_unaligned_while_barriers_are_waited_for():
    alignment = head()
    alignment.barrier(A, 1)
    alignment.arrives(B, 1)
    alignment.trigger(1, UNALIGNED)
    assert (alignment.capture_due, alignment.overtakes) == (1, True)
    assert holds(alignment) == [A]  # what is behind its barrier must not be processed before the capture
    assert alignment.captured() == [B, BACK, BACK2]  # of what was before it, nothing is left
    assert (alignment.has_arrived(B), alignment.has_arrived(BACK)) == (True, False)
    assert holds(alignment) == []


def test_it_also_becomes_unaligned_by_a_barrier():
    alignment = join()
    alignment.barrier(A, 1)
    alignment.arrives(B, 1, UNALIGNED)
    assert (alignment.capture_due, alignment.overtakes) == (1, True)
    assert alignment.captured() == [B]
    assert finish(alignment) == 1


def test_a_capture_that_waits_for_the_outputs_overtakes_them_when_the_checkpoint_becomes_unaligned():
    alignment = join()
    alignment.barrier(A, 1)
    alignment.barrier(B, 1)
    assert (alignment.capture_due, alignment.overtakes) == (1, False)
    alignment.trigger(1, UNALIGNED)
    assert (alignment.capture_due, alignment.overtakes) == (1, True)


def test_a_captured_checkpoint_is_not_captured_again_when_it_becomes_unaligned():
    alignment = head()
    alignment.barrier(A, 1)
    alignment.barrier(B, 1)
    alignment.captured()
    alignment.trigger(1, UNALIGNED)
    assert alignment.capture_due is None


def test_an_aligned_trigger_does_not_take_back_that_it_is_unaligned():
    alignment = join()
    alignment.arrives(A, 1, UNALIGNED)
    alignment.trigger(1)
    alignment.barrier(B, 1)
    assert alignment.overtakes


def test_the_next_checkpoint_has_a_mode_of_its_own():
    alignment = join()
    alignment.arrives(A, 1, UNALIGNED)
    alignment.barrier(A, 2)
    assert (alignment.current, alignment.mode, alignment.capture_due) == (2, Mode.ALIGNED, None)


def test_a_barrier_on_a_channel_that_has_ended_is_ignored():
    alignment = head()
    alignment.end(BACK)
    alignment.arrives(BACK, 1, UNALIGNED)
    assert alignment.current is None


# --- at least once -----------------------------------------------------------------------------------------


def test_at_least_once_holds_nothing_and_captures_when_all_barriers_have_come():
    alignment = head()
    alignment.barrier(A, 1, AT_LEAST_ONCE)
    alignment.barrier(BACK, 1, AT_LEAST_ONCE)
    assert (alignment.capture_due, holds(alignment)) == (None, [])
    alignment.barrier(B, 1, AT_LEAST_ONCE)
    assert (alignment.capture_due, alignment.overtakes) == (1, False)
    assert alignment.captured() == [BACK2]
    alignment.arrives(BACK2, 1, AT_LEAST_ONCE)
    assert finish(alignment) == 1
