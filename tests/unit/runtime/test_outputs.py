"""A subtask's outputs: credits, the buffer time-out, and the order of records and control elements."""

from __future__ import annotations

import asyncio
from functools import partial

import numpy as np
import pytest

from streamcore.batch import Columns, to_rows
from streamcore.runtime.channel import InputChannel, OutputChannel, connect_locally
from streamcore.runtime.elements import END_OF_INPUT, Barrier, Watermark
from streamcore.runtime.feedback import FeedbackQueue
from streamcore.runtime.output import EdgeOutput, Outputs
from streamcore.runtime.partition import make_partitioner
from streamcore.runtime.recording import Recording
from streamcore.runtime.services import Services
from streamcore.runtime.spec import Partitioning, Route
from streamcore.runtime.wakeup import Wakeup


class FakeClock:
    now = 100.0

    def monotonic(self):
        return self.now


class Rig:
    """One out-edge to `targets` local receivers."""

    def __init__(self, route=Route.FORWARD, targets=1, batch_size=10, timeout_s=0.5, credit_count=2, in_loop=False):
        services = Services()
        services.clock = self.clock = FakeClock()
        self.wakeup = Wakeup()
        self.receivers = [InputChannel(i, 0, Wakeup()) for i in range(targets)]
        senders = [connect_locally(receiver, self.wakeup, credit_count) for receiver in self.receivers]
        partition = make_partitioner(Partitioning(route), 0, targets, 16)
        self.edge = EdgeOutput(senders, partition, batch_size, in_loop=in_loop)
        self.outputs = Outputs([self.edge], self.wakeup, services, timeout_s)

    def write(self, batch):
        self.edge.write(batch)
        self.outputs.settle()

    def arrived(self, receiver=0):
        return list(self.receivers[receiver].queue)


async def is_blocked(task):
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


def test_records_are_gathered_until_the_batch_is_full():
    async def scenario():
        rig = Rig(batch_size=10)  # an edge cuts at half of it: what was cut is not gathered to full size again
        rig.write([1, 2])
        await rig.outputs.drain()
        assert rig.arrived() == []
        assert rig.outputs.deadline == pytest.approx(100.5)
        rig.write([3, 4, 5, 6])
        await rig.outputs.drain()
        assert rig.arrived() == [[1, 2, 3, 4, 5, 6]]

    asyncio.run(scenario())


def test_the_buffer_timeout_counts_from_the_first_record():
    async def scenario():
        rig = Rig()
        rig.write([1])
        rig.clock.now = 100.4
        rig.write([2])
        await rig.outputs.drain()
        assert rig.arrived() == []
        assert rig.outputs.deadline == pytest.approx(100.5)
        rig.clock.now = 100.5
        rig.write([3])
        await rig.outputs.drain()
        assert rig.arrived() == [[1, 2, 3]]
        assert rig.outputs.deadline is None

    asyncio.run(scenario())


def test_a_timeout_of_zero_sends_every_batch_at_once():
    async def scenario():
        rig = Rig(timeout_s=0)
        for i in range(2):
            rig.write([i])
            await rig.outputs.drain()
        assert rig.arrived() == [[0], [1]]
        assert rig.outputs.deadline is None

    asyncio.run(scenario())


def test_credits_are_respected_and_come_back_when_the_receiver_takes():
    async def scenario():
        rig = Rig(timeout_s=0, credit_count=2)
        for i in range(5):
            rig.write([i])
        task = asyncio.create_task(rig.outputs.drain())
        assert await is_blocked(task)
        assert rig.arrived() == [[0], [1]]
        assert rig.receivers[0].take() == [0]
        assert await is_blocked(task)
        assert rig.arrived() == [[1], [2]]
        taken = []
        while not task.done() or rig.arrived():
            if rig.arrived():
                taken.append(rig.receivers[0].take())
            await asyncio.sleep(0)
            assert len(rig.arrived()) <= 2
        assert taken == [[1], [2], [3], [4]]

    asyncio.run(scenario())


def test_one_blocked_receiver_does_not_keep_records_from_the_others():
    async def scenario():
        rig = Rig(Route.BROADCAST, targets=2, timeout_s=0, credit_count=1)
        rig.write([1])
        rig.write([2])
        task = asyncio.create_task(rig.outputs.drain())
        assert await is_blocked(task)
        rig.receivers[0].take()
        assert await is_blocked(task)
        assert rig.arrived(0) == [[2]]
        assert rig.arrived(1) == [[1]]
        rig.receivers[1].take()
        await task

    asyncio.run(scenario())


def test_waiting_for_credit_is_counted_as_backpressure():
    async def scenario():
        rig = Rig(timeout_s=0, credit_count=1)
        rig.write([1])
        rig.write([2])
        task = asyncio.create_task(rig.outputs.drain())
        assert await is_blocked(task)
        assert rig.outputs.waited_until(rig.clock.now + 1) == pytest.approx(1.0)  # a wait that still lasts
        rig.clock.now += 3.0
        rig.receivers[0].take()
        await task
        assert rig.outputs.waited_until(rig.clock.now + 5) == pytest.approx(3.0)

    asyncio.run(scenario())


def test_a_control_element_follows_everything_written_before_on_every_channel():
    async def scenario():
        rig = Rig(Route.BROADCAST, targets=3)
        rig.write([1, 2])
        await rig.outputs.send_all(Barrier(7))
        rig.write([3])
        await rig.outputs.send_all(END_OF_INPUT)
        for receiver in range(3):
            assert rig.arrived(receiver) == [[1, 2], Barrier(7), [3], END_OF_INPUT]
        assert rig.outputs.deadline is None

    asyncio.run(scenario())


def test_a_control_element_needs_no_credit_but_waits_for_the_records_before_it():
    async def scenario():
        rig = Rig(timeout_s=0, credit_count=1)
        rig.write([1])
        rig.write([2])
        task = asyncio.create_task(rig.outputs.send_all(Barrier(1)))
        assert await is_blocked(task)
        assert rig.arrived() == [[1]]
        rig.receivers[0].take()
        await task
        assert rig.arrived() == [[2], Barrier(1)]

    asyncio.run(scenario())


def test_rows_and_columns_on_one_edge_keep_their_order_and_form():
    async def scenario():
        rig = Rig(batch_size=1000, credit_count=9)
        rig.write([1])
        rig.write(Columns.of(x=np.arange(2)))
        rig.write(Columns.of(x=np.arange(2, 4)))
        rig.write([9])
        await rig.outputs.send_all(END_OF_INPUT)
        first, second, third, _ = rig.arrived()
        assert (first, third) == ([1], [9])
        assert [row.x for row in to_rows(second)] == [0, 1, 2, 3]

    asyncio.run(scenario())


def test_loop_edges_are_flushed_apart_and_are_known_to_be_empty():
    async def scenario():
        rig = Rig(in_loop=True)
        assert rig.outputs.loop_edges_empty
        rig.write([1])
        assert not rig.outputs.loop_edges_empty
        rig.outputs.flush_loop()
        assert not rig.outputs.loop_edges_empty  # ready to go is not gone
        await rig.outputs.drain()
        assert rig.outputs.loop_edges_empty
        assert rig.outputs.loop_batches_sent() == 1
        await rig.outputs.send_all(Barrier(1))
        assert rig.outputs.loop_batches_sent() == 1  # control elements are not counted

    asyncio.run(scenario())


def test_edges_outside_of_a_loop_are_not_its_business():
    async def scenario():
        rig = Rig(in_loop=False)
        rig.write([1])
        assert rig.outputs.loop_edges_empty
        rig.outputs.flush_loop()
        await rig.outputs.drain()
        assert rig.arrived() == []
        assert rig.outputs.loop_batches_sent() == 0

    asyncio.run(scenario())


def test_a_feedback_channel_never_runs_out_of_credit():
    wakeup = Wakeup()
    receiver = InputChannel(0, 0, wakeup, feedback=FeedbackQueue(Services(), None, 4))
    sender = connect_locally(receiver, wakeup, 1)
    for i in range(100):
        sender.send([i])
    assert receiver.queued_records == 100
    assert [receiver.take() for _ in range(100)] == [[i] for i in range(100)]


def test_sending_without_credit_is_a_broken_invariant():
    channel = OutputChannel(lambda element: None, Wakeup(), 1)
    channel.send([1])
    channel.send(Barrier(1))
    with pytest.raises(AssertionError, match="without credit"):
        channel.send([2])
    channel.regain()
    channel.send([2])
    assert channel.sent == 2


def test_a_barrier_sent_ahead_overtakes_what_credit_does_not_allow():
    rig = Rig(credit_count=1)
    rig.edge.write([1] * 10)
    rig.edge.write([2] * 10)
    rig.edge.write_watermark(7)
    rig.edge.write([3])
    ((edge, position, target),) = rig.outputs.send_ahead(Barrier(4))
    assert (edge, position) == (0, 0)
    assert list(target.ready) == [[2] * 10, [3], Watermark(7)]
    assert rig.arrived() == [[1] * 10, Barrier(4)]
    rig.receivers[0].take()
    assert rig.outputs.send_ahead(Barrier(5)) != []
    assert rig.arrived() == [Barrier(4), [2] * 10, Barrier(5)]


def test_with_enough_credit_nothing_is_overtaken():
    rig = Rig(credit_count=3)
    rig.edge.write([1])
    assert rig.outputs.send_ahead(Barrier(4)) == []
    assert rig.arrived() == [[1], Barrier(4)]


def test_what_is_recorded_in_an_output_is_told_when_it_is_sent():
    async def scenario():
        rig = Rig(credit_count=1)
        rig.edge.write([1] * 10)
        rig.edge.write([2] * 10)
        ((_, _, target),) = rig.outputs.send_ahead(Barrier(4))
        target.recording = Recording(4, target.ready, lambda batch: (2, bytes(batch)))
        rig.receivers[0].take()
        assert await rig.outputs.drain()
        rig.arrived()[-1].append("changed by the receiver")
        return await target.recording.saved(partial(asyncio.sleep, 0))

    assert asyncio.run(scenario()) == [(2, bytes([2] * 10))]


def test_restored_elements_go_to_their_target_or_by_the_edge_s_rule():
    rig = Rig(route=Route.REBALANCE, targets=2, credit_count=9)
    rig.edge.restore(1, [[1], Watermark(5), [2]])
    rig.edge.restore(None, [[3, 4], Watermark(6)])
    rig.outputs.flush()
    assert rig.outputs.send_ahead(Barrier(1)) == []
    assert rig.arrived(1) == [[1], Watermark(5), [2], [4], Barrier(1)]
    assert rig.arrived(0) == [[3], Barrier(1)]


def test_draining_is_given_up_when_a_wake_up_says_so():
    async def scenario():
        rig = Rig(credit_count=1)
        rig.edge.write([1] * 10)
        rig.edge.write([2] * 10)
        rig.outputs.on_wake = lambda: False
        rig.wakeup.notify()
        assert not await rig.outputs.drain()
        rig.receivers[0].take()
        assert await rig.outputs.drain()

    asyncio.run(scenario())


def test_draining_that_was_given_up_does_not_wait_when_it_is_tried_again():
    """A subtask that is stopped has one more batch to send, and nobody gives credit or wakes it any more."""

    async def scenario():
        rig = Rig(credit_count=1)
        rig.edge.write([1] * 10)
        rig.edge.write([2] * 10)
        answers = iter([True, False, False])
        rig.outputs.on_wake = lambda: next(answers)
        rig.wakeup.notify()
        assert not await rig.outputs.drain()
        assert not await asyncio.wait_for(rig.outputs.drain(), 1)

    asyncio.run(scenario())
