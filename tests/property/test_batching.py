"""Results never depend on how records were batched: small topologies, random data, every setting of the dial."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    count,
    max_of,
    sliding,
    sum_of,
)
from streamcore.connectors.iterable_source import IterableSource
from streamcore.time import milliseconds

DIALS = [(size, timeout) for size in (1, 2, 7, 8192) for timeout in (0.0, 0.005)]
SIDE = OutputTag("side")
NUMBERS = st.lists(st.integers(-30, 30), max_size=40)


@dataclass(frozen=True)
class Event:
    user: str
    kind: int
    value: float


EVENTS = st.lists(
    st.builds(Event, st.sampled_from(["a", "b", "c", ""]), st.integers(0, 3), st.integers(-9, 9).map(float)),
    max_size=40,
)


@dataclass(frozen=True)
class Reading:
    sensor: int
    time: int
    value: int


LATENESS_MS = 40
READINGS = st.lists(
    st.builds(Reading, st.integers(0, 3), st.integers(0, LATENESS_MS), st.integers(-9, 9)), max_size=40
).map(lambda readings: [Reading(r.sensor, 7 * i + r.time, r.value) for i, r in enumerate(readings)])
"""Out of order by less than LATENESS_MS, so that no record is late however watermarks fall between batches."""


class Flow(ProcessFunction):
    """State, a side output and something at the end."""

    def open(self, ctx):
        self.total = ctx.state(ValueState("total", 0))

    def process(self, record, ctx):
        self.total.set(self.total.get() + record)
        ctx.emit((ctx.key, self.total.get()))
        if record % 5 == 0:
            ctx.side_output(SIDE, ("side", record))
        ctx.register_timer(4_000_000_000_000)

    def on_timer(self, time_ms, ctx):
        ctx.emit(("end", ctx.key, self.total.get()))


class Totals(BatchFunction):
    def open(self, ctx):
        self.table = ctx.state(ColumnarState("t", Schema.of(total=float)))

    def process(self, columns, ctx):
        slots = self.table.slots(columns["user"])
        out, totals = np.empty(len(columns)), self.table["total"]
        for i, slot in enumerate(slots):
            totals[slot] += columns["value"][i]
            out[i] = totals[slot]
        ctx.emit_batch(columns.with_columns(value=out))


class Collatz(CoProcessFunction):
    """Sends each number round until it is 1, counting visits per number."""

    def open(self, ctx):
        self.seen = ctx.state(ValueState("seen", 0))

    def process_first(self, number, ctx):
        self.seen.set(self.seen.get() + 1)
        ctx.emit((number, self.seen.get()))
        if number > 1:
            ctx.side_output(SIDE, number // 2 if number % 2 == 0 else 3 * number + 1)

    process_second = process_first


def rows_topology(env, data):
    tripled = env.from_values(data).map(lambda x: x * 3).parallelism(1)  # what a key's records come in order by
    flow = tripled.filter(lambda x: x % 4).parallelism(1).key_by(lambda x: x % 7).process(Flow())
    return flow.union(flow.side_output(SIDE))


def rows_expected(data):
    totals, result = {}, Counter()
    for record in (x * 3 for x in data if x * 3 % 4):
        totals[record % 7] = totals.get(record % 7, 0) + record
        result[record % 7, totals[record % 7]] += 1
        if record % 5 == 0:
            result["side", record] += 1
    return result + Counter(("end", key, total) for key, total in totals.items())


def columns_topology(env, data):
    events = env.from_values(data, Event).filter_batch(lambda c: c["kind"] != 1).parallelism(1)
    totals = events.key_by("user").process(Totals(), returns=Event)
    counts = events.key_by(("user", "kind")).count()
    return totals.map(lambda e: ("total", e.user, e.value)).union(counts.map(lambda c: ("count", *c)))


def columns_expected(data):
    totals, counts, result = {}, Counter(), Counter()
    for event in data:
        if event.kind != 1:
            totals[event.user] = totals.get(event.user, 0.0) + event.value
            counts[event.user, event.kind] += 1
            result["total", event.user, totals[event.user]] += 1
            result["count", event.user, event.kind, counts[event.user, event.kind]] += 1
    return result


def joined_topology(env, data):
    left, right = env.from_values(data).rebalance().map(abs), env.from_values(data).rebalance().map(lambda x: x + 1)
    both = left.union(right).key_by(lambda x: x).count()
    return both.broadcast().map(str).name("all").rebalance().flat_map(lambda s: [s, s])


def joined_expected(parallelism):
    def expected(data):
        seen, result = Counter(), Counter()
        for record in [*map(abs, data), *(x + 1 for x in data)]:
            seen[record] += 1
            result[str((record, seen[record]))] += 2 * parallelism
        return result

    return expected


def loop_topology(env, data):
    numbers = env.from_values(data).map(lambda x: abs(x) + 1)
    with env.loop() as loop:
        visits = numbers.connect(loop.feedback).key_by(lambda n: n, lambda n: n).process(Collatz())
        loop.close(visits.side_output(SIDE))
    return visits


def loop_expected(data):
    seen, result = Counter(), Counter()
    for record in data:
        number = abs(record) + 1
        while True:
            seen[number] += 1
            result[number, seen[number]] += 1
            if number == 1:
                break
            number = number // 2 if number % 2 == 0 else 3 * number + 1
    return result


def typed_loop_topology(env, data):
    """Columns go round: values lose one each time, until they are negative."""
    events = env.from_values(data, Event)
    with env.loop(Event) as loop:
        body = events.union(loop.feedback).key_by("user").process(Totals(), returns=Event)
        less = events.union(loop.feedback).filter_batch(lambda c: c["value"] >= 0)
        loop.close(less.map_batch(lambda c: c.with_columns(value=c["value"] - 1)))
    return body.key_by("user").count(emit="final").map(tuple)


def typed_loop_expected(data):
    visits = Counter()
    for event in data:
        visits[event.user] += 1 + max(0, int(event.value) + 1)
    return Counter(visits.items())


def scan_topology(env, data):
    tripled = env.from_values(data).map(lambda x: x * 3).parallelism(1)
    return tripled.filter(lambda x: x % 2 == 0).parallelism(1).key_by(lambda x: x % 5).scan((0, 0), running)


def running(state, x):
    seen, total = state
    return (seen + 1, 2 * total + x), (x % 5, seen + 1, 2 * total + x)


def scan_expected(data):
    states, result = {}, Counter()
    for x in (x * 3 for x in data if x * 3 % 2 == 0):
        states[x % 5], out = running(states.get(x % 5, (0, 0)), x)
        result[out] += 1
    return result


def window_topology(env, data):
    watermarks = bounded_out_of_orderness("time", milliseconds(LATENESS_MS))
    readings = env.source(IterableSource(data, Reading), watermarks=watermarks)
    windows = readings.key_by("sensor").window(sliding(milliseconds(50), every=milliseconds(20)))
    results = windows.aggregate(n=count(), total=sum_of("value"), highest=max_of("value"))
    return results.map(tuple_of_window)


def tuple_of_window(w):
    return w.sensor, w.window_start, w.window_end, w.n, w.total, w.highest


def assigned_topology(env, data):
    readings = env.from_values(data, Reading).assign_watermarks(
        bounded_out_of_orderness("time", milliseconds(LATENESS_MS))
    )
    windows = readings.parallelism(1).key_by("sensor").window(sliding(milliseconds(50), every=milliseconds(20)))
    return windows.aggregate(n=count(), total=sum_of("value"), highest=max_of("value")).map(tuple_of_window)


def window_expected(data):
    members = {}
    for reading in data:
        for start in range(-60, reading.time + 1, 20):
            if start <= reading.time < start + 50:
                members.setdefault((reading.sensor, start, start + 50), []).append(reading.value)
    return Counter((*window, len(values), sum(values), max(values)) for window, values in members.items())


def check(build, expected, data, dial, parallelism):
    size, timeout = dial
    env = StreamEnvironment(parallelism=parallelism, batch_size=size, buffer_timeout=timeout)
    assert Counter(build(env, data).execute_and_collect()) == expected(data)


SHAPES = {
    "rows": (rows_topology, lambda p: rows_expected, NUMBERS),
    "columns": (columns_topology, lambda p: columns_expected, EVENTS),
    "scan": (scan_topology, lambda p: scan_expected, NUMBERS),
    "window": (window_topology, lambda p: window_expected, READINGS),
    "assigned watermarks": (assigned_topology, lambda p: window_expected, READINGS),
    "joined": (joined_topology, joined_expected, NUMBERS),
    "loop": (loop_topology, lambda p: loop_expected, st.lists(st.integers(0, 26), max_size=8)),
    "typed loop": (typed_loop_topology, lambda p: typed_loop_expected, EVENTS),
}


@pytest.mark.parametrize("parallelism", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
@given(data=st.data())
@settings(max_examples=16, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_results_do_not_depend_on_batching(shape, parallelism, data):
    build, expected, records = SHAPES[shape]
    check(build, expected(parallelism), data.draw(records), data.draw(st.sampled_from(DIALS)), parallelism)


@pytest.mark.parametrize("dial", DIALS, ids=lambda d: f"{d[0]}/{d[1]}")
@pytest.mark.parametrize("shape", ["rows", "loop", "typed loop"])
def test_the_same_data_at_every_setting(shape, dial):
    build, expected, _ = SHAPES[shape]
    data = (
        [Event("abc"[i % 3], i % 4, float(i % 6 - 2)) for i in range(60)] if shape == "typed loop" else list(range(27))
    )
    check(build, expected(3), data, dial, 3)
