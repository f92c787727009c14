"""The fleet's topologies with loops: heads whose feedback comes straight back, arrays in a loop, a loop in a loop,
and a loop that holds records by timers, with its sink outside."""

from __future__ import annotations

from collections import Counter

import numpy as np

from streamcore import (
    CoBatchFunction,
    ColumnarState,
    Columns,
    CoProcessFunction,
    OutputTag,
    ProcessFunction,
    Schema,
    StreamEnvironment,
    ValueState,
)
from streamcore.connectors.generator_source import GeneratorSource
from tests.simulation.fleet.forward import SPLITS, numbers
from tests.simulation.fleet.topology import Row, Shape, Sinks, Topology

AGAIN, OUT, AGAIN_OUTER = OutputTag("again"), OutputTag("out"), OutputTag("again outer")

# --- loop: parallel heads whose feedback is shuffled by key straight back to them ---------------------------------

HOPPERS, HOPS = 24, 3


class Hop(CoProcessFunction):
    """Counts each (record, hop) and sends it round again until it has hopped enough."""

    def open(self, ctx):
        self._seen = ctx.state(ValueState("seen", 0))

    def process_first(self, record, ctx):
        self._seen.set(self._seen.get() + 1)
        number, hop = record
        ctx.emit(("hop", number, hop, self._seen.get()))
        if hop < HOPS:
            ctx.side_output(AGAIN, (number, hop + 1))

    process_second = process_first


def build_loop(env: StreamEnvironment, sinks: Sinks, shape: Shape) -> None:
    records = numbers(env, shape, records=HOPPERS).map(lambda n: (n, 0)).uid("start")
    with env.loop() as loop:
        hops = records.connect(loop.feedback).key_by(lambda r: r, lambda r: r).process(Hop()).uid("hops")
        loop.close(hops.side_output(AGAIN))
    hops.sink(sinks("main")).uid("sink")


def expected_loop() -> Counter[Row]:
    return Counter(("hop", n, hop, 1) for n in range(HOPPERS) for hop in range(HOPS + 1))


# --- columnar loop: a head that feeds itself, with state in arrays -------------------------------------------------

STEP = Schema.of(n=np.int64, left=np.int64)
VISITS = Schema.of(visits=np.int64)
WALKERS = 24


class Walk(CoBatchFunction):
    """Counts the visits of each place; a walker goes on to the next place as long as it has steps left."""

    def open(self, ctx):
        self._places = ctx.state(ColumnarState("places", VISITS))

    def process_first(self, columns, ctx):
        slots = self._places.slots(columns["n"])
        np.add.at(self._places["visits"], slots, 1)
        goes_on = columns["left"] > 0
        if goes_on.any():
            n, left = columns["n"][goes_on], columns["left"][goes_on]
            ctx.side_output_batch(AGAIN, Columns(STEP, {"n": (n + 1) % 16, "left": left - 1}))

    process_second = process_first

    def finish(self, ctx):
        for place, visits in zip(self._places.keys.tolist(), self._places["visits"].tolist(), strict=True):
            ctx.emit(("visits", place, visits))


def walkers(start: int, stop: int) -> Columns:
    n = np.arange(start, stop)
    return Columns(STEP, {"n": n % 16, "left": n % 4})


def build_columnar_loop(env: StreamEnvironment, sinks: Sinks, shape: Shape) -> None:
    source = GeneratorSource(walkers, WALKERS, shape.rate, SPLITS, STEP)
    stream = env.source(source).uid("walkers")
    with env.loop(STEP) as loop:
        walk = stream.connect(loop.feedback).key_by("n", "n").process(Walk()).uid("walk")
        loop.close(walk.side_output(AGAIN))
    walk.sink(sinks("main")).uid("sink")


def expected_columnar_loop() -> Counter[Row]:
    visits = Counter((n + step) % 16 for n in range(WALKERS) for step in range(n % 4 + 1))
    return Counter(("visits", *item) for item in visits.items())


# --- nested loop -------------------------------------------------------------------------------------------------

NESTED, OUTER, INNER = 8, 2, 2


class Inner(CoProcessFunction):
    """(number, outer round, inner round): goes round the inner loop INNER times, then on."""

    def open(self, ctx):
        self._seen = ctx.state(ValueState("seen", 0))

    def process_first(self, record, ctx):
        number, outer, inner = record
        self._seen.set(self._seen.get() + 1)
        if inner < INNER:
            ctx.side_output(AGAIN, (number, outer, inner + 1))
        else:
            ctx.emit((number, outer, self._seen.get()))

    process_second = process_first


class Outer(ProcessFunction):
    """Sends a record round the outer loop OUTER times, and every time a copy to the sink."""

    def process(self, record, ctx):
        number, outer, seen = record
        ctx.emit(("round", number, outer, seen))
        if outer < OUTER:
            ctx.side_output(AGAIN_OUTER, (number, outer + 1, 0))


def build_nested(env: StreamEnvironment, sinks: Sinks, shape: Shape) -> None:
    records = numbers(env, shape, records=NESTED).map(lambda n: (n, 0, 0)).uid("start")
    with env.loop() as outer_loop:
        rounds = records.union(outer_loop.feedback)
        with env.loop() as inner_loop:
            steps = rounds.connect(inner_loop.feedback).key_by(lambda r: r[0], lambda r: r[0]).process(Inner())
            steps.uid("inner")
            inner_loop.close(steps.side_output(AGAIN))
        done = steps.rebalance().process(Outer()).uid("outer")
        outer_loop.close(done.side_output(AGAIN_OUTER))
    done.sink(sinks("main")).uid("sink")


def expected_nested() -> Counter[Row]:
    # the inner operator counts by number: INNER + 1 visits in each outer round
    return Counter(("round", n, outer, (outer + 1) * (INNER + 1)) for n in range(NESTED) for outer in range(OUTER + 1))


# --- loop, sink outside: records wait in the loop for timers, go round through another operator, and leave ---------

STEPPERS, STEPS = 16, 3


class Hold(CoProcessFunction):
    """Keeps a record in a loop until a timer of processing time, then sends it on."""

    def open(self, ctx):
        self._held = ctx.state(ValueState("held", None))

    def process_first(self, record, ctx):
        self._held.set(record)
        ctx.register_timer(ctx.now_ms() + 1)

    process_second = process_first

    def on_timer(self, time_ms, ctx):
        ctx.emit(self._held.get())
        self._held.set(None)


class Turn(ProcessFunction):
    """Sends a record round again, or out of the loop."""

    def process(self, record, ctx):
        number, step = record
        ctx.emit(("step", number, step))
        if step < STEPS:
            ctx.side_output(AGAIN, (number, step + 1))


class CountSteps(ProcessFunction):
    """Outside of the loop: counts the steps of each number, which leave the loop in order."""

    def open(self, ctx):
        self._steps = ctx.state(ValueState("steps", ()))

    def process(self, record, ctx):
        _, number, step = record
        self._steps.set((*self._steps.get(), step))
        ctx.emit(("steps", number, self._steps.get()))


def build_outside(env: StreamEnvironment, sinks: Sinks, shape: Shape) -> None:
    records = numbers(env, shape, records=STEPPERS).map(lambda n: (n, 0)).uid("start")
    with env.loop() as loop:
        held = records.connect(loop.feedback).key_by(lambda r: r[0], lambda r: r[0]).process(Hold()).uid("hold")
        turned = held.key_by(lambda r: r[0] + 1).process(Turn()).uid("turn")
        loop.close(turned.side_output(AGAIN))
    counted = turned.key_by(lambda r: r[1]).process(CountSteps()).uid("steps")
    counted.rebalance().sink(sinks("main")).uid("sink").parallelism(2)


def expected_outside() -> Counter[Row]:
    return Counter(("steps", n, tuple(range(step + 1))) for n in range(STEPPERS) for step in range(STEPS + 1))


LOOPS = [
    Topology("loop", build_loop, expected_loop, lambda row: [row[1:3]]),
    Topology("columnar loop", build_columnar_loop, expected_columnar_loop, lambda row: [row[1]]),
    Topology("nested loop", build_nested, expected_nested, lambda row: [row[1:3]]),
    Topology(
        "loop with its sink outside",
        build_outside,
        expected_outside,
        lambda row: [(row[1], row[2][-1])],
        clocked=True,
        ordered=True,
    ),
]
