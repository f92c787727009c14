"""Jobs that come to their end while they crash and change their parallelism: what `finish` emits comes out once."""

import collections
import random

import pytest

from streamcore import Checkpointing, ProcessFunction, StreamEnvironment, ValueState
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.base import Split, SplitReader
from streamcore.connectors.iterable_source import IterableSource
from streamcore.job.config import RunConfig
from streamcore.runtime.elements import EndOfInput
from streamcore.runtime.operator_task import OperatorTask
from streamcore.testing import MemorySink, SimulatedWorld

KEYS = 7


class Uneven(IterableSource):
    """Splits of very different lengths."""

    def __init__(self, lengths):
        super().__init__([])
        self._lengths = lengths

    def splits(self):
        return [Split(f"s{number}", length) for number, length in enumerate(self._lengths)]

    def reader(self, split, offset, context):
        return UnevenReader(split, offset or 0, context)


class UnevenReader(SplitReader):
    def __init__(self, split, offset, context):
        self._name, self._length, self._now, self.offset = split.id, split.info, context.now, offset
        self.exhausted = offset >= self._length

    def poll(self, limit):
        if self.offset >= self._length:
            self.exhausted = True
            return []
        self.offset += 1
        self.wake_at = self._now() + 0.0003
        return [(self._name, self.offset)]


def key_of(record):
    return (record[1] + len(record[0])) % KEYS


class Last(ProcessFunction):
    """Keeps the sum of each key and sets a timer, far away: it fires when the input has ended."""

    def open(self, ctx):
        self._sum = ctx.state(ValueState("sum", 0))

    def process(self, record, ctx):
        self._sum.set(self._sum.get() + record[1])
        ctx.register_timer(1 << 50)

    def on_timer(self, time_ms, ctx):
        ctx.emit(("last", ctx.key, self._sum.get()))


def records(lengths):
    return [(f"s{number}", place) for number, length in enumerate(lengths) for place in range(1, length + 1)]


def expected(lengths):
    total, count = collections.Counter(), collections.Counter()
    for record in records(lengths):
        total[key_of(record)] += record[1]
        count[key_of(record)] += 1
    results = [("as it is", *record) for record in records(lengths)]
    results += [("again", *record) for record in records(lengths)]
    results += [("last", key, value) for key, value in total.items()]
    results += [("reduced", key, value) for key, value in total.items()]
    results += [("counted", key, value) for key, value in count.items()]
    return collections.Counter(results)


def make_job(sink, lengths, parallelism, chance):
    env = StreamEnvironment("ends", parallelism=parallelism, max_parallelism=16, batch_size=chance.choice([1, 2, 4]))
    stream = env.source(Uneven(lengths)).uid("source")
    stream.map(lambda r: ("as it is", *r)).uid("map").sink(sink).uid("sink 1")
    apart = stream.map(lambda r: ("again", *r)).uid("apart").start_new_chain()
    apart.sink(sink).uid("sink 2").start_new_chain()
    width = chance.choice([1, 2, 3, 4])
    last = stream.key_by(key_of).process(Last()).uid("last").parallelism(width)
    last.sink(sink).uid("sink 3").parallelism(chance.choice([width, 1, 3]))
    pairs = stream.map(lambda r: (key_of(r), r[1])).uid("pairs")
    reduced = pairs.key_by(lambda r: r[0]).reduce(lambda a, b: (a[0], a[1] + b[1]), emit="final").uid("reduce")
    reduced.map(lambda r: ("reduced", *r)).uid("reduced").sink(sink).uid("sink 4")
    counted = pairs.key_by(lambda r: r[0]).count(emit="final").uid("count").parallelism(chance.choice([1, 2, 5]))
    counted.map(lambda r: ("counted", *r)).uid("counted").sink(sink).uid("sink 5")
    return env.compile()


def run_schedule(seed, lengths):
    """Crashes and restores till the end; how many snapshots that had ended in part were restored elsewhere, by uid."""
    chance = random.Random(seed)
    world, sink = SimulatedWorld(seed), MemorySink()
    interval, unaligned = chance.uniform(0.0002, 0.001), chance.random() < 0.3
    checkpointing = Checkpointing("simulated://", interval=interval, retain=2, unaligned=unaligned)
    taken: collections.Counter[str] = collections.Counter()
    for _ in range(40):
        config = RunConfig(checkpointing=checkpointing)
        job = make_job(sink, lengths, chance.choice([1, 2, 3, 5]), chance)
        manifests = CheckpointLog(world.storage).checkpoints()
        if manifests:
            config.restore = "latest"
            widths = {spec.uid: vertex.parallelism for vertex in job.vertices for spec in vertex.operators}
            for uid, old in manifests[-1].operators.items():
                ends = {part.finished for part in manifests[-1].subtasks if uid in part.operators}
                taken[uid] += len(ends) == 2 and widths[uid] != old.parallelism
        if world.run(job, config, crash_after=chance.randint(200, 900)) is not None:
            break
    else:
        world.run(make_job(sink, lengths, 2, chance), RunConfig(checkpointing=checkpointing, restore="latest"))
    assert collections.Counter(sink.committed) == expected(lengths), f"seed {seed}"
    return taken


@pytest.fixture
def slow_ends(monkeypatch):
    """Some subtasks are slow to see that an input has ended; meanwhile they look at their mail, as slow ones do."""
    control = OperatorTask._control

    async def slow_control(self, channel, element):
        if isinstance(element, EndOfInput):
            chance = random.Random(f"{self.id} {self.epoch} {channel.number}")
            await self._clock.sleep(chance.choice([0, 0, 0.02]))
            await self._read_mail()
        await control(self, channel, element)

    monkeypatch.setattr(OperatorTask, "_control", slow_control)


def test_whatever_had_ended_at_a_crash_is_done_once_at_any_parallelism(slow_ends):
    lengths = (0, 1, 3)  # so short that most crashes come when the input has ended
    taken: collections.Counter[str] = collections.Counter()
    for seed in range(40):
        taken += run_schedule(seed, lengths)
    assert all(taken[uid] for uid in ("source", "apart", "last", "reduce", "count")), taken
    assert sum(taken[uid] for uid in ("last", "reduce", "count")) > 20, taken
