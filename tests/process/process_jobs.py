"""The topologies of the tests in this directory. What they remember of earlier attempts is kept in files."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from streamcore import (
    BatchFunction,
    ColumnarState,
    CoProcessFunction,
    OutputTag,
    ProcessFunction,
    Schema,
    StreamEnvironment,
    ValueState,
    bounded_out_of_orderness,
    max_of,
    mean,
    milliseconds,
    sliding,
    tumbling,
)
from streamcore.connectors.base import Split, SplitReader
from streamcore.connectors.file_sink import FileSink
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.connectors.iterable_source import IterableSource

KEYS = 13
HOPS = 3
AGAIN = OutputTag("again")
NUMBER = Schema.of(n=np.int64, key=np.int64)


def rows(start, stop):
    return [{"n": n, "key": n % KEYS} for n in range(start, stop)]


def sink(output, name):
    return FileSink(f"{output}/{name}", if_exists="replace")


def expected_rows(records):
    return [{"n": n, "key": n % KEYS} for n in range(records)]


def expected_counts(records, times=1):
    return [{"key": key, "count": times * len(range(key, records, KEYS))} for key in range(min(KEYS, records))]


def numbers(env: StreamEnvironment, *, output: str, records: int, rate: float) -> None:
    """Every number, and how many there are of each key in the end."""
    stream = env.source(GeneratorSource(rows, count=records, rate=rate, splits=2)).uid("source")
    stream.sink(sink(output, "rows")).uid("rows")
    counts = stream.key_by(lambda r: r["key"]).count(emit="final").uid("counts")
    counts.map(lambda pair: {"key": pair[0], "count": pair[1]}).sink(sink(output, "counts")).uid("counts-sink")


def endless(env: StreamEnvironment, *, output: str, rate: float) -> None:
    """The same without end."""
    stream = env.source(GeneratorSource(rows, rate=rate, splits=2)).uid("source")
    stream.sink(sink(output, "rows")).uid("rows")
    counts = stream.key_by(lambda r: r["key"]).count(emit="final").uid("counts")
    counts.map(lambda pair: {"key": pair[0], "count": pair[1]}).sink(sink(output, "counts")).uid("counts-sink")


class Hop(CoProcessFunction):
    """Sends each number round the loop until it has hopped enough, and counts its visits."""

    def open(self, ctx):
        self._seen = ctx.state(ValueState("seen", 0))

    def process_first(self, record, ctx):
        n, hop = record
        self._seen.set(self._seen.get() + 1)
        ctx.emit({"n": n, "hop": hop, "seen": self._seen.get()})
        if hop < HOPS:
            ctx.side_output(AGAIN, (n, hop + 1))

    process_second = process_first


def loop(env: StreamEnvironment, *, output: str, records: int, rate: float) -> None:
    """Numbers that go round a loop."""
    source = env.source(GeneratorSource(rows, count=records, rate=rate, splits=2)).uid("source")
    pairs = source.map(lambda r: (r["n"], 0)).uid("pairs")
    with env.loop() as back:
        hops = pairs.connect(back.feedback).key_by(lambda r: r, lambda r: r).process(Hop()).uid("hops")
        back.close(hops.side_output(AGAIN))
    hops.sink(sink(output, "hops")).uid("hops-sink")


def expected_hops(records):
    return [{"n": n, "hop": hop, "seen": 1} for n in range(records) for hop in range(HOPS + 1)]


class Sums(BatchFunction):
    """Sum and count of each key in columnar state, emitted at the end."""

    def open(self, ctx):
        self._sums = ctx.state(ColumnarState("sums", Schema.of(total=np.int64, count=np.int64)))

    def process(self, columns, ctx):
        slots = self._sums.slots(columns["key"])
        np.add.at(self._sums["total"], slots, columns["n"])
        np.add.at(self._sums["count"], slots, 1)

    def finish(self, ctx):
        for key, total, count in zip(
            self._sums.keys.tolist(), self._sums["total"].tolist(), self._sums["count"].tolist(), strict=True
        ):
            ctx.emit({"key": key, "total": total, "count": count})


class Alarms(ProcessFunction):
    """Sets one timer a key, an hour after its first record; it fires when the input ends."""

    def open(self, ctx):
        self._first = ctx.state(ValueState("first", None))

    def process(self, record, ctx):
        if self._first.get() is None:
            self._first.set(record["n"])
            ctx.register_timer(ctx.now_ms() + 3_600_000)

    def on_timer(self, time_ms, ctx):
        ctx.emit({"key": ctx.key, "first": self._first.get()})


def keyed(env: StreamEnvironment, *, output: str, records: int, rate: float) -> None:
    """Heap state, columnar state and timers on the numbers of eight splits."""
    typed = GeneratorSource(columns, count=records, rate=rate, splits=8, schema=NUMBER)
    stream = env.source(typed).uid("source")
    sums = stream.key_by("key").process(Sums()).uid("sums")
    sums.sink(sink(output, "sums")).uid("sums-sink")
    plain = stream.map(lambda r: {"n": int(r.n), "key": int(r.key)}).uid("plain")
    plain.sink(sink(output, "rows")).uid("rows")
    alarms = plain.key_by(lambda r: r["key"]).process(Alarms()).uid("alarms")
    alarms.sink(sink(output, "alarms")).uid("alarms-sink")


def columns(start, stop):
    from streamcore import Columns

    n = np.arange(start, stop)
    return Columns(NUMBER, {"n": n, "key": n % KEYS})


def fragile(
    env: StreamEnvironment, *, output: str, records: int, rate: float, marks: str, log: str, failures: int
) -> None:
    """`numbers`, but a record that comes after a checkpoint has completed raises, `failures` times over all attempts.

    Args:
        marks: a file that gets a line for each failure.
        log: the directory of manifests; empty: the first record raises.
    """
    source = env.source(GeneratorSource(rows, count=records, rate=rate, splits=2)).uid("source")
    stream = source.map(lambda r: stumble(r, marks, log, failures)).uid("stumble")
    stream.sink(sink(output, "rows")).uid("rows")
    counts = stream.key_by(lambda r: r["key"]).count(emit="final").uid("counts")
    counts.map(lambda pair: {"key": pair[0], "count": pair[1]}).sink(sink(output, "counts")).uid("counts-sink")


def stumble(record, marks, log, failures):
    done = Path(marks).read_text().count("\n") if Path(marks).exists() else 0
    if done < failures and (not log or manifests(log) > done):
        with Path(marks).open("a") as file:
            file.write(f"{record['n']}\n")
        raise ValueError(f"stumbled over {record['n']}")
    return record


def manifests(log):
    """How many checkpoints are complete, as far as they are kept."""
    return sum('"kind": "checkpoint"' in path.read_text() for path in Path(log).glob("*.json"))


def stuck(env: StreamEnvironment, *, output: str, started: str) -> None:
    """A record that never gets through, so that no checkpoint can complete."""
    source = env.source(GeneratorSource(rows, rate=1000)).uid("source")
    source.map(lambda r: block(r, started)).uid("block").sink(sink(output, "rows")).uid("rows")


def block(record, started):
    Path(started).write_text("")
    threading.Event().wait(60)
    return record


def numbers_in_few_groups(env: StreamEnvironment, *, output: str, records: int, rate: float) -> None:
    """`numbers` with another number of key groups."""
    env.max_parallelism = 16
    numbers(env, output=output, records=records, rate=rate)


def numbers_reduced(env: StreamEnvironment, *, output: str, records: int, rate: float) -> None:
    """`numbers`, but the operator that counted has other state now."""
    stream = env.source(GeneratorSource(rows, count=records, rate=rate, splits=2)).uid("source")
    stream.sink(sink(output, "rows")).uid("rows")
    counts = stream.key_by(lambda r: r["key"]).reduce(lambda a, b: b, emit="final").uid("counts")
    counts.map(lambda row: row).sink(sink(output, "counts")).uid("counts-sink")


class Wander(CoProcessFunction):
    """Sends numbers round the loop until a file is there, then says for each whether every turn was counted once."""

    def __init__(self, release):
        self._release = release

    def open(self, ctx):
        self._seen = ctx.state(ValueState("seen", 0))

    def process_first(self, record, ctx):
        n, turn = record
        self._seen.set(self._seen.get() + 1)
        if Path(self._release).exists():
            ctx.emit({"n": n, "counted": self._seen.get() == turn + 1})
        else:
            ctx.side_output(AGAIN, (n, turn + 1))

    process_second = process_first


def wanderers(
    env: StreamEnvironment, *, output: str, records: int, rate: float, release: str, tag: str = "again"
) -> None:
    """Numbers that are in flight in a loop whenever a snapshot is taken."""
    source = env.source(GeneratorSource(rows, count=records, rate=rate, splits=2)).uid("source")
    pairs = source.map(lambda r: (r["n"], 0)).uid("pairs")
    with env.loop() as back:
        wandering = pairs.connect(back.feedback).key_by(lambda r: r[0], lambda r: r[0]).process(Wander(release))
        back.close(wandering.uid("wander").side_output(OutputTag(tag)))
    wandering.sink(sink(output, "rows")).uid("rows")


def wanderers_on_another_edge(env: StreamEnvironment, *, output: str, records: int, rate: float, release: str) -> None:
    """`wanderers`, whose loop is closed with another output."""
    wanderers(env, output=output, records=records, rate=rate, release=release, tag="other")


class Uneven(IterableSource):
    """A split that ends at once and one that never ends."""

    def __init__(self):
        super().__init__([])
        self.bounded = False

    def splits(self):
        return [Split("long"), Split("short")]

    def reader(self, split, offset, context):
        return UnevenReader(split.id, offset or 0, context)


class UnevenReader(SplitReader):
    def __init__(self, name, offset, context):
        self._name, self._context, self.offset = name, context, offset

    def poll(self, limit):
        self.exhausted = self._name == "short"
        self.offset += 1
        self.wake_at = self._context.now() + 0.01
        return [{"n": self.offset, "key": 0}]


def uneven(env: StreamEnvironment, *, output: str) -> None:
    """Two splits, of which one ends at once."""
    env.source(Uneven()).uid("source").sink(sink(output, "rows")).uid("rows")


READING = Schema.of(sensor=str, time=int, value=float)
LATENESS_MS = 40


def readings(start, stop):
    """A millisecond of event time each within a split, out of order by up to `LATENESS_MS`; both splits alike."""
    from streamcore import Columns

    n = np.arange(start, stop)
    sensors = np.array([f"s{i}" for i in range(KEYS)])[n * n % KEYS]
    time = n % 3000 - n * 7919 % (LATENESS_MS + 1)
    return Columns(READING, {"sensor": pa.array(sensors, pa.string()), "time": time, "value": (n % 17) / 2})


def windows(env: StreamEnvironment, *, output: str, rate: float) -> None:
    """Last time and mean of each sensor in sliding windows of two splits of 3000 readings."""
    source = GeneratorSource(readings, count=6000, rate=rate, splits=2, schema=READING)
    bounded = bounded_out_of_orderness("time", milliseconds(LATENESS_MS))
    stream = env.source(source, watermarks=bounded).uid("source")
    sliding_windows = sliding(milliseconds(100), every=milliseconds(40))
    results = stream.key_by("sensor").window(sliding_windows).aggregate(max_of("time"), mean("value")).uid("windows")
    results.map(lambda r: r._asdict(), compiled=False).sink(sink(output, "windows")).uid("windows-sink")


class Halting(GeneratorSource):
    """Readings in two splits, of which the second falls silent after a hundred, until a file is there."""

    def __init__(self, rate, release):
        super().__init__(readings, count=6000, rate=rate, splits=2, schema=READING)
        self.release = release

    def reader(self, split, offset, context):
        reader = super().reader(split, offset, context)
        return HaltingReader(reader, self.release, context) if split.id == "1" else reader


class HaltingReader(SplitReader):
    def __init__(self, reader, release, context):
        self._reader, self._release, self._now, self.offset = reader, release, context.now, reader.offset

    def poll(self, limit):
        if self.offset >= 3100 and not Path(self._release).exists():
            self.wake_at = self._now() + 0.01
            return None
        batch = self._reader.poll(limit)
        self.wake_at, self.offset, self.exhausted = self._reader.wake_at, self._reader.offset, self._reader.exhausted
        return batch


def silent_split(env: StreamEnvironment, *, output: str, rate: float, release: str) -> None:
    """`windows`, tumbling, of a source of which one split is silent for long."""
    bounded = bounded_out_of_orderness("time", milliseconds(LATENESS_MS)).with_idleness(milliseconds(300))
    strategy = bounded.with_alignment("readings", max_drift=milliseconds(5000), every=milliseconds(50))
    stream = env.source(Halting(rate, release), watermarks=strategy).uid("source")
    results = stream.key_by("sensor").window(tumbling(milliseconds(100))).aggregate(max_of("time")).uid("windows")
    results.map(lambda r: r._asdict(), compiled=False).sink(sink(output, "windows")).uid("windows-sink")
    stream.map(lambda r: r._asdict(), compiled=False).sink(sink(output, "rows")).uid("rows")


class Sleepy(ProcessFunction):
    """Takes its time for each record, and hands it on."""

    def __init__(self, seconds):
        self._seconds = seconds

    def process(self, record, ctx):
        if self._seconds:
            time.sleep(self._seconds)
        ctx.emit(record)


def held_up(env: StreamEnvironment, *, output: str, records: int, pause: float, loops: bool) -> None:
    """Numbers through two exchanges, or round a loop, to a subtask that is slow: all queues are full."""
    env.settings = replace(env.settings, batch_size=16)
    source = env.source(GeneratorSource(rows, count=records, splits=2)).uid("source")
    pairs = source.map(lambda r: (r["n"], 0 if loops else HOPS)).uid("pairs")
    with env.loop() as back:
        hops = pairs.connect(back.feedback).key_by(lambda r: r, lambda r: r).process(Hop()).uid("hops")
        again = hops.side_output(AGAIN).key_by(lambda r: r[0]).map(lambda r: r).uid("again").start_new_chain()
        back.close(again)
    slow = hops.key_by(lambda r: r["n"]).process(Sleepy(pause)).uid("slow")
    slow.rebalance().sink(sink(output, "hops")).uid("hops-sink")
