"""map, filter, scan and reduce compiled and interpreted, through whole topologies."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

from streamcore import Schema, StreamEnvironment
from streamcore.api import compiled as decisions
from streamcore.batch import Columns
from streamcore.errors import TopologyError, UserFunctionError
from streamcore.kernels.functions.build import compile_scan
from streamcore.runtime.operators.compiled import MapColumns
from streamcore.runtime.operators.stateless import Map
from streamcore.runtime.spec import Form


class Reading(NamedTuple):
    sensor: int
    time: int
    value: float


class Named(NamedTuple):
    sensor: str
    time: int
    value: float


class Ewma(NamedTuple):
    mean: float
    n: int


class Alert(NamedTuple):
    sensor: int
    time: int
    value: float
    mean: float
    alert: bool


class NamedAlert(NamedTuple):
    sensor: str
    time: int
    value: float
    mean: float
    alert: bool


@dataclass(frozen=True)
class FrozenReading:
    sensor: int
    time: int
    value: float


@dataclass(frozen=True)
class FrozenEwma:
    mean: float
    n: int


@dataclass(frozen=True)
class FrozenAlert:
    sensor: int
    time: int
    value: float
    mean: float
    alert: bool


def step(state, r):
    mean = r.value if state.n == 0 else 0.9 * state.mean + 0.1 * r.value
    return Ewma(mean, state.n + 1), Alert(r.sensor, r.time, r.value, mean, abs(r.value - mean) > 3.0)


def named_step(state, r):
    mean = r.value if state.n == 0 else 0.9 * state.mean + 0.1 * r.value
    return Ewma(mean, state.n + 1), NamedAlert(r.sensor, r.time, r.value, mean, abs(r.value - mean) > 3.0)


def frozen_step(state, r):
    mean = r.value if state.n == 0 else 0.9 * state.mean + 0.1 * r.value
    return FrozenEwma(mean, state.n + 1), FrozenAlert(r.sensor, r.time, r.value, mean, abs(r.value - mean) > 3.0)


CASES = {
    "ints": (Reading, Ewma, Alert, step, int),
    "strings": (Named, Ewma, NamedAlert, named_step, "s{}".format),
    "dataclasses": (FrozenReading, FrozenEwma, FrozenAlert, frozen_step, int),
}


def readings(cls, name, count=500):
    return [cls(name(i * 7 % 11), i, float(i * i % 37) / 3) for i in range(count)]


def by_time(records):
    return sorted(records, key=lambda record: record.time)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("workers", "parallelism", "batch_size"), [(1, 1, 8192), (1, 3, 16), (2, 2, 64)])
def test_ewma_with_alert(case, workers, parallelism, batch_size):
    cls, state, alert, function, name = CASES[case]
    rows = readings(cls, name)
    env = StreamEnvironment(workers=workers, parallelism=parallelism, batch_size=batch_size)
    stream = env.from_values(rows, cls).key_by("sensor").scan(state(0.0, 0), function, returns=alert, compiled=True)
    states, wanted = {}, []
    for row in rows:
        states[row.sensor], result = function(states.get(row.sensor, state(0.0, 0)), row)
        wanted.append(result)
    assert by_time(stream.execute_and_collect()) == wanted


@pytest.mark.parametrize("emit", ["each", "final"])
@pytest.mark.parametrize("case", ["ints", "strings"])
@pytest.mark.parametrize("key", ["sensor", ("sensor",), ("sensor", "time")])
def test_reduce(case, emit, key):
    cls, _, _, _, name = CASES[case]
    rows = [cls(row[0], row[1] % 3, row[2]) for row in readings(cls, name)]

    def add(a, b):
        return a._replace(time=max(a.time, b.time), value=a.value + b.value)

    found = {}
    for compiled in (True, False):
        env = StreamEnvironment(parallelism=2, batch_size=32)
        stream = env.from_values(rows, cls).key_by(key).reduce(add, emit=emit, compiled=compiled)
        found[compiled] = sorted(stream.execute_and_collect())
    assert found[True] == found[False]
    if emit == "final" and key == "sensor":
        totals = {row.sensor: 0.0 for row in rows}
        for row in rows:
            totals[row.sensor] += row.value
        assert {row.sensor: row.value for row in found[True]} == totals


def test_a_folded_value_that_outgrows_its_column_is_an_error():
    schema = Schema.of(k=int, n=np.int8)
    rows = [(0, 100), (0, 100)]
    stream = StreamEnvironment().from_values(rows, schema).key_by("k")
    folded = stream.reduce(lambda a, b: a._replace(n=a.n + b.n), emit="final", compiled=True)
    with pytest.raises(Exception, match="field 'n' is 200, not int8"):
        folded.execute_and_collect()


def test_map_and_filter_and_what_follows():
    rows = readings(Reading, int)
    stream = (
        StreamEnvironment(batch_size=50)
        .from_values(rows, Reading)
        .map(lambda r: Reading(r.sensor, r.time, r.value * 1.8 + 32), returns=Reading, compiled=True)
        .filter(lambda r: r.value > 40, compiled=True)
        .filter_batch(lambda c: c["sensor"] < 9)
        .map(lambda r: f"{r.sensor}: {r.value:.2f}")
    )
    warm = [(r.sensor, r.value * 1.8 + 32) for r in rows]
    assert sorted(stream.execute_and_collect()) == sorted(f"{s}: {v:.2f}" for s, v in warm if v > 40 and s < 9)


def test_keys_from_a_function():
    rows = readings(Reading, int)
    stream = StreamEnvironment(parallelism=2).from_values(rows, Reading).key_by(lambda r: r.sensor % 3)
    counted = stream.scan(0, lambda n, r: (n + 1, (r.sensor % 3, n)), returns=Schema.of(k=int, n=int), compiled=True)
    seen = {k: itertools.count() for k in range(3)}
    assert sorted(map(tuple, counted.execute_and_collect())) == sorted(
        (r.sensor % 3, next(seen[r.sensor % 3])) for r in rows
    )


def test_the_operator_takes_columns_only_where_it_is_compiled():
    stream = StreamEnvironment().from_values(readings(Reading, int), Reading)
    compiled = stream.map(lambda r: r, returns=Reading)
    interpreted = stream.map(lambda r: r, returns=Reading, compiled=False)
    assert (compiled._node.forms, type(compiled._node.make())) == ((Form.COLUMNS,), MapColumns)
    assert (interpreted._node.forms, type(interpreted._node.make())) == ((Form.ROWS,), Map)


def shout(record):
    return Reading(record.sensor, record.time, float(str(record.value)))


def test_one_notice_for_a_function_that_is_interpreted(caplog, monkeypatch):
    monkeypatch.setattr(decisions, "_noticed", set())
    caplog.set_level(logging.WARNING, "streamcore.compile")
    rows = readings(Reading, int, 10)
    for _ in range(2):
        stream = StreamEnvironment().from_values(rows, Reading).map(shout, returns=Reading)
        assert by_time(stream.execute_and_collect()) == rows
    (notice,) = [record.getMessage() for record in caplog.records]
    line = shout.__code__.co_firstlineno
    assert notice.startswith(f"map: shout (test_dsl_compiled.py:{line}) can't be compiled: calls str()")
    assert f"(line {line + 1})" in notice
    assert "interpreted" in notice


@pytest.mark.parametrize("compiled", [None, False])
def test_no_notice_without_types_or_where_it_is_asked_for(caplog, monkeypatch, compiled):
    monkeypatch.setattr(decisions, "_noticed", set())
    caplog.set_level(logging.WARNING, "streamcore.compile")
    rows = readings(Reading, int, 3)
    StreamEnvironment().from_values(rows).map(shout, returns=Reading, compiled=compiled)
    StreamEnvironment().from_values(rows, Reading).map(lambda r: str(r.value), compiled=compiled)
    StreamEnvironment().from_values(rows, Reading).map(shout, returns=Reading, compiled=False)
    assert not caplog.records


def test_compiled_true_is_an_error_where_it_cant_be():
    stream = StreamEnvironment().from_values(readings(Reading, int, 3), Reading)
    line = shout.__code__.co_firstlineno
    with pytest.raises(TopologyError) as caught:
        stream.map(shout, returns=Reading, compiled=True)
    for part in (
        "map (test_dsl_compiled.py:",
        f"shout (test_dsl_compiled.py:{line})",
        "calls str()",
        f"line {line + 1}",
    ):
        assert part in caught.value.message
    with pytest.raises(TopologyError, match="result has no type"):
        stream.map(shout, compiled=True)
    with pytest.raises(TopologyError, match="stream has no type"):
        StreamEnvironment().from_values([1]).filter(lambda r: r > 0, compiled=True)


@pytest.mark.parametrize("method", ["map", "filter", "scan", "reduce"])
def test_the_user_s_exception_names_the_record_and_the_line(method):
    rows = readings(Reading, int, 300)
    stream = StreamEnvironment().from_values(rows, Reading)

    def divide(r):
        return Reading(r.sensor, r.time, 1.0 / (r.time - 123))

    if method == "map":
        failing = stream.map(divide, returns=Reading, compiled=True)
    elif method == "filter":
        failing = stream.filter(lambda r: divide(r).value, compiled=True)
    elif method == "scan":
        failing = stream.key_by("sensor").scan(0, lambda s, r: (s, divide(r)), returns=Reading, compiled=True)
    else:
        failing = stream.key_by("sensor").reduce(lambda a, b: divide(b), compiled=True)
    with pytest.raises(UserFunctionError) as caught:
        failing.execute_and_collect()
    assert f"operator {method!r} (test_dsl_compiled.py:" in caught.value.message
    assert "ZeroDivisionError" in caught.value.message
    assert f"on record {rows[123]!r}" in caught.value.message
    assert "1.0 / (r.time - 123)" in caught.value.traceback_text
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_exceptions_that_the_user_raises_keep_their_message():
    def check(r):
        if r.time == 7:
            raise ValueError(f"no reading at {r.time}")
        return True

    with pytest.raises(UserFunctionError, match="ValueError: no reading at 7"):
        StreamEnvironment().from_values(readings(Reading, int), Reading).filter(
            check, compiled=True
        ).execute_and_collect()


def test_two_subtasks_do_not_share_what_a_loop_remembers():
    schema = Schema.of(k=int)
    program = compile_scan(lambda s, r: (s + 1, (s,)), 0, schema, schema)
    from streamcore.kernels.functions.run import KeyedLoop

    loops = [KeyedLoop(program), KeyedLoop(program)]
    batch = Columns(schema, {"k": np.zeros(3, np.int64)})
    for loop in loops:
        found = loop.run(np.zeros(3, np.int64), {"value": np.zeros(1, np.int64)}, batch)
        assert found["k"].tolist() == [0, 1, 2]
