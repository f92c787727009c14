"""process with state, timers and side outputs, on plain and keyed streams, against plain Python."""

from __future__ import annotations

from collections import Counter, defaultdict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

from streamcore import (
    BatchFunction,
    ColumnarState,
    Columns,
    ListState,
    MapState,
    OutputTag,
    ProcessFunction,
    ReducingState,
    Schema,
    StreamEnvironment,
    ValueState,
)

ODD = OutputTag("odd")
RECORDS = [(f"k{i * 5 % 7}", i) for i in range(70)]


@dataclass(frozen=True)
class Late:
    key: str
    value: int


LATE = OutputTag("late", Late)


@pytest.fixture(params=[1, 3])
def env(request):
    return StreamEnvironment(parallelism=request.param, batch_size=5)


class Split(ProcessFunction):
    def process(self, record, ctx):
        if record % 2:
            ctx.side_output(ODD, record)
        else:
            ctx.emit(record)
            ctx.emit(-record)


def test_main_and_side_output(env):
    split = env.from_values(range(20)).process(Split())
    both = split.map(lambda x: ("main", x)).union(split.side_output(ODD).map(lambda x: ("odd", x)))
    expected = [("main", s * x) for x in range(0, 20, 2) for s in (1, -1)] + [("odd", x) for x in range(1, 20, 2)]
    assert sorted(both.execute_and_collect()) == sorted(expected)


def test_a_side_output_that_nobody_reads_is_dropped(env):
    assert sorted(env.from_values(range(6)).process(Split()).execute_and_collect()) == [-4, -2, 0, 0, 2, 4]


def test_a_typed_side_output_can_be_used_as_columns(env):
    class Sift(ProcessFunction):
        def process(self, record, ctx):
            ctx.side_output(LATE, Late(*record))

    late = env.from_values(RECORDS).process(Sift(), tags=[LATE]).side_output(LATE)
    kept = late.filter_batch(lambda c: c["value"] > 60)
    assert sorted(kept.execute_and_collect(), key=repr) == [Late(k, v) for k, v in sorted(RECORDS) if v > 60]


class States(ProcessFunction):
    """Uses one of each kind of state."""

    def open(self, ctx):
        self.total = ctx.state(ValueState("total", 0))
        self.all = ctx.state(ListState("all"))
        self.parity = ctx.state(MapState("parity"))
        self.largest = ctx.state(ReducingState("largest", max))

    def process(self, record, ctx):
        key, value = record
        assert ctx.key == key
        self.total.set(self.total.get() + value)
        self.all.add(value)
        self.parity.put(value % 2, self.parity.get(value % 2, 0) + 1)
        self.largest.add(-value)
        if value >= 63:  # the last record of each key
            ctx.emit((key, self.total.get(), self.all.get(), sorted(self.parity.items()), self.largest.get()))


def test_each_kind_of_state_is_kept_per_key(env):
    by_key = defaultdict(list)
    for key, value in RECORDS:
        by_key[key].append(value)
    expected = [
        (key, sum(values), values, sorted(Counter(v % 2 for v in values).items()), max(-v for v in values))
        for key, values in by_key.items()
    ]
    results = env.from_values(RECORDS).key_by(lambda r: r[0]).process(States()).execute_and_collect()
    assert sorted(results) == sorted(expected)


class AtEnd(ProcessFunction):
    """Sums per key, and emits the sum when the key's timer fires."""

    def open(self, ctx):
        self.total = ctx.state(ValueState("total", 0))

    def process(self, record, ctx):
        self.total.set(self.total.get() + record[1])
        ctx.register_timer(4_000_000_000_000)
        ctx.register_timer(4_000_000_000_000)
        ctx.register_timer(4_000_000_000_001)
        ctx.cancel_timer(4_000_000_000_001)

    def on_timer(self, time_ms, ctx):
        ctx.emit((time_ms, ctx.key, self.total.get()))


def test_a_timer_fires_once_a_key_at_the_latest_at_the_end_of_input(env):
    expected = Counter()
    for key, value in RECORDS:
        expected[key] += value
    results = env.from_values(RECORDS).key_by(lambda r: r[0]).process(AtEnd()).execute_and_collect()
    assert sorted(results) == sorted((4_000_000_000_000, k, total) for k, total in expected.items())


def test_a_timer_in_the_past_fires_and_may_send_to_a_side_output(env):
    class Echo(ProcessFunction):
        def process(self, record, ctx):
            ctx.register_timer(1)

        def on_timer(self, time_ms, ctx):
            ctx.side_output(ODD, (time_ms, ctx.key))

    keyed = env.from_values([("a", 1), ("b", 2)]).key_by(lambda r: r[0]).process(Echo())
    assert sorted(keyed.side_output(ODD).execute_and_collect()) == [(1, "a"), (1, "b")]


def test_open_finish_and_close_are_called_once_a_subtask():
    calls = []

    class Calls(ProcessFunction):
        def __deepcopy__(self, memo):
            return Calls()

        def open(self, ctx):
            calls.append(("open", ctx.subtask, ctx.parallelism))

        def process(self, record, ctx):
            ctx.emit(record)

        def finish(self, ctx):
            calls.append(("finish",))
            ctx.emit("last")

        def close(self):
            calls.append(("close",))

    stream = StreamEnvironment(parallelism=2).from_values([1, 2, 3]).rebalance().process(Calls())
    results = stream.execute_and_collect()
    assert sorted(results, key=str) == [1, 2, 3, "last", "last"]
    assert Counter(calls) == {("open", 0, 2): 1, ("open", 1, 2): 1, ("finish",): 2, ("close",): 2}


def test_every_subtask_has_its_own_copy_of_the_function():
    class Count(ProcessFunction):
        seen = 0

        def process(self, record, ctx):
            self.seen += 1

        def finish(self, ctx):
            ctx.emit(self.seen)

    function = Count()
    results = StreamEnvironment(parallelism=4, batch_size=4).from_values(range(40)).rebalance().process(function)
    assert sum(results.execute_and_collect()) == 40
    assert function.seen == 0


class Totals(BatchFunction):
    """A running total per key, with columnar state."""

    def open(self, ctx):
        self.table = ctx.state(
            ColumnarState("totals", Schema.of(total=float), lambda keys: {"total": np.full(len(keys), 0.5)})
        )

    def process(self, columns, ctx):
        slots = self.table.slots(columns["key"])
        totals = self.table["total"]
        out = np.empty(len(columns))
        for i, slot in enumerate(slots):
            totals[slot] += columns["value"][i]
            out[i] = totals[slot]
        ctx.emit_batch(columns.with_columns(value=out))
        ctx.side_output_batch(ODD, columns.filter(columns["value"] % 2 == 1))


@pytest.mark.parametrize("key_type", [str, int])
def test_a_batch_function_with_columnar_state(env, key_type):
    schema = Schema.of(key=key_type, value=float)
    pair = namedtuple("pair", "key value")
    rows = [pair(key if key_type is str else int(key[1:]) - 3, float(value)) for key, value in RECORDS]
    totals, expected = defaultdict(lambda: 0.5), []
    for key, value in rows:
        totals[key] += value
        expected.append((key, totals[key]))
    run = env.from_values(rows, schema).key_by("key").process(Totals(), returns=schema)
    sides = run.side_output(ODD)
    both = run.map(lambda r: ("main", *r)).union(sides.map(lambda r: ("odd", *r)))
    results = both.execute_and_collect()
    assert sorted(r[1:] for r in results if r[0] == "main") == sorted(expected)
    assert sorted(r[1:] for r in results if r[0] == "odd") == sorted(r for r in rows if r[1] % 2 == 1)


def test_results_of_a_typed_batch_function_are_of_its_class(env):
    class ToLate(BatchFunction):
        def process(self, columns, ctx):
            ctx.emit_batch(Columns.of(key=columns["key"], value=columns["value"].astype(np.int64)))

    schema = Schema.of(key=str, value=float)
    stream = env.from_values([("a", 1.0)], schema).process(ToLate(), returns=Late)
    assert stream.execute_and_collect() == [Late("a", 1)]
