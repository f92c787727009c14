"""Watermarks and latency markers on a subtask's outputs: behind the records before them, never ahead."""

from __future__ import annotations

import asyncio

import pytest

from streamcore import Checkpointing, Schema, StreamEnvironment, bounded_out_of_orderness
from streamcore.batch import to_rows
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.runtime.channel import InputChannel, connect_locally
from streamcore.runtime.elements import Barrier, LatencyMarker, Watermark
from streamcore.runtime.operator import Operator
from streamcore.runtime.output import EdgeOutput, Outputs
from streamcore.runtime.partition import make_partitioner
from streamcore.runtime.services import Services
from streamcore.runtime.spec import Form, Partitioning, Route
from streamcore.runtime.wakeup import Wakeup
from streamcore.testing import MemorySink, SimulatedWorld
from streamcore.time import MIN_TIME


class Rig:
    """One out-edge to `targets` local receivers."""

    def __init__(self, route=Route.FORWARD, targets=1, timeout_s=0.5, credit_count=9, **edge):
        self.wakeup = Wakeup()
        self.receivers = [InputChannel(i, 0, Wakeup()) for i in range(targets)]
        senders = [connect_locally(receiver, self.wakeup, credit_count) for receiver in self.receivers]
        self.edge = EdgeOutput(senders, make_partitioner(Partitioning(route), 0, targets, 16), 10, **edge)
        self.outputs = Outputs([self.edge], self.wakeup, Services(), timeout_s)

    async def send(self):
        self.outputs.flush()
        await self.outputs.drain()

    def arrived(self, receiver=0):
        return list(self.receivers[receiver].queue)


def run(scenario):
    asyncio.run(scenario())


def test_a_watermark_waits_for_the_records_before_it():
    async def scenario():
        rig = Rig(in_loop=False)
        rig.edge.write([1])
        rig.edge.write_watermark(10)
        rig.outputs.settle()
        await rig.outputs.drain()
        assert rig.arrived() == []
        assert rig.outputs.deadline is not None
        rig.edge.write([2])
        await rig.send()
        assert rig.arrived() == [[1, 2], Watermark(10)]

    run(scenario)


def test_a_later_watermark_replaces_one_that_waits():
    async def scenario():
        rig = Rig(in_loop=False)
        rig.edge.write_watermark(10)
        rig.edge.write([1])
        rig.edge.write_watermark(20)
        await rig.send()
        assert rig.arrived() == [[1], Watermark(20)]

    run(scenario)


def test_every_target_gets_the_watermark_behind_its_own_records():
    async def scenario():
        rig = Rig(Route.REBALANCE, targets=2, in_loop=False)
        rig.edge.write([1, 2, 3])
        rig.edge.write_watermark(10)
        await rig.send()
        assert [rig.arrived(0)[-1], rig.arrived(1)[-1]] == [Watermark(10)] * 2
        assert sum(len(batch) for target in range(2) for batch in rig.arrived(target)[:-1]) == 3

    run(scenario)


def test_a_watermark_needs_no_credit_but_waits_behind_what_does():
    async def scenario():
        rig = Rig(timeout_s=0, credit_count=1, in_loop=False)
        for number in (1, 2):
            rig.edge.write([number])
            rig.edge.write_watermark(number)
            rig.outputs.settle()
        sending = asyncio.create_task(rig.outputs.drain())
        for _ in range(5):
            await asyncio.sleep(0)
        assert rig.arrived() == [[1], Watermark(1)]
        rig.receivers[0].take()
        await sending
        assert rig.arrived() == [Watermark(1), [2], Watermark(2)]

    run(scenario)


def test_a_barrier_comes_behind_the_watermark():
    async def scenario():
        rig = Rig(in_loop=False)
        rig.edge.write([1])
        rig.edge.write_watermark(10)
        await rig.outputs.send_all(Barrier(1))
        assert rig.arrived() == [[1], Watermark(10), Barrier(1)]

    run(scenario)


@pytest.mark.parametrize(("in_loop", "is_feedback"), [(True, True), (True, False), (False, False)])
def test_feedback_carries_no_watermark_and_a_loop_no_marker(in_loop, is_feedback):
    async def scenario():
        rig = Rig(in_loop=in_loop, is_feedback=is_feedback)
        rig.edge.write_watermark(10)
        rig.outputs.write_marker(LatencyMarker(1.5))
        await rig.send()
        expected = [] if is_feedback else [Watermark(10)]
        assert rig.arrived() == [*expected, *([] if in_loop else [LatencyMarker(1.5)])]

    run(scenario)


def test_idleness_comes_behind_the_records_and_activity_ahead_of_them():
    async def scenario():
        rig = Rig(in_loop=False)
        rig.edge.write([1])
        rig.edge.write_watermark(10)
        rig.edge.write_idle(True)
        await rig.send()
        assert rig.arrived() == [[1], Watermark(10, idle=True)]
        rig.edge.write_idle(False)
        rig.edge.write([2])
        rig.edge.write_watermark(20)
        await rig.send()
        assert rig.arrived()[2:] == [Watermark(10), [2], Watermark(20)]

    run(scenario)


def test_what_was_idle_for_a_moment_only_is_not_told():
    async def scenario():
        rig = Rig(in_loop=False)
        rig.edge.write_idle(True)
        rig.edge.write_idle(False)
        rig.edge.write([1])
        await rig.send()
        assert rig.arrived() == [Watermark(MIN_TIME), [1]]

    run(scenario)


def test_a_marker_waits_like_a_record():
    async def scenario():
        rig = Rig(in_loop=False)
        rig.edge.write([1])
        rig.outputs.write_marker(LatencyMarker(1.5))
        assert rig.arrived() == []
        await rig.send()
        assert rig.arrived() == [[1], LatencyMarker(1.5)]

    run(scenario)


BOUND, RECORD = 7, Schema.of(key=int, t=int)


class InOrder(Operator):
    """Refuses a record behind a watermark that it has seen."""

    checked = 0

    def open(self):
        self._watermark = -(1 << 63)

    def process(self, batch, port):
        for row in to_rows(batch):
            assert row[1] > self._watermark, f"{row} after watermark {self._watermark}"
        InOrder.checked += len(batch) if self._watermark > 0 else 0
        self.output.emit(batch)

    def advance(self, time_ms):
        assert time_ms > self._watermark, "time went back"
        self._watermark = time_ms
        self.output.emit_watermark(time_ms)


@pytest.mark.parametrize("buffer_timeout", [0.0, 0.0005])
def test_no_record_comes_behind_a_watermark_under_any_schedule(buffer_timeout):
    """Two exchanges, with crashes and restores: who keeps the bound at the source is never late."""
    InOrder.checked = 0
    rows = [(i * i % 7, 2 * (i % 80) - i * 7919 % (BOUND + 1)) for i in range(240)]
    for seed in range(12):
        world, sink = SimulatedWorld(seed), MemorySink()
        env = StreamEnvironment("order", parallelism=2, batch_size=5, buffer_timeout=buffer_timeout)
        source = GeneratorSource(lambda start, stop: rows[start:stop], len(rows), 30_000, splits=3, schema=RECORD)
        stream = env.source(source, watermarks=bounded_out_of_orderness("t", BOUND / 1000))
        for name in ("first", "second"):
            stream = stream.key_by("key" if name == "first" else "t")._then(name, InOrder, Form.ROWS, RECORD)
        stream.sink(sink)
        config = RunConfig(checkpointing=Checkpointing("simulated://", interval=0.002))
        if world.run(env.compile(), config, crash_after=400) is None:
            config.restore = "latest" if CheckpointLog(world.storage).checkpoints() else None
            world.run(env.compile(), config)
        assert sorted(map(tuple, sink.committed)) == sorted(rows)
    assert InOrder.checked > 1000
