"""Loops where the rules are easily broken: stops while blocked, records changed in place, deep feedback, late ones."""

import collections
import dataclasses
import random

import pytest

from streamcore import Checkpointing, CoProcessFunction, OutputTag, ProcessFunction, StreamEnvironment, ValueState
from streamcore.checkpoint.inspect import read_state
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import IncompatibleSnapshotError, TopologyError
from streamcore.job.config import RunConfig
from streamcore.testing import MemorySink, SimulatedWorld

AGAIN = OutputTag("again")
CHECKPOINTING = Checkpointing("simulated://", interval=0.002)


class Multiply(CoProcessFunction):
    """Emits each number, and sends thirty records round for it: more than the channels have credit for."""

    def open(self, ctx):
        self._seen = ctx.state(ValueState("seen", 0))

    def process_first(self, record, ctx):
        self._seen.set(self._seen.get() + 1)
        ctx.emit(record)
        ctx.side_output(AGAIN, (record, 0))

    def process_second(self, record, ctx):
        if record[1] == 0:
            for turn in range(30):
                ctx.side_output(AGAIN, (record[0], turn))


class Pass(ProcessFunction):
    def process(self, record, ctx):
        ctx.emit(record)


@pytest.mark.parametrize("seed", range(8))
def test_a_stop_commits_although_the_sink_s_chain_waits_for_credit(seed):
    world, sink = SimulatedWorld(seed), MemorySink()
    env = StreamEnvironment("stop", batch_size=4, buffer_timeout=0.0)
    numbers = env.source(GeneratorSource(lambda start, stop: list(range(start, stop)), rate=2000.0))
    with env.loop() as loop:
        head = numbers.connect(loop.feedback).key_by(lambda r: r, lambda r: r[0]).process(Multiply()).uid("head")
        loop.close(head.side_output(AGAIN).key_by(lambda r: r[0]).process(Pass()))
    head.sink(sink)
    config = RunConfig(checkpointing=Checkpointing("simulated://", interval=1000.0))
    result = world.run(env.compile(), config, stop_after_s=0.15)
    assert result is not None
    assert result.stopped
    state = read_state(world.storage, CheckpointLog(world.storage).latest())
    assert collections.Counter(sink.committed) == collections.Counter(state["head"]["seen"].keys())


class Grow(CoProcessFunction):
    """Changes the record in place before it sends it on."""

    def process_first(self, record, ctx):
        if len(record) < 40:
            record.append(len(record))
            ctx.side_output(AGAIN, record)
        else:
            ctx.emit(tuple(record))

    process_second = process_first


def test_the_log_has_the_records_as_they_came():
    wrong, restored = 0, 0
    for seed in range(30):
        world, sink = SimulatedWorld(seed), MemorySink()
        env = StreamEnvironment("grow", parallelism=2, batch_size=1, buffer_timeout=0)
        lists = env.from_values(lambda: ([n] for n in range(5)))
        with env.loop() as loop:
            grow = lists.connect(loop.feedback).key_by(lambda r: r[0], lambda r: r[-1]).process(Grow())
            loop.close(grow.side_output(AGAIN))
        grow.sink(sink)
        job, config = env.compile(), RunConfig(checkpointing=CHECKPOINTING)
        if world.run(job, config, crash_after=random.Random(seed).randint(200, 500)) is None:
            config.restore = "latest" if CheckpointLog(world.storage).checkpoints() else None
            restored += config.restore is not None
            world.run(job, config)
        wrong += sorted(sink.committed) != [(n, *range(1, 40)) for n in range(5)]
    assert restored > 10
    assert wrong == 0


class Endless(CoProcessFunction):
    """Keeps every record going round until it is told that the input has ended."""

    def open(self, ctx):
        self._left = ctx.state(ValueState("left", 120))

    def process_first(self, record, ctx):
        ctx.side_output(AGAIN, record)

    def process_second(self, record, ctx):
        self._left.set(self._left.get() - 1)
        if self._left.get():
            ctx.side_output(AGAIN, record)


def test_checkpoints_complete_while_feedback_is_deeper_than_its_limit():
    world = SimulatedWorld(seed=1)
    env = StreamEnvironment("deep", batch_size=2, buffer_timeout=0.0)
    env.settings = dataclasses.replace(env.settings, feedback_limit_records=10)
    numbers = env.source(GeneratorSource(lambda start, stop: list(range(start, stop)), count=60, rate=1500.0))
    with env.loop() as loop:
        steps = numbers.connect(loop.feedback).key_by(lambda r: r, lambda r: r).process(Endless())
        loop.close(steps.side_output(AGAIN))
    result = world.run(env.compile(), RunConfig(checkpointing=CHECKPOINTING))
    assert result is not None
    assert result.checkpoints > 10  # not only after the loop has run dry


class Late(CoProcessFunction):
    def process_first(self, record, ctx):
        ctx.emit(record)

    process_second = process_first

    def finish(self, ctx):
        ctx.side_output(AGAIN, "too late")


@pytest.mark.parametrize("parallelism", [1, 3])
def test_what_finish_sends_round_a_loop_that_is_over_is_refused(parallelism):
    env = StreamEnvironment("late", parallelism=parallelism)
    with env.loop() as loop:
        steps = env.from_values([1, 2]).connect(loop.feedback).key_by(str, str).process(Late())
        loop.close(steps.side_output(AGAIN))
    steps.sink(MemorySink())
    with pytest.raises(TopologyError, match=r"loop that is over|after the loop was over"):
        env.execute()


class Travel(CoProcessFunction):
    def process_first(self, record, ctx):
        number, hop = record
        if hop < 300:
            ctx.side_output(AGAIN, (number, hop + 1))

    process_second = process_first


def test_a_broadcast_back_edge_is_refused_at_another_parallelism():
    def job(parallelism: int):
        env = StreamEnvironment("copies", parallelism=parallelism, batch_size=1, buffer_timeout=0)
        numbers = env.from_values([(number, 0) for number in range(3)])
        with env.loop() as loop:
            both = numbers.rebalance().connect(loop.feedback.broadcast()).process(Travel()).uid("travel")
            loop.close(both.parallelism(parallelism).side_output(AGAIN).rebalance().map(lambda r: r).parallelism(1))
        return env.compile()

    world, config = SimulatedWorld(seed=3), RunConfig(checkpointing=CHECKPOINTING)
    assert world.run(job(2), config, crash_after=1200) is None
    config.restore = "latest"
    with pytest.raises(IncompatibleSnapshotError, match="broadcast"):
        world.run(job(3), config)
