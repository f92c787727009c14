"""A loop inside a loop, and two loops side by side, with a sink fed from inside; under schedules with crashes."""

import collections
import random

import pytest

from streamcore import Checkpointing, CoProcessFunction, OutputTag, ProcessFunction, StreamEnvironment, ValueState
from streamcore.job.config import RunConfig
from streamcore.testing import MemorySink, SimulatedWorld

RECORDS, OUTER, INNER = 10, 3, 3
AGAIN_INNER, AGAIN_OUTER = OutputTag("inner"), OutputTag("outer")


class Inner(CoProcessFunction):
    """(number, outer round, inner round): goes round the inner loop INNER times, then on."""

    def open(self, ctx):
        self._seen = ctx.state(ValueState("seen", 0))

    def process_first(self, record, ctx):
        number, outer, inner = record
        self._seen.set(self._seen.get() + 1)
        if inner < INNER:
            ctx.side_output(AGAIN_INNER, (number, outer, inner + 1))
        else:
            ctx.emit((number, outer, self._seen.get()))

    process_second = process_first


class Outer(ProcessFunction):
    """Sends a record round the outer loop OUTER times, and every time a copy to the sink."""

    def process(self, record, ctx):
        number, outer, seen = record
        ctx.emit((number, outer, seen))
        if outer < OUTER:
            ctx.side_output(AGAIN_OUTER, (number, outer + 1, 0))


def nested_loops(env: StreamEnvironment):
    """The stream of results of a loop in a loop."""
    numbers = env.from_values([(number, 0, 0) for number in range(RECORDS)])
    with env.loop() as outer_loop:
        rounds = numbers.union(outer_loop.feedback)
        with env.loop() as inner_loop:
            steps = rounds.connect(inner_loop.feedback).key_by(lambda r: r[0], lambda r: r[0]).process(Inner())
            inner_loop.close(steps.side_output(AGAIN_INNER))
        done = steps.process(Outer())
        outer_loop.close(done.side_output(AGAIN_OUTER))
    return done


def nested(sink: MemorySink, parallelism: int):
    env = StreamEnvironment("nested", parallelism=parallelism, batch_size=2, buffer_timeout=0.0005)
    nested_loops(env).sink(sink)
    return env.compile()


def side_by_side(sink: MemorySink, parallelism: int):
    env = StreamEnvironment("two loops", parallelism=parallelism, batch_size=2, buffer_timeout=0.0005)
    stream = env.from_values([(number, 0, 0) for number in range(RECORDS)])
    for turn in range(2):
        with env.loop() as loop:
            steps = stream.connect(loop.feedback).key_by(lambda r: r[0], lambda r: r[0]).process(Inner())
            loop.close(steps.side_output(AGAIN_INNER))
        stream = steps.map(lambda r, turn=turn: (r[0], turn + 1, 0))
    stream.sink(sink)
    return env.compile()


def expected_nested():
    # the inner operator counts per number: (INNER + 1) visits in each outer round
    return collections.Counter(
        (number, outer, (outer + 1) * (INNER + 1)) for number in range(RECORDS) for outer in range(OUTER + 1)
    )


def expected_side_by_side():
    return collections.Counter((number, 2, 0) for number in range(RECORDS))


@pytest.mark.parametrize(
    ("make_job", "expected"), [(nested, expected_nested()), (side_by_side, expected_side_by_side())]
)
@pytest.mark.parametrize("block", range(5))
def test_every_result_once_through_crashes(make_job, expected, block):
    restored = 0
    for seed in range(20 * block, 20 * block + 20):
        chance, world, sink = random.Random(seed), SimulatedWorld(seed), MemorySink()
        job = make_job(sink, chance.choice([1, 2, 3]))
        checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.0002, 0.001))
        for crash_after in [chance.randint(100, 350) for _ in range(3)] + [None]:
            run = config(world, checkpointing)
            restored += run.restore is not None
            if world.run(job, run, crash_after=crash_after) is not None:
                break
        assert collections.Counter(sink.committed) == expected, f"seed {seed}"
    assert restored > 5


def config(world: SimulatedWorld, checkpointing: Checkpointing) -> RunConfig:
    """Goes on from the newest checkpoint, if one is complete."""
    complete = any(b'"checkpoint"' in data for path, data in world.storage.files.items() if path.startswith("log/"))
    return RunConfig(checkpointing=checkpointing, restore="latest" if complete else None)


def test_a_nested_loop_runs_over_two_processes():
    env = StreamEnvironment("nested", workers=2, parallelism=2)
    assert collections.Counter(nested_loops(env).execute_and_collect()) == expected_nested()
