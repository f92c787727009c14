"""The event time of a source: per split, through ends and restores, and sent also when no record comes."""

from __future__ import annotations

import asyncio

import pytest

from streamcore import (
    MAX_TIME,
    Checkpointing,
    Columns,
    Schema,
    StreamEnvironment,
    WatermarkGenerator,
    bounded_out_of_orderness,
    custom_watermarks,
    monotonous,
)
from streamcore.connectors.base import Source, Split, SplitReader
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.runtime.attention import Attention
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
        self.attention = Attention()
        context = OperatorContext(
            name="source", subtask=subtask, parallelism=parallelism, max_parallelism=16, epoch=1,
            store=KeyedStore(16, range(16), [], allow_pickle=False), saved=own,
            clock=Clock(), wakeup=Wakeup(), counters=Counters(), attention=self.attention,
        )  # fmt: skip
        output = Output(main=[self._take], watermarks=[self.out.append], idles=[self._tell])
        self.operator.setup(context, output)
        asyncio.run(self._open())

    async def _open(self):
        self.operator.open()

    def _take(self, batch):
        assert isinstance(batch, Columns)  # rows of a typed source, whose time is a field
        self.out.append(batch["t"].tolist())

    def _tell(self, idle):
        self.out.append("idle" if idle else "active")

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


# --- idle splits ------------------------------------------------------------------------------------------------


def test_a_silent_split_is_left_behind_until_its_next_record():
    rig = Rig(Script(a=[[100], [200], [300], [400]], b=[[1], None, None, [150]]), monotonous("t").with_idleness(10))
    assert rig.poll(2) == [[100], [1], 0]
    assert rig.poll(2) == [[200], [300]]
    rig.attention.rested(10)
    assert rig.poll() == [299, [400], 399]
    assert rig.poll() == [[150]]  # it holds time from here on, and 399 stays


def test_all_splits_silent_is_told_behind_the_watermark_and_the_end_of_it_ahead_of_the_records():
    rig = Rig(Script(a=[[100], None, None, None, [90]]), monotonous("t").with_idleness(10))
    assert rig.poll(2) == [[100], 99]
    rig.attention.rested(10)
    assert rig.poll() == ["idle"]
    rig.attention.rested(10)
    assert rig.poll() == []
    assert rig.poll() == ["active", [90]]


def test_when_all_fall_silent_time_goes_on_to_the_furthest():
    rig = Rig(Script(a=[[100], None, None, None], b=[[1], None, None, None]), monotonous("t").with_idleness(10))
    assert rig.poll(3) == [[100], [1], 0]
    rig.attention.rested(10)
    assert rig.poll() == [99, "idle"]


def test_the_time_of_a_split_that_has_ended_counts_when_the_others_fall_silent():
    rig = Rig(Script(a=[[100]], b=[[1], None, None, None]), monotonous("t").with_idleness(10))
    assert rig.poll(4) == [[100], [1], 0]
    rig.attention.rested(10)
    assert rig.poll() == [99, "idle"]


def test_a_restored_split_is_active_until_it_has_been_silent_again():
    strategy, script = monotonous("t").with_idleness(10), Script(a=[[100], None, None, None, None, None])
    first = Rig(script, strategy)
    first.poll(2)
    first.attention.rested(10)
    assert first.poll() == ["idle"]
    second = Rig(script, strategy, [first.operator.capture(1)])
    assert second.poll() == [99]
    second.attention.rested(10)
    assert second.poll() == ["idle"]


def test_records_with_bad_times_are_no_sign_of_life():
    strategy = monotonous("t").with_idleness(10).with_bad_times("skip")
    rig = Rig(Script(a=[[100], [-1], [-1], [-1, 101]]), strategy)
    assert rig.poll(2) == [[100], 99]
    rig.attention.rested(10)
    assert rig.poll() == ["idle"]
    assert rig.poll() == ["active", [101], 100]
    assert rig.operator.context.counters.bad_times == 3


# --- alignment --------------------------------------------------------------------------------------------------


def test_a_split_that_is_ahead_of_the_group_is_not_polled():
    strategy = monotonous("t").with_alignment("g", max_drift=1)
    rig = Rig(Script(a=[[5000], [6000]], b=[[100], [200], [4500]]), strategy)
    rig.poll(2)
    rig.operator._times.align(rig.operator.slowest_ms)
    assert rig.poll(2) == [[200], 199, [4500], 4499]
    assert rig.operator.slowest_ms == 4499
    rig.operator._times.align(4499)
    assert [6000] in rig.poll(2)


def test_what_the_counters_say_of_event_time():
    strategy = monotonous("t").with_idleness(10).with_alignment("g", max_drift=1)
    rig = Rig(Script(a=[[5000], [6000]], b=[[100], None, None]), strategy)
    counters = rig.operator.context.counters
    rig.poll(2)

    async def look(group_ms):
        rig.operator.align(group_ms)

    async def later():
        await asyncio.sleep(0)
        rig.operator.show_time()

    asyncio.run(look(99))
    assert (counters.watermark_ms, counters.drift_s, counters.time_idle) == (99, 4.9, False)
    asyncio.run(later())
    assert counters.held_s > 0
    asyncio.run(look(None))
    held_s = counters.held_s
    asyncio.run(later())
    assert (counters.drift_s, counters.held_s) == (None, held_s)


# --- generators -------------------------------------------------------------------------------------------------


class EveryThird(WatermarkGenerator):
    """A watermark with every third record."""

    def __init__(self):
        self.count = 0

    def on_record(self, record, time_ms):
        self.count += 1
        return time_ms if self.count % 3 == 0 else None

    def capture(self):
        return self.count

    def restore(self, state):
        self.count = state


def test_a_generator_of_each_split_whose_state_is_restored():
    script = Script(a=[[1], [2, 3, 4], [5], [6], [7]])
    strategy = custom_watermarks("t", EveryThird)
    first = Rig(script, strategy)
    assert first.poll(3) == [[1], [2, 3, 4], 3, [5]]
    second = Rig(script, strategy, [first.operator.capture(1)])
    assert second.poll(2) == [[6], 6, [7]]
    assert Rig(Script(a=[[1, 2], [3]], b=[[9, 9], [9]]), strategy).poll(4) == [[1, 2], [9, 9], [3], [9], 3]


class Falling(WatermarkGenerator):
    """Whole batches; its watermarks go back."""

    def on_batch(self, batch, times):
        return 100 - int(times.max())


def test_watermarks_that_go_back_are_ignored():
    assert Rig(Script(a=[[1], [2], [0]]), custom_watermarks("t", Falling)).poll(3) == [[1], 99, [2], [0], 100]


def test_a_generator_without_a_method():
    with pytest.raises(NotImplementedError, match="WatermarkGenerator needs on_record or on_batch"):
        Rig(Script(a=[[1]]), custom_watermarks("t", WatermarkGenerator)).poll()


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
    assert list(times)[-3:] == [99, 100, 101]
    assert times[99] < 0.5  # not with the record of the second after
    assert sorted(sink.committed) == [(0,), (100,), (101,), (102,)]


class BeyondAll(WatermarkGenerator):
    def on_record(self, record, time_ms):
        return 1 << 70


def test_a_generator_can_t_go_beyond_all_time():
    assert Rig(Script(a=[[1]]), custom_watermarks("t", BeyondAll)).poll()[-1] == MAX_TIME
