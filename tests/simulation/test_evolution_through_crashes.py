"""A job that is killed, and goes on at another parallelism with classes and state that have changed meanwhile."""

from __future__ import annotations

import collections
import random
import sys

import numpy as np

from streamcore import (
    BatchFunction,
    Checkpointing,
    ColumnarState,
    CoProcessFunction,
    OutputTag,
    Schema,
    StreamEnvironment,
    ValueState,
)
from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.snapshot_file import SubtaskSnapshot
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.testing import MemorySink, SimulatedWorld
from tests.module_versions import install

RECORDS, TURNS = 8, 150

VERSIONS = [
    """
@dataclass
class Hop:
    n: np.int32
    turn: int

@dataclass
class Seen:
    turns: int
    first: int
""",
    """
@dataclass
class Hop:
    turn: int
    weight: float = 0.5
    n: int = -1

@dataclass
class Seen:
    weight: float = 0.5
    turns: float = 0.0
""",
]


def shop():
    return sys.modules["shop"]


class Turns(CoProcessFunction):
    """Sends each record round the loop, and counts its turns in the state of its key."""

    def __init__(self, version):
        self._version = version

    def open(self, ctx):
        first = shop().Seen(turns=0, first=1) if self._version == 0 else shop().Seen()
        self._seen = ctx.state(ValueState("seen", first))
        migrate = None if self._version == 0 else lambda old, version: (old["n"], old["turn"])
        self._latest = ctx.state(ValueState("latest", None, self._version, migrate))

    def process_first(self, record, ctx):
        seen = self._seen.get()
        again = {"first": seen.first} if self._version == 0 else {"weight": seen.weight}
        self._seen.set(type(seen)(turns=seen.turns + 1, **again))
        hop = shop().Hop(n=record.n, turn=record.turn + 1)
        self._latest.set(hop if self._version == 0 else (record.n, hop.turn))
        if hop.turn < TURNS:
            ctx.side_output(OutputTag("again", shop().Hop), hop)
        else:
            latest = self._latest.get()
            found = (latest.n, latest.turn) if self._version == 0 else latest
            ctx.emit({"n": record.n, "turns": int(seen.turns) + 1, "latest": found})

    process_second = process_first


class Sums(BatchFunction):
    """Sum and number of the records of each key."""

    def __init__(self, version):
        self._version = version

    def open(self, ctx):
        fields = [{"total": np.int32, "gone": bool}, {"total": np.int64, "count": np.float32}][self._version]
        self._sums = ctx.state(ColumnarState("sums", Schema.of(**fields)))

    def process(self, columns, ctx):
        slots = self._sums.slots(columns["n"])
        np.add.at(self._sums["total"], slots, columns["n"].astype(np.int32))

    def finish(self, ctx):
        for key, total in zip(np.asarray(self._sums.keys).tolist(), self._sums["total"].tolist(), strict=True):
            ctx.emit({"key": key, "total": total})


def make(start, stop):
    return [shop().Hop(n=n, turn=0) for n in range(start, stop)]


def make_job(sink, version, chance):
    env = StreamEnvironment(
        "shop", parallelism=chance.choice([1, 2, 3]), max_parallelism=8, batch_size=1, buffer_timeout=0
    )
    hops = env.source(GeneratorSource(make, count=RECORDS, splits=2, schema=shop().Hop)).uid("source")
    with env.loop(shop().Hop) as back:
        both = hops.connect(back.feedback).key_by(lambda r: int(r.n), lambda r: int(r.n))
        again = OutputTag("again", shop().Hop)
        turns = both.process(Turns(version), tags=[again]).uid("turns")
        back.close(turns.side_output(again))
    turns.sink(sink).uid("turned")
    sums = hops.key_by("n").process(Sums(version)).uid("sums").parallelism(chance.choice([1, 2, 3]))
    sums.sink(sink).uid("summed")
    counts = Schema.of(n=int, c=int)
    scan = hops.key_by("n").scan(0, lambda count, r: (count + 1, (r.n, count)), returns=counts, compiled=bool(version))
    scan.uid("scan").map(lambda r: ("scan", r[0], r[1]), compiled=False).uid("scanned").sink(sink).uid("scan-sink")
    return env.compile()


def expected():
    results = [("n", n, TURNS, (n, TURNS)) for n in range(RECORDS)]
    results += [("sum", n, n) for n in range(RECORDS)]
    results += [("scan", n, 0) for n in range(RECORDS)]
    return collections.Counter(results)


def as_tuple(row):
    if isinstance(row, tuple):
        return row
    if "turns" in row:
        return ("n", row["n"], row["turns"], tuple(row["latest"]))
    return ("sum", row["key"], row["total"])


def in_flight(storage):
    manifest = CheckpointLog(storage).latest()
    parts = [SubtaskSnapshot.decode(storage.get(part.file), allow_pickle=False) for part in manifest.subtasks]
    return sum(len(log.elements) for part in parts for log in part.in_flight.inputs)


def run_schedule(seed, monkeypatch):
    """Killed twice at version 0, and then at version 1; how many batches were in flight in the loop at the change."""
    chance = random.Random(seed)
    world, sink, logged = SimulatedWorld(seed), MemorySink(), 0
    interval, unaligned = chance.uniform(0.001, 0.004), chance.random() < 0.5
    config = RunConfig(checkpointing=Checkpointing("simulated://", interval=interval, unaligned=unaligned))
    for run in range(5):
        version = int(run >= 2)
        if run in (0, 2):
            install(monkeypatch, VERSIONS[version])
        if CheckpointLog(world.storage).checkpoints():
            config.restore = "latest"
            logged += in_flight(world.storage) if run == 2 else 0
        crash_after = chance.randint(500, 1500) if run < 4 else None
        if world.run(make_job(sink, version, chance), config, crash_after=crash_after) is not None and run > 1:
            break
    assert collections.Counter(map(as_tuple, sink.committed)) == expected(), f"seed {seed}"
    return logged


def test_what_was_kept_and_what_was_in_flight_get_the_form_of_today(monkeypatch):
    assert sum(run_schedule(seed, monkeypatch) for seed in range(20)) > 10
