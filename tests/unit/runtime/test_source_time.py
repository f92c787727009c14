"""The event time of a source: per split, through ends and restores, and sent also when no record comes."""

from __future__ import annotations

import asyncio

import pytest

from streamcore import Checkpointing, Columns, Schema, StreamEnvironment, bounded_out_of_orderness, monotonous
from streamcore.connectors.base import Source, Split, SplitReader
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.runtime.counters import Counters
from streamcore.runtime.operator import Operator, OperatorContext, Output, SavedOperator
from streamcore.runtime.operators.source import SourceOperator
from streamcore.runtime.spec import Form
from streamcore.runtime.wakeup import Wakeup
from streamcore.state.store import KeyedStore
from streamcore.testing import MemorySink, SimulatedWorld
from streamcore.time import Clock

RECORD = Schema.of(t=int)


class Script(Source):
    """Splits that give the batches of a script, one a poll; `None` is a poll without records."""

    schema = RECORD

    def __init__(self, **batches):
        self._batches = batches

    def splits(self):
        return [Split(name) for name in self._batches]

    def reader(self, split, offset, context):
        return ScriptReader(self._batches[split.id], offset or 0)


class ScriptReader(SplitReader):
    def __init__(self, batches, offset):
        self._batches, self.offset = batches, offset

    def poll(self, limit):
        batch = self._batches[self.offset] if self.offset < len(self._batches) else "ended"
        self.offset += 1
        self.exhausted = batch == "ended"
        return None if batch in (None, "ended") else [(t,) for t in batch]


class Rig:
    """A source operator whose output is written down: times of records in lists, watermarks as numbers."""

    def __init__(self, source, strategy, saved=(), subtask=0, parallelism=1):
        self.operator, self.out = SourceOperator(source, tuple(source.splits()), strategy), []
        own = [SavedOperator(i, len(saved), state) for i, state in enumerate(saved)]
        context = OperatorContext(
            name="source", subtask=subtask, parallelism=parallelism, max_parallelism=16, epoch=1,
            store=KeyedStore(16, range(16), [], allow_pickle=False), saved=own,
            clock=Clock(), wakeup=Wakeup(), counters=Counters(),
        )  # fmt: skip
        self.operator.setup(context, Output(main=[self._take], watermarks=[self.out.append]))
        asyncio.run(self._open())

    async def _open(self):
        self.operator.open()

    def _take(self, batch):
        assert isinstance(batch, Columns)  # rows of a typed source, whose time is a field
        self.out.append(batch["t"].tolist())

    def poll(self, times=1):
        for _ in range(times):
            self.operator.poll(100)
        out, self.out[:] = list(self.out), []
        return out


def test_records_come_before_their_watermark():
    rig = Rig(Script(a=[[5, 20, 7], [12], [40]]), bounded_out_of_orderness("t", 0.01))
    assert rig.poll(3) == [[5, 20, 7], 9, [12], [40], 29]


def test_the_split_that_is_furthest_behind_counts():
    rig = Rig(Script(a=[[100], [200]], b=[[1], [150]]), monotonous("t"))
    assert rig.poll(4) == [[100], [1], 0, [200], [150], 149]


def test_a_split_without_a_record_yet_holds_time_back():
    rig = Rig(Script(a=[[100], [200]], b=[None, None, [7]]), monotonous("t"))
    assert rig.poll(4) == [[100], [200], [7], 6]


def test_a_split_that_ends_holds_nothing_back():
    rig = Rig(Script(a=[[1]], b=[[100], [200], [300]]), monotonous("t"))
    assert rig.poll(2) == [[1], [100], 0]
    assert rig.poll() == [99, [200], 199]
    assert rig.poll(2) == [[300], 299]
    assert rig.operator.exhausted


def test_restored_splits_keep_their_latest_time():
    strategy = monotonous("t")
    script = Script(a=[[100], [110]], b=[[1], [3], [150]])
    first = Rig(script, strategy)
    assert first.poll(2) == [[100], [1], 0]
    second = Rig(script, strategy, [first.operator.capture(1)])
    assert second.poll() == [[110], 0]  # b is known to be at 1
    assert second.poll() == [[3], 2]


def test_splits_take_their_time_along_to_another_subtask():
    strategy = monotonous("t")
    script = Script(a=[[100], None, [101]], b=[[5], None, [6]])
    first = Rig(script, strategy)
    first.poll(2)
    saved = first.operator.capture(1)
    halves = [Rig(script, strategy, [saved], subtask, 2) for subtask in range(2)]
    assert [half.poll() for half in halves] == [[99], [4]]
    both = Rig(script, strategy, [half.operator.capture(2) for half in halves])
    assert both.poll() == [[101], 4]


def test_a_split_that_had_ended_is_not_waited_for_after_a_restore():
    script = Script(a=[[1]], b=[[100], [200], [201]])
    first = Rig(script, monotonous("t"))
    first.poll(3)
    second = Rig(script, monotonous("t"), [first.operator.capture(1)])
    assert second.poll() == [[201], 200]


class Times(Operator):
    """Writes down the watermarks that come to it, and when."""

    seen: list[tuple[int, float]] = []

    def process(self, batch, port):
        self.output.emit(batch)

    def advance(self, time_ms):
        self.seen.append((time_ms, self.context.clock.monotonic()))


@pytest.mark.parametrize("buffer_timeout", [0.0, 0.005])
def test_a_poll_without_records_moves_time_at_once(buffer_timeout):
    """A split ends, and the other has nothing for a second: its windows must not wait for it."""
    Times.seen.clear()
    world, sink = SimulatedWorld(seed=3), MemorySink()
    env = StreamEnvironment("idle", buffer_timeout=buffer_timeout, batch_size=1)

    class TwoSplits(GeneratorSource):
        def splits(self):
            return [*super().splits(), Split("short", 0)]

        def reader(self, split, offset, context):
            if split.id == "short":
                return ScriptReader([[0], None], offset or 0)
            return super().reader(split, offset, context)

    source = TwoSplits(lambda start, stop: [(100 + i,) for i in range(start, stop)], count=3, rate=1.0, schema=RECORD)
    stream = env.source(source, watermarks=monotonous("t")).rebalance()
    stream._then("times", Times, Form.ANY, RECORD).sink(sink)
    world.run(env.compile(), RunConfig(checkpointing=Checkpointing("simulated://", interval=100.0)))
    times = dict(Times.seen)
    assert list(times)[-2:] == [99, 100]
    assert times[99] < 0.5  # not with the record of the second after
    assert sorted(sink.committed) == [(0,), (100,), (101,), (102,)]
