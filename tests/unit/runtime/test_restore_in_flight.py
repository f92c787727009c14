"""Who takes over which records that were in flight, as the edge, its ends and their parallelism are now."""

from __future__ import annotations

import pytest

from streamcore import CoProcessFunction, OutputTag, StreamEnvironment
from streamcore.batch.codec import encode_saved
from streamcore.checkpoint.in_flight import InFlight, SavedChannel
from streamcore.checkpoint.log import SubtaskEntry
from streamcore.checkpoint.storage import FileRef
from streamcore.errors import IncompatibleSnapshotError
from streamcore.runtime.edges import edge_name, incoming, outgoing
from streamcore.runtime.elements import Watermark
from streamcore.runtime.partition import make_partitioner
from streamcore.runtime.restore_in_flight import read_in_flight
from streamcore.runtime.spec import Route
from streamcore.testing import MemorySink
from streamcore.time import MIN_TIME

ROUTES = {
    "hash": lambda stream: stream.key_by(lambda n: n),
    "custom": lambda stream: stream.partition(lambda n, targets: n % targets),
    "rebalance": lambda stream: stream.rebalance(),
    "broadcast": lambda stream: stream.broadcast(),
    "forward": lambda stream: stream,
}


def job(route, senders, receivers, *, together=False):
    env = StreamEnvironment("job", parallelism=receivers, max_parallelism=16)
    stream = env.from_values([1]).rebalance().map(lambda n: n).uid("sender").parallelism(senders)
    after = ROUTES[route](stream).map(lambda n: n).uid("receiver").parallelism(receivers)
    if not together:
        after = after.start_new_chain()
    after.sink(MemorySink()).uid("sink")
    return env.compile()


class Turn(CoProcessFunction):
    def process_first(self, record, ctx):
        ctx.emit(record)

    process_second = process_first


@pytest.mark.parametrize("route", ROUTES)
def test_the_plans_here_have_the_edge_that_they_are_for(route):
    spec = job(route, 2, 2)
    (edge,) = outgoing(spec, vertex(spec, "sender").id)
    assert edge.partitioning.route is Route(route)


def vertex(spec, uid):
    return next(v for v in spec.vertices if any(op.uid == uid for op in v.operators))


def batch(*numbers):
    form, body = encode_saved(list(numbers), allow_pickle=False)
    return int(form), body


def entry(index, parallelism):
    return SubtaskEntry(1, index, parallelism, ["x"], finished=False, file=FileRef("x", 1, "x"))


def restored(spec, uid, index, *saved):
    """What subtask `index` gets of (old index, old parallelism, InFlight)."""
    return read_in_flight(spec, vertex(spec, uid), index, [(entry(i, n), in_flight) for i, n, in_flight in saved])


def inputs(peer, peers, *elements):
    return InFlight(inputs=[SavedChannel("sender.>receiver.0", peer, peers, list(elements))])


def outputs(peer, peers, *elements):
    return InFlight(outputs=[SavedChannel("sender.>receiver.0", peer, peers, list(elements))])


def all_records(spec, uid, count, *saved):
    """Subtask → the records of its inputs, or of its outputs."""
    result = {}
    for index in range(count):
        found = restored(spec, uid, index, *saved)
        parts = [elements for _, elements in found.inputs] + [elements for *_, elements in found.outputs]
        result[index] = [record for elements in parts for batch in elements for record in batch]
    return result


@pytest.mark.parametrize("route", ROUTES)
def test_at_the_same_parallelism_all_is_put_back_in_its_place(route):
    spec = job(route, 2, 2)
    sender = 1 if route == "forward" else 0
    saved = inputs(sender, 1 if route == "forward" else 2, batch(1, 2), (0, 50, False), batch(3))
    found = restored(spec, "receiver", 1, (1, 2, saved))
    ((number, elements),) = found.inputs
    edge, from_whom = incoming(spec, vertex(spec, "receiver").id, 1)[number]
    assert (edge_name(spec, edge), from_whom) == ("sender.>receiver.0", sender)
    assert elements == [[1, 2], Watermark(50), [3]]
    assert restored(spec, "receiver", 0, (1, 2, saved)).inputs == []
    left = outputs(1, 2, batch(1), (0, 50, False))
    assert restored(spec, "sender", 1, (1, 2, left)).outputs == [
        (0, 0 if route == "forward" else 1, [[1], Watermark(50)])
    ]
    assert restored(spec, "sender", 0, (1, 2, left)).outputs == []


def test_idleness_at_the_end_is_taken_back():
    spec = job("hash", 1, 2)
    saved = inputs(0, 1, (0, 50, True), batch(1), (0, 60, True))
    ((_, elements),) = restored(spec, "receiver", 0, (0, 2, saved)).inputs
    assert elements == [Watermark(50, idle=True), [1], Watermark(60, idle=True), Watermark(MIN_TIME)]


@pytest.mark.parametrize("route", ["hash", "custom"])
@pytest.mark.parametrize("receivers", [1, 3])
def test_records_in_flight_to_other_receivers_go_where_the_edge_sends_them_now(route, receivers):
    spec = job(route, 2, receivers)
    saved = [(i, 2, inputs(0, 2, batch(*range(i, 20, 2)), (0, 9, False))) for i in range(2)]
    edge = next(edge for edge, _ in incoming(spec, vertex(spec, "receiver").id, 0))
    partition = make_partitioner(edge.partitioning, 0, receivers, 16)
    expected = {i: sorted(dict(partition(list(range(20)))).get(i, [])) for i in range(receivers)}
    got = all_records(spec, "receiver", receivers, *saved)
    assert {i: sorted(records) for i, records in got.items()} == expected


@pytest.mark.parametrize("receivers", [1, 3])
def test_records_that_were_dealt_out_go_from_old_subtask_to_its_successor(receivers):
    spec = job("rebalance", 2, receivers)
    saved = [(i, 2, inputs(1, 2, batch(i, i + 10))) for i in range(2)]
    got = all_records(spec, "receiver", receivers, *saved)
    assert got == ({0: [0, 10, 1, 11]} if receivers == 1 else {0: [0, 10], 1: [1, 11], 2: []})


@pytest.mark.parametrize("count", [1, 3])
def test_both_ends_of_a_forward_edge_move_together(count):
    spec = job("forward", count, count)
    parts = [(i, 2, inputs(i, 1, batch(i), (0, 5, False))) for i in range(2)]
    expected = {0: [0, 1]} if count == 1 else {0: [0], 1: [1], 2: []}
    assert all_records(spec, "receiver", count, *parts) == expected
    parts = [(i, 2, outputs(i, 1, batch(i), (0, 5, False))) for i in range(2)]
    assert all_records(spec, "sender", count, *parts) == expected


def test_with_other_senders_records_stay_with_their_receiver_and_lose_watermarks():
    spec = job("hash", 1, 2)
    saved = [inputs(sender, 3, batch(sender), (0, 9, False)) for sender in range(3)]
    merged = InFlight(inputs=[channel for part in saved for channel in part.inputs])
    found = restored(spec, "receiver", 1, (1, 2, merged))
    assert found.inputs == [(0, [[0]]), (0, [[1]]), (0, [[2]])]


@pytest.mark.parametrize("route", ["hash", "rebalance", "broadcast"])
def test_what_old_senders_had_left_is_sent_to_the_same_receiver_by_their_successors(route):
    spec = job(route, 2, 2)
    saved = [(i, 3, outputs(1, 2, batch(i), (0, 9, False))) for i in range(3)]
    assert restored(spec, "sender", 0, *saved).outputs == [(0, 1, [[0]]), (0, 1, [[2]])]
    assert restored(spec, "sender", 1, *saved).outputs == [(0, 1, [[1]])]


def test_what_was_left_for_other_receivers_is_sent_by_the_edge_s_rule():
    spec = job("hash", 2, 3)
    saved = [(i, 2, outputs(1, 2, batch(i), (0, 9, False))) for i in range(2)]
    assert restored(spec, "sender", 1, *saved).outputs == [(0, None, [[1]])]


@pytest.mark.parametrize("saved", [inputs(0, 2, batch(1)), outputs(1, 2, batch(1))])
def test_copies_for_another_number_of_receivers_are_refused(saved):
    spec = job("broadcast", 2, 3)
    uid = "receiver" if saved.inputs else "sender"
    with pytest.raises(IncompatibleSnapshotError, match=r"sender\.>receiver\.0, which is broadcast") as refused:
        restored(spec, uid, 0, (0, 2, saved))
    assert "restore with parallelism 2" in refused.value.hint


def test_what_was_between_two_chains_goes_through_the_one_they_are_now_inputs_first():
    spec = job("forward", 1, 1, together=True)
    left = outputs(0, 1, batch(3), (0, 9, False))
    found = restored(spec, "receiver", 0, (1, 2, left), (0, 1, inputs(0, 2, batch(1), batch(2))))
    place = [op.uid for op in vertex(spec, "receiver").operators].index("receiver")
    assert found.inside == [(place, [1]), (place, [2]), (place, [3])]
    assert (found.inputs, found.outputs) == ([], [])


def test_an_edge_that_is_gone_is_refused_by_the_subtasks_at_its_ends_alone():
    spec = job("hash", 2, 2)
    gone = [SavedChannel("sender.left>receiver.0", 0, 2, [batch(1)])]
    for uid, in_flight in (("receiver", InFlight(inputs=gone)), ("sender", InFlight(outputs=gone))):
        with pytest.raises(IncompatibleSnapshotError, match=r"in flight on the edge sender\.left>receiver\.0") as no:
            restored(spec, uid, 0, (0, 2, in_flight))
        assert "topology that wrote it" in no.value.hint
    assert restored(spec, "receiver", 0, (0, 2, InFlight(outputs=gone))).outputs == []
    assert restored(spec, "sender", 0, (0, 2, InFlight(inputs=gone))).inputs == []


def test_feedback_of_older_snapshots_is_read():
    spec = job("hash", 2, 2)
    old = InFlight.from_feedback({"sender.>receiver.0": [batch(1), batch(2)]})
    assert restored(spec, "receiver", 0, (0, 2, old)).inputs == [(0, [[1], [2]])]


def test_edges_with_the_same_ends_have_names_of_their_own():
    env = StreamEnvironment("twice", parallelism=2)
    numbers = env.from_values([1])
    with env.loop() as loop:
        head = numbers.connect(loop.feedback).key_by(abs, abs).process(Turn()).uid("head")
        again = head.map(lambda n: n).uid("again").start_new_chain()
        loop.close(again, again, again.side_output(OutputTag("late")))
    spec = env.compile()
    names = [edge_name(spec, edge) for edge in outgoing(spec, vertex(spec, "again").id)]
    assert names == ["again.>head.1", "again.>head.1#1", "again.late>head.1"]
