"""Topologies whose right output is known, and runs of them under a seed, with crashes and restores, in every mode.

Channels have credit for one batch or two, so that subtasks wait for credit most of the time and barriers have something
to overtake.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from test_loop_schedules import HOPS, Hop
from test_nested_loops import expected_nested, nested_loops

from streamcore import (
    Checkpointing,
    CoProcessFunction,
    OutputTag,
    ProcessFunction,
    Schema,
    StreamEnvironment,
    ValueState,
    bounded_out_of_orderness,
    count,
    milliseconds,
    sum_of,
    tumbling,
)
from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.snapshot_file import SubtaskSnapshot
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.runtime.spec import JobSpec
from streamcore.testing import MemorySink, SimulatedWorld

RECORDS = 60
AGAIN = OutputTag("again")
Output = collections.Counter[Hashable]


class Seen(ProcessFunction):
    """Counts each record, which comes once, and hands on how often it has been seen here."""

    def open(self, ctx):
        self._seen = ctx.state(ValueState("seen", 0))

    def process(self, record, ctx):
        self._seen.set(self._seen.get() + 1)
        ctx.emit((*record, self._seen.get()))


class Both(CoProcessFunction):
    """The same of two inputs."""

    def open(self, ctx):
        self._seen = ctx.state(ValueState("seen", 0))

    def process_first(self, record, ctx):
        self._seen.set(self._seen.get() + 1)
        ctx.emit((*record, self._seen.get()))

    process_second = process_first


def numbers(start: int, stop: int) -> list[tuple[int]]:
    return [(i,) for i in range(start, stop)]


def chain(env: StreamEnvironment, sink: MemorySink) -> None:
    stream = env.source(GeneratorSource(numbers, count=RECORDS, splits=2)).uid("source")
    for stage in ("a", "b", "c"):
        stream = stream.key_by(lambda r: r[0]).process(Seen()).uid(stage)
    stream.sink(sink).uid("sink").start_new_chain()


def expected_chain() -> Output:
    return collections.Counter((i, 1, 1, 1) for i in range(RECORDS))


def two_inputs(env: StreamEnvironment, sink: MemorySink) -> None:
    left = env.source(GeneratorSource(numbers, count=RECORDS, splits=2)).uid("left")
    right = env.source(GeneratorSource(lambda a, b: [(i + 1000,) for i in range(a, b)], count=RECORDS)).uid("right")
    left = left.rebalance().map(lambda r: r).uid("left map")
    both = left.connect(right).key_by(lambda r: r[0], lambda r: r[0]).process(Both()).uid("both")
    both.partition(lambda r, n: r[0] % n).process(Pass()).uid("pass").sink(sink).uid("sink")


def narrow(env: StreamEnvironment, sink: MemorySink) -> None:
    """At parallelism 1 all that follows the key is one chain."""
    stream = env.source(GeneratorSource(numbers, count=RECORDS, splits=2)).uid("source")
    stream = stream.rebalance().map(lambda r: r).uid("map").key_by(lambda r: r[0]).process(Seen()).uid("seen")
    stream.process(Pass()).uid("pass").parallelism(1).sink(sink).uid("sink")


def expected_narrow() -> Output:
    return collections.Counter((i, 1) for i in range(RECORDS))


async def slowly(record):
    await asyncio.sleep(0.0003)
    return record


def slow_chain(env: StreamEnvironment, sink: MemorySink) -> None:
    """The sources end long before the records are through, and wait for credit at their end."""
    stream = env.source(GeneratorSource(numbers, count=RECORDS, splits=2)).uid("source")
    for stage in ("a", "b", "c"):
        stream = stream.key_by(lambda r: r[0]).process(Seen()).uid(stage)
    stream.rebalance().async_map(slowly, capacity=1).uid("slow").parallelism(1).sink(sink).uid("sink")


def slow_loop(env: StreamEnvironment, sink: MemorySink) -> None:
    """The body of the loop is slow, and what stands behind it is too."""
    pairs = env.source(GeneratorSource(lambda a, b: [(i, 0) for i in range(a, b)], count=RECORDS // 2, splits=2))
    with env.loop() as back:
        hops = pairs.uid("source").connect(back.feedback).key_by(lambda r: r, lambda r: r).process(Hop()).uid("hop")
        body = hops.side_output(AGAIN).rebalance().async_map(slowly, capacity=2).uid("body")
        back.close(body.rebalance().map(lambda r: r).uid("tail"))
    hops.rebalance().async_map(slowly, capacity=1).uid("slow").parallelism(1).sink(sink).uid("sink")


class Pass(ProcessFunction):
    def process(self, record, ctx):
        ctx.emit(record)


def expected_two_inputs() -> Output:
    return collections.Counter([(i, 1) for i in range(RECORDS)] + [(i + 1000, 1) for i in range(RECORDS)])


def loop(env: StreamEnvironment, sink: MemorySink) -> None:
    """Parallel heads whose feedback is shuffled straight back to them; the sink is outside."""
    pairs = env.source(GeneratorSource(lambda a, b: [(i, 0) for i in range(a, b)], count=RECORDS // 2, splits=2))
    with env.loop() as back:
        hops = pairs.uid("source").connect(back.feedback).key_by(lambda r: r, lambda r: r).process(Hop()).uid("hop")
        back.close(hops.side_output(AGAIN))
    hops.key_by(lambda r: r[0]).process(Pass()).uid("out").sink(sink).uid("sink")


def expected_loop() -> Output:
    return collections.Counter((number, hop, 1) for number in range(RECORDS // 2) for hop in range(HOPS + 1))


def long_loop(env: StreamEnvironment, sink: MemorySink) -> None:
    """A loop whose body is behind exchanges with credit."""
    pairs = env.source(GeneratorSource(lambda a, b: [(i, 0) for i in range(a, b)], count=RECORDS // 2, splits=2))
    with env.loop() as back:
        hops = pairs.uid("source").connect(back.feedback).key_by(lambda r: r, lambda r: r).process(Hop()).uid("hop")
        body = hops.side_output(AGAIN).key_by(lambda r: r[0]).process(Pass()).uid("body")
        back.close(body.rebalance().map(lambda r: r).uid("tail"))
    hops.sink(sink).uid("sink").start_new_chain()


def nested(env: StreamEnvironment, sink: MemorySink) -> None:
    nested_loops(env).sink(sink)


EVENT = Schema.of(key=int, t=int, n=int)
WINDOW = tumbling(milliseconds(20))


def events(start: int, stop: int) -> list[tuple[int, int, int]]:
    return [(i % 5, 3 * (i % (2 * RECORDS)) - i % 4, i) for i in range(start, stop)]


def windows(env: StreamEnvironment, sink: MemorySink) -> None:
    """Event time over two exchanges."""
    source = GeneratorSource(events, count=4 * RECORDS, splits=2, schema=EVENT, rate=20_000)
    stream = env.source(source, watermarks=bounded_out_of_orderness("t", milliseconds(4))).uid("source")
    stream = stream.rebalance().filter(lambda r: True).uid("filter")
    results = stream.key_by("key").window(WINDOW).aggregate(count(), sum_of("n")).uid("window")
    results.async_map(slowly, capacity=1).uid("slow").sink(sink).uid("sink")


def expected_windows() -> Output:
    groups: dict[tuple[int, int], list[int]] = {}
    for key, t, n in events(0, 4 * RECORDS):
        groups.setdefault((key, t // 20 * 20), []).append(n)
    return collections.Counter((key, s, s + 20, len(values), sum(values)) for (key, s), values in groups.items())


@dataclass(frozen=True)
class Topology:
    """`covers`: whether output in which records may count twice has a result for what is expected."""

    build: Callable[[StreamEnvironment, MemorySink], None]
    expected: Callable[[], Output]
    covers: Callable[[tuple[int, ...], tuple[int, ...]], bool]
    rescales: bool = True


def first(count: int) -> Callable[[tuple[int, ...], tuple[int, ...]], bool]:
    """What is to be the same: the first fields; what follows are counts, which may be too high."""
    return lambda expected, got: expected[:count] == got[:count] and all(map(int.__le__, expected[count:], got[count:]))


TOPOLOGIES = {
    "chain": Topology(chain, expected_chain, first(1)),
    "two inputs": Topology(two_inputs, expected_two_inputs, first(1)),
    "narrow": Topology(narrow, expected_narrow, first(1)),
    "slow chain": Topology(slow_chain, expected_chain, first(1)),
    "slow loop": Topology(slow_loop, expected_loop, first(2)),
    "loop": Topology(loop, expected_loop, first(2)),
    "long loop": Topology(long_loop, expected_loop, first(2)),
    "nested": Topology(nested, expected_nested, first(2)),
    "windows": Topology(windows, expected_windows, first(3)),
    "two-stage windows": Topology(windows, expected_windows, first(3), rescales=False),
}

MODES: dict[str, Callable[[random.Random], dict[str, object]]] = {
    "aligned": lambda chance: {},
    "unaligned": lambda chance: {"unaligned": True},
    "aligned timeout": lambda chance: {"aligned_timeout": chance.choice([0.0002, 0.001, 0.003])},
    "at-least-once": lambda chance: {"mode": "at-least-once"},
}


@dataclass
class Outcome:
    committed: Output
    topology: Topology
    restored: int = 0
    rescaled: int = 0
    with_inputs: int = 0
    with_outputs: int = 0

    @property
    def lost(self) -> list[Hashable]:
        """What is expected, and doesn't come out even with counts that are too high."""
        covers = self.topology.covers
        return [e for e in self.topology.expected() if not any(covers(e, tuple(got)) for got in self.committed)]

    @property
    def is_exact(self) -> bool:
        return self.committed == self.topology.expected()


def make_job(topology: str, sink: MemorySink, parallelism: int, chance: random.Random) -> JobSpec:
    env = StreamEnvironment(
        topology,
        parallelism=parallelism,
        max_parallelism=8,
        batch_size=chance.choice([1, 2, 5]),
        buffer_timeout=chance.choice([0, 0.0005]),
        two_stage=topology == "two-stage windows",
    )
    env.settings = dataclasses.replace(env.settings, channel_credits=chance.choice([1, 2]))
    env.settings = dataclasses.replace(env.settings, feedback_memory_records=chance.choice([1, 3, 1000]))
    TOPOLOGIES[topology].build(env, sink)
    return env.compile()


def newest(world: SimulatedWorld):
    log = CheckpointLog(world.storage)
    return log.latest() if log.checkpoints() else None


def run_schedule(topology: str, mode: str, seed: int) -> Outcome:
    """One job under one seed: crashes, and restores from the newest checkpoint, at another parallelism if the topology
    can, until it ends."""
    chance, world, sink = random.Random(f"{topology} {mode} {seed}"), SimulatedWorld(seed), MemorySink()
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.0005, 0.003), **MODES[mode](chance))
    outcome = Outcome(collections.Counter(), TOPOLOGIES[topology])
    parallelism = chance.choice([1, 2, 3])
    for crash in [*(chance.randint(100, 900) for _ in range(chance.randint(2, 4))), None]:
        manifest = newest(world)
        if manifest is not None:
            outcome.restored += 1
            parts = [SubtaskSnapshot.decode(world.storage.get(s.file), allow_pickle=False) for s in manifest.subtasks]
            outcome.with_inputs += any(part.in_flight.inputs for part in parts)
            outcome.with_outputs += any(part.in_flight.outputs for part in parts)
            if TOPOLOGIES[topology].rescales and not any(s.finished for s in manifest.subtasks):
                before, parallelism = parallelism, chance.choice([1, 2, 3])
                outcome.rescaled += before != parallelism
        config = RunConfig(checkpointing=checkpointing, restore="latest" if manifest is not None else None)
        if world.run(make_job(topology, sink, parallelism, chance), config, crash_after=crash) is not None:
            break
    outcome.committed = collections.Counter(sink.committed)
    return outcome
