"""A subtask's barriers: what an abort sets free, and when a checkpoint overtakes what waits for credit."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from streamcore import StreamEnvironment
from streamcore.runtime.barriers import Barriers
from streamcore.runtime.channel import InputChannel, connect_locally
from streamcore.runtime.elements import Barrier, Mode
from streamcore.runtime.gate import Gate
from streamcore.runtime.output import EdgeOutput, Outputs
from streamcore.runtime.partition import make_partitioner
from streamcore.runtime.services import Services
from streamcore.runtime.spec import Partitioning, Route
from streamcore.runtime.wakeup import Wakeup
from streamcore.testing import MemorySink


class Rig:
    """The middle of three vertices: two input channels, one output with credit for one batch."""

    def __init__(self):
        env = StreamEnvironment("rig", parallelism=2)
        numbers = env.from_values([1]).rebalance().map(lambda n: n).uid("before")
        numbers.rebalance().map(lambda n: n).uid("middle").rebalance().map(lambda n: n).parallelism(1).sink(
            MemorySink()
        )
        job = env.compile()
        vertex = next(v for v in job.vertices if v.operators[0].uid == "middle")
        services = Services()
        services.clock = SimpleNamespace(monotonic=lambda: 0.0)
        self.calls = []
        self.wakeup = Wakeup()
        self.gate = Gate([InputChannel(n, 0, self.wakeup) for n in range(2)], services, 100, 10)
        self.receiver = InputChannel(0, 0, Wakeup())
        partition = make_partitioner(Partitioning(Route.REBALANCE), 0, 1, 16)
        self.edge = EdgeOutput([connect_locally(self.receiver, self.wakeup, 1)], partition, 1, in_loop=False)
        self.outputs = Outputs([self.edge], self.wakeup, services, 0.0)
        chain = SimpleNamespace(before_barrier=lambda: self.calls.append("before"), capture=self.capture)
        snapshots = SimpleNamespace(
            announce=lambda number, savepoint: None,
            savepoint=lambda number: None,
            base=lambda number: None,
            begin=lambda number, captured, base: self.calls.append("begin"),
            write=self.write,
            abort=lambda number: None,
        )
        self.barriers = Barriers(job, vertex, 0, chain, self.gate, self.outputs, snapshots, services)
        self.written = []

    def capture(self, number, since):
        self.calls.append(f"capture {number}")
        return {}

    def write(self, number, captured, in_flight, *times, finished):
        self.written.append((number, in_flight, finished))

    def mark(self, channel, number):
        self.barriers.barrier(self.gate.channels[channel], Barrier(number))


def test_an_abort_lets_held_channels_be_read_again():
    async def scenario():
        rig = Rig()
        rig.mark(0, 1)
        await rig.barriers.perform()
        rig.gate.channels[0].deliver([1])
        assert rig.gate.poll() == []
        rig.barriers.abort(1)
        assert [element for _, element in rig.gate.poll()] == [[1]]
        assert rig.calls == []

    asyncio.run(scenario())


def test_an_aligned_capture_waits_for_credit_until_its_time_is_up():
    async def scenario():
        rig = Rig()
        rig.edge.write([1])
        rig.edge.write([2])
        for channel in range(2):
            rig.mark(channel, 1)
        rig.outputs.on_wake = lambda: rig.barriers.perform_at_rest() or not rig.barriers.drains_in_vain
        task = asyncio.create_task(rig.barriers.perform())
        for _ in range(3):
            await asyncio.sleep(0)
        assert rig.calls == ["before"]
        rig.barriers.trigger(1, Mode.UNALIGNED)
        rig.wakeup.notify()
        await asyncio.wait_for(task, 1)
        assert rig.calls == ["before", "before", "capture 1", "begin"]
        assert list(rig.receiver.queue) == [[1], Barrier(1, Mode.UNALIGNED)]
        ((number, in_flight, finished),) = rig.written
        assert (number, finished) == (1, False)
        return await in_flight()

    (left,) = asyncio.run(scenario()).outputs
    assert (left.peer, left.peers, len(left.elements)) == (0, 1, 1)


def test_a_capture_that_is_aborted_while_it_waits_for_credit_is_not_made():
    async def scenario():
        rig = Rig()
        rig.edge.write([1])
        rig.edge.write([2])
        for channel in range(2):
            rig.mark(channel, 1)
        rig.outputs.on_wake = lambda: rig.barriers.perform_at_rest() or not rig.barriers.drains_in_vain
        task = asyncio.create_task(rig.barriers.perform())
        await asyncio.sleep(0)
        rig.barriers.abort(1)
        rig.wakeup.notify()
        await asyncio.wait_for(task, 1)
        assert rig.calls == ["before"]
        assert rig.written == []
        assert list(rig.receiver.queue) == [[1]]

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", [Mode.ALIGNED, Mode.AT_LEAST_ONCE])
def test_what_operators_emit_before_the_barrier_goes_out_before_it(mode):
    async def scenario():
        rig = Rig()
        rig.barriers._chain.before_barrier = lambda: rig.edge.write(["partial"])
        for channel in rig.gate.channels:
            rig.barriers.barrier(channel, Barrier(1, mode))
        await rig.barriers.perform()
        assert list(rig.receiver.queue) == [["partial"], Barrier(1, mode)]

    asyncio.run(scenario())
