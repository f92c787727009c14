"""The fleet's topologies without loops: a chain, a DAG, a join, timers, windows, broadcast state."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable

import numpy as np

from streamcore import (
    BatchFunction,
    BroadcastFunction,
    ColumnarState,
    CoProcessFunction,
    ListState,
    MapState,
    OutputTag,
    ProcessFunction,
    ReducingState,
    Schema,
    StreamEnvironment,
    ValueState,
    bounded_out_of_orderness,
    count,
    milliseconds,
    session,
    sliding,
    sum_of,
)
from streamcore.connectors.generator_source import GeneratorSource
from tests.simulation.fleet.topology import Row, Shape, Sinks, Topology

SPLITS, PER_SPLIT = 2, 20
RECORDS = SPLITS * PER_SPLIT


def numbers(env: StreamEnvironment, shape: Shape, uid: str = "numbers", records: int = RECORDS):
    """The stream 0, 1, 2, … in two splits."""
    source = GeneratorSource(lambda start, stop: list(range(start, stop)), records, shape.rate, SPLITS)
    return env.source(source).uid(uid)


# --- chain: all kinds of object state, and results that only records in order, each once, can give ---------------


def chain_key(n: int) -> int:
    """Records of a key are of one split, so their order is fixed."""
    return n // PER_SPLIT * 10 + n % 3


class InOrder(ProcessFunction):
    """Emits each record with all that the state says of the records of its key before it."""

    def open(self, ctx):
        self._last = ctx.state(ValueState("last", -1))
        self._total = ctx.state(ReducingState("total", lambda a, b: a + b))
        self._recent = ctx.state(ListState("recent"))
        self._residues = ctx.state(MapState("residues"))

    def process(self, record, ctx):
        self._recent.add(record)
        self._recent.set(self._recent.get()[-3:])
        self._residues.put(record % 4, self._residues.get(record % 4, 0) + 1)
        before, total = self._last.get(), self._total.add(record)
        self._last.set(record)
        ctx.emit(("in order", record, before, total, tuple(self._recent.get()), tuple(sorted(self._residues.items()))))


def build_chain(env: StreamEnvironment, sinks: Sinks, shape: Shape) -> None:
    rows = numbers(env, shape).key_by(chain_key).process(InOrder()).uid("in-order")
    rows.filter(lambda row: row[1] % 7).uid("some").map(lambda row: row).uid("same").sink(sinks("main")).uid("sink")


def expected_chain() -> Counter[Row]:
    rows, mine = [], defaultdict(list)
    for n in range(RECORDS):
        before = mine[chain_key(n)]
        last, mine[chain_key(n)] = before[-1] if before else -1, [*before, n]
        seen = mine[chain_key(n)]
        residues = Counter(m % 4 for m in seen)
        rows.append(("in order", n, last, sum(seen), tuple(seen[-3:]), tuple(sorted(residues.items()))))
    return Counter(row for row in rows if row[1] % 7)


# --- dag: a fork into three branches and their join, asynchronous calls, columnar state, a side output -------------

VALUE = Schema.of(key=int, n=int, value=int)
SUMS = Schema.of(total=np.int64, count=np.int64)
ODD_ONES = OutputTag("odd ones")


class CountOdd(ProcessFunction):
    """Passes records on, and the third of each key to a side output."""

    def open(self, ctx):
        self._count = ctx.state(ValueState("count", 0))

    def process(self, record, ctx):
        self._count.set(self._count.get() + 1)
        ctx.emit((record, 3 * record))
        if self._count.get() == 3:
            ctx.side_output(ODD_ONES, ("third", record % 5))


class Sums(BatchFunction):
    """Sum and count of each key in arrays, emitted at the end, and every record as it comes."""

    def open(self, ctx):
        self._sums = ctx.state(ColumnarState("sums", SUMS))

    def process(self, columns, ctx):
        slots = self._sums.slots(columns["key"])
        np.add.at(self._sums["total"], slots, columns["value"])
        np.add.at(self._sums["count"], slots, 1)
        for n in columns["n"].tolist():
            ctx.emit(("passed", n))

    def finish(self, ctx):
        sums = self._sums
        for row in zip(sums.keys.tolist(), sums["total"].tolist(), sums["count"].tolist(), strict=True):
            ctx.emit(("sum", *row))


async def squared(n: int) -> tuple[int, int]:
    await asyncio.sleep(0.0002 * (n % 4))
    return n, n * n


def build_dag(env: StreamEnvironment, sinks: Sinks, shape: Shape) -> None:
    stream = numbers(env, shape)
    odd = stream.filter(lambda n: n % 2).uid("odd").key_by(lambda n: n % 5).process(CountOdd()).uid("count-odd")
    even = stream.filter(lambda n: n % 2 == 0).uid("even").rebalance()
    asked = even.async_map(squared, ordered=False, capacity=3).uid("asked")
    alone = stream.filter(lambda n: n % 4 == 3).uid("few").map(lambda n: (n, -1)).uid("minus")
    values = odd.union(asked, alone).map(lambda row: (row[0] % 6, *row), returns=VALUE).uid("values")
    values.key_by("key").process(Sums()).uid("sums").sink(sinks("main")).uid("sink")
    odd.side_output(ODD_ONES).sink(sinks("side")).uid("side-sink")


def expected_dag() -> Counter[Row]:
    values = [(n, 3 * n if n % 2 else n * n) for n in range(RECORDS)]
    values += [(n, -1) for n in range(RECORDS) if n % 4 == 3]
    rows: list[Row] = [("third", key) for key in range(5)] + [("passed", n) for n, _ in values]
    for key in range(6):
        mine = [value for n, value in values if n % 6 == key]
        rows.append(("sum", key, sum(mine), len(mine)))
    return Counter(rows)


# --- join: two sources, every pair of their records with one key once --------------------------------------------

LEFT, RIGHT = 16, 14


class Pairs(CoProcessFunction):
    """Keeps both sides; emits each pair when its second record comes."""

    def open(self, ctx):
        self._sides = [ctx.state(MapState("left")), ctx.state(ListState("right"))]

    def process_first(self, record, ctx):
        self._sides[0].put(record, True)
        for other in self._sides[1].get():
            ctx.emit(("pair", record, other))

    def process_second(self, record, ctx):
        self._sides[1].add(record)
        for other, _ in list(self._sides[0].items()):
            ctx.emit(("pair", other, record))


def build_join(env: StreamEnvironment, sinks: Sinks, shape: Shape) -> None:
    left, right = numbers(env, shape, "left", LEFT), numbers(env, shape, "right", RIGHT)
    pairs = left.connect(right).key_by(lambda n: n % 3, lambda n: n % 3).process(Pairs()).uid("pairs")
    pairs.sink(sinks("main")).uid("sink")


def expected_join() -> Counter[Row]:
    return Counter(("pair", n, m) for n in range(LEFT) for m in range(RIGHT) if n % 3 == m % 3)


# --- timers: of processing time and of event time, and what is left at the end ------------------------------------

BUCKET_MS = 10
TIMED = Schema.of(n=int, key=int, t=int)


def timed(n: int) -> tuple[int, int, int]:
    """Times go up by 3 ms a record, and jump by up to 6."""
    i = n % PER_SPLIT
    return n, n % 3, 3 * i + (7 * i) % 13 % 7


class Waiting(ProcessFunction):
    """Keeps each record until a timer of processing time, and collects those of each 10 ms of event time."""

    def open(self, ctx):
        self._waiting = ctx.state(MapState("waiting"))
        self._buckets = ctx.state(MapState("buckets"))

    def process(self, record, ctx):
        due = ctx.now_ms() + 1 + record.n % 3
        self._waiting.put(record.n, due)
        ctx.register_timer(due)
        end = (record.t // BUCKET_MS + 1) * BUCKET_MS
        self._buckets.put(end, [*self._buckets.get(end, []), record.n])
        ctx.register_event_timer(end - 1)

    def on_timer(self, time_ms, ctx):
        for n, due in list(self._waiting.items()):
            if due <= time_ms:
                self._waiting.remove(n)
                ctx.emit(("waited", n))

    def on_event_timer(self, time_ms, ctx):
        mine = self._buckets.get(time_ms + 1, [])
        self._buckets.remove(time_ms + 1)
        ctx.emit(("bucket", ctx.key, time_ms + 1, tuple(sorted(mine))))


def build_timers(env: StreamEnvironment, sinks: Sinks, shape: Shape) -> None:
    source = GeneratorSource(
        lambda start, stop: [timed(n) for n in range(start, stop)], RECORDS, shape.rate, SPLITS, TIMED
    )
    stream = env.source(source, watermarks=bounded_out_of_orderness("t", milliseconds(6))).uid("numbers")
    stream.key_by("key").process(Waiting()).uid("waiting").sink(sinks("main")).uid("sink")


def expected_timers() -> Counter[Row]:
    buckets = defaultdict(list)
    for n, key, t in map(timed, range(RECORDS)):
        buckets[key, (t // BUCKET_MS + 1) * BUCKET_MS].append(n)
    rows = [("waited", n) for n in range(RECORDS)]
    return Counter([*rows, *(("bucket", *place, tuple(sorted(mine))) for place, mine in buckets.items())])


def essence_of_timers(row: Row) -> Iterable[Hashable]:
    return [row] if row[0] == "waited" else [("bucket", *row[1:3], n) for n in row[3]]


# --- windows: sliding ones in one stage or two, sessions, and sums of windows -------------------------------------

SIZE, EVERY, GAP = 16, 8, 5


def build_windows(env: StreamEnvironment, sinks: Sinks, shape: Shape) -> None:
    source = GeneratorSource(
        lambda start, stop: [timed(n) for n in range(start, stop)], RECORDS, shape.rate, SPLITS, TIMED
    )
    stream = env.source(source, watermarks=bounded_out_of_orderness("t", milliseconds(6))).uid("numbers")
    windows = sliding(milliseconds(SIZE), every=milliseconds(EVERY))
    sums = stream.key_by("key").window(windows).aggregate(count(), sum_of("n")).uid("windows")
    sums.map(lambda row: ("window", *row)).uid("as-windows").sink(sinks("main")).uid("sink")
    sessions = stream.key_by("key").window(session(milliseconds(GAP))).aggregate(count(), sum_of("n")).uid("sessions")
    sessions.map(lambda row: ("session", *row)).uid("as-sessions").sink(sinks("sessions")).uid("session-sink")


def expected_windows() -> Counter[Row]:
    rows = [timed(n) for n in range(RECORDS)]
    found = []
    for key in range(3):
        mine = sorted((t, n) for n, k, t in rows if k == key)
        for start in range(-SIZE, 100, EVERY):
            inside = [n for t, n in mine if start <= t < start + SIZE]
            found += [("window", key, start, start + SIZE, len(inside), sum(inside))] if inside else []
        together: list[list[tuple[int, int]]] = []
        for t, n in mine:
            if together and t <= together[-1][-1][0] + GAP:
                together[-1].append((t, n))
            else:
                together.append([(t, n)])
        found += [("session", key, s[0][0], s[-1][0] + GAP, len(s), sum(n for _, n in s)) for s in together]
    return Counter(found)


# --- broadcast: rules that every subtask has --------------------------------------------------------------------

RULES, NAMES = 15, 9


class Ruled(BroadcastFunction):
    """Counts records by key, keeps the newest version of each rule, and says what it has at the end."""

    def open(self, ctx):
        self._rules = ctx.broadcast_state(MapState("rules"))
        self._count = ctx.state(ValueState("count", 0))

    def process_broadcast(self, record, ctx):
        name = record * 4 % NAMES
        self._rules.put(name, max(record, self._rules.get(name, -1)))

    def process(self, record, ctx):
        self._count.set(self._count.get() + 1)
        ctx.emit(("counted", ctx.key, self._count.get()))

    def finish(self, ctx):
        ctx.emit(("rules", tuple(sorted(self._rules.items()))))


def build_broadcast(env: StreamEnvironment, sinks: Sinks, shape: Shape) -> None:
    rules = numbers(env, shape, "rules", RULES).broadcast()
    stream = numbers(env, shape).key_by(lambda n: n % 5)
    stream.connect(rules).process(Ruled()).uid("ruled").sink(sinks("main")).uid("sink")


def expected_broadcast() -> Counter[Row]:
    newest = {n * 4 % NAMES: n for n in range(RULES)}
    rows = [("counted", n % 5, n // 5 + 1) for n in range(RECORDS)]
    return Counter([*rows, ("rules", tuple(sorted(newest.items())))])


def essence_of_broadcast(row: Row) -> Iterable[Hashable]:
    """Every count is passed; records that are processed twice lead beyond the last."""
    return [row] if row[0] == "rules" else [(*row[:2], min(row[2], RECORDS // 5))]


def itself(row: Row) -> Iterable[Hashable]:
    return [row]


FORWARD = [
    Topology("chain", build_chain, expected_chain, lambda row: [row[1]], ordered=True),
    Topology("dag", build_dag, expected_dag, lambda row: [row[:2]]),
    Topology("join", build_join, expected_join, itself),
    Topology("timers", build_timers, expected_timers, essence_of_timers),
    Topology("windows", build_windows, expected_windows, lambda row: [row[:4]]),
    Topology("broadcast", build_broadcast, expected_broadcast, essence_of_broadcast, repeated="rules"),
]
