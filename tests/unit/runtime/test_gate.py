"""The gate: feedback first, but no starvation; deep feedback stops new input; what may be taken together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Columns
from streamcore.runtime.channel import InputChannel
from streamcore.runtime.elements import END_OF_INPUT, Barrier, Watermark
from streamcore.runtime.feedback import FeedbackQueue
from streamcore.runtime.gate import Gate
from streamcore.runtime.services import Services
from streamcore.runtime.wakeup import Wakeup

LIMIT = 50


def make_gate(kinds, ports=None, batch_size=1, feedback_limit=LIMIT):
    """A gate with one channel per letter of `kinds`: f(orward) or b(ack)."""
    services, wakeup = Services(), Wakeup()
    channels = [
        InputChannel(
            number,
            (ports or [0] * len(kinds))[number],
            wakeup,
            feedback=FeedbackQueue(services, None, 1000) if kind == "b" else None,
            from_loop=kind == "b",
        )
        for number, kind in enumerate(kinds)
    ]
    return Gate(channels, services, feedback_limit, batch_size)


def fill(gate, number, *elements):
    for element in elements:
        gate.channels[number].deliver(element)


def numbers(polled):
    return [channel.number for channel, _ in polled]


def poll_all(gate):
    """All polls until nothing can be read."""
    polls = []
    while polled := gate.poll():
        polls.append(polled)
    return polls


def columns(n):
    return Columns.of(x=np.arange(n))


def test_an_empty_gate_has_nothing():
    gate = make_gate("fb")
    assert gate.poll() == []
    assert not gate.has_input


def test_feedback_comes_first():
    gate = make_gate("fb")
    fill(gate, 0, ["new"])
    fill(gate, 1, ["back"])
    assert [element for poll in poll_all(gate) for _, element in poll] == [["back"], ["new"]]


def test_forward_channels_are_read_in_turn():
    gate = make_gate("fff")
    for number in range(3):
        fill(gate, number, *[[i] for i in range(10)])
    first = [numbers(gate.poll())[0] for _ in range(9)]
    assert sorted(first) == [0] * 3 + [1] * 3 + [2] * 3


def test_deep_feedback_stops_new_input():
    gate = make_gate("fb")
    fill(gate, 0, *[["new"]] * 100)
    for _ in range(300):
        fill(gate, 1, ["back"] * LIMIT)  # one batch comes back for each that is taken
        assert numbers(gate.poll()) == [1]


def test_a_barrier_gets_through_a_loop_that_never_rests():
    gate = make_gate("fb")
    fill(gate, 0, Barrier(1))
    for _ in range(20):
        fill(gate, 1, ["back"])
        ((_, element),) = gate.poll()
        if element == Barrier(1):
            break
    else:
        pytest.fail("the barrier starved")


def test_below_the_limit_forward_input_gets_its_share():
    gate = make_gate("fb")
    fill(gate, 0, *[["new"]] * 1000)
    taken = []
    for _ in range(200):
        fill(gate, 1, ["back"])
        taken.extend(numbers(gate.poll()))
    assert 10 <= taken.count(0) <= 60
    longest = max(len(run) for run in "".join(map(str, taken)).split("0"))
    assert longest < 20


def test_held_feedback_does_not_count_as_deep():
    gate = make_gate("fb")
    gate.alignment.barrier(1, 1)
    gate.refresh()
    fill(gate, 1, ["back"] * LIMIT, ["back"] * LIMIT)
    fill(gate, 0, ["new"], Barrier(1))
    assert [element for poll in poll_all(gate) for _, element in poll] == [["new"], Barrier(1)]
    gate.alignment.barrier(0, 1)
    gate.alignment.captured()
    gate.refresh()
    assert gate.has_input
    assert [numbers(poll) for poll in poll_all(gate)] == [[1], [1]]


def test_deep_feedback_that_is_held_does_not_starve_the_barrier_it_waits_for():
    gate = make_gate("fbb")
    gate.alignment.barrier(1, 1)
    gate.refresh()
    fill(gate, 1, ["behind the barrier"] * 10 * LIMIT)
    fill(gate, 0, Barrier(1))
    for _ in range(20):
        fill(gate, 2, ["back"])
        ((_, element),) = gate.poll()
        if element == Barrier(1):
            break
    else:
        pytest.fail("the barrier starved")


def test_a_held_forward_channel_is_not_read():
    gate = make_gate("ff")
    gate.alignment.barrier(0, 1)
    gate.refresh()
    fill(gate, 0, ["behind"])
    assert not gate.has_input
    assert gate.poll() == []
    fill(gate, 1, ["before"])
    assert [numbers(poll) for poll in poll_all(gate)] == [[1]]
    gate.alignment.abort(1)
    gate.refresh()
    assert [numbers(poll) for poll in poll_all(gate)] == [[0]]


def test_small_batches_are_taken_together_up_to_the_batch_size():
    gate = make_gate("f", batch_size=10)
    fill(gate, 0, *[[i] * 3 for i in range(8)])
    sizes = [sum(len(element) for _, element in poll) for poll in poll_all(gate)]
    assert sum(sizes) == 24
    assert all(10 <= size < 13 for size in sizes[:-1])


def test_taking_together_stops_before_a_control_element():
    gate = make_gate("f", batch_size=100)
    fill(gate, 0, [1], [2], Barrier(1), [3], END_OF_INPUT)
    assert [[element for _, element in poll] for poll in poll_all(gate)] == [
        [[1], [2]],
        [Barrier(1)],
        [[3]],
        [END_OF_INPUT],
    ]


def test_taking_together_keeps_to_one_port():
    gate = make_gate("ff", ports=[0, 1], batch_size=100)
    fill(gate, 0, [1], [2])
    fill(gate, 1, [3], [4])
    assert sorted(numbers(poll) for poll in poll_all(gate)) == [[0, 0], [1, 1]]


def test_taking_together_keeps_to_one_form():
    gate = make_gate("ff", batch_size=100)
    fill(gate, 0, columns(2), columns(2), [1], [2], columns(3))
    fill(gate, 1, [5])
    for poll in poll_all(gate):
        assert len({type(element) for _, element in poll}) == 1


def test_a_batch_gives_its_credit_back_and_is_counted():
    gate = make_gate("f", batch_size=100)
    granted = []
    gate.channels[0].grant = lambda: granted.append(1)
    fill(gate, 0, [1], [2], Barrier(1))
    poll_all(gate)
    assert len(granted) == 2
    assert gate.channels[0].received == 2


def test_what_the_termination_detector_is_told():
    gate = make_gate("fb")
    assert gate.loop_inputs_empty
    assert not gate.outside_ended
    fill(gate, 1, ["back"])
    assert not gate.loop_inputs_empty
    gate.alignment.end(0)
    assert gate.outside_ended
    gate.poll()
    assert gate.loop_inputs_empty


def test_a_loop_can_be_over_although_barriers_are_on_their_way_round_it():
    gate = make_gate("fb")
    gate.channels[0].from_loop = True  # an inner loop's forward channel
    fill(gate, 0, Barrier(1))
    fill(gate, 1, Barrier(1))
    assert gate.loop_inputs_empty
    fill(gate, 0, Watermark(7), Barrier(2))  # may make windows emit
    assert not gate.loop_inputs_empty
    poll_all(gate)
    fill(gate, 1, Barrier(2), ["back"])
    assert not gate.loop_inputs_empty


ELEMENT = st.one_of(
    st.lists(st.integers(), min_size=1, max_size=5), st.integers(1, 5).map(columns), st.builds(Barrier, st.just(0))
)


@given(
    st.lists(st.tuples(st.integers(0, 3), ELEMENT), max_size=60),
    st.integers(1, 12),
    st.sampled_from([[0, 0, 0, 0], [0, 1, 0, 1]]),
)
@settings(max_examples=150, deadline=None)
def test_every_element_comes_once_in_the_order_of_its_channel(arrivals, batch_size, ports):
    gate = make_gate("ffbb", ports=ports, batch_size=batch_size, feedback_limit=3)
    expected = {number: [e for n, e in arrivals if n == number] for number in range(4)}
    for number, element in arrivals:
        fill(gate, number, element)
    got = {number: [] for number in range(4)}
    for polled in poll_all(gate):
        assert len({(channel.port, type(element)) for channel, element in polled}) == 1
        assert len(polled) == 1 or not isinstance(polled[0][1], Barrier)
        sizes = [len(e) for _, e in polled if not isinstance(e, Barrier)]
        assert sum(sizes[:-1]) < batch_size
        for channel, element in polled:
            got[channel.number].append(element)
    assert all(
        len(got[n]) == len(expected[n]) and all(a is b or a == b for a, b in zip(got[n], expected[n], strict=True))
        for n in range(4)
    )


def test_what_was_restored_comes_first_channel_by_channel_and_gives_no_credit_back():
    gate = make_gate("fbf", batch_size=2)
    granted = []
    gate.channels[0].grant = lambda: granted.append(1)
    gate.restore(0, [["a"], Watermark(5), ["b"], ["c"], ["d"]])
    gate.restore(2, [["e"]])
    gate.restore(2, [])
    fill(gate, 0, ["new"])
    fill(gate, 1, ["back"])
    assert not gate.loop_inputs_empty
    polls = [[element for _, element in poll] for poll in poll_all(gate)]
    assert polls[:5] == [[["a"]], [Watermark(5)], [["b"], ["c"]], [["d"]], [["e"]]]
    assert sorted(polls[5:]) == [[["back"]], [["new"]]]
    assert len(granted) == 1
    assert [channel.received for channel in gate.channels] == [1, 1, 0]


def test_restored_batches_of_another_form_are_not_taken_together():
    gate = make_gate("f", batch_size=100)
    gate.restore(0, [[1], [2], columns(3), [4]])
    assert [len(poll) for poll in poll_all(gate)] == [2, 1, 1]


def test_barriers_and_ends_are_seen_when_they_arrive():
    gate = make_gate("fb")
    fill(gate, 0, [1], Barrier(3), [2])
    fill(gate, 1, END_OF_INPUT)
    assert gate.marks == [(0, Barrier(3)), (1, END_OF_INPUT)]
