"""Compiled functions give what the interpreter gives, to the bit, or raise the same exception."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from generated_functions import RECORD, Result, State, columns_of, define, records, sources
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from streamcore.batch import Schema, schema_of, to_columns
from streamcore.errors import BadRecordError
from streamcore.kernels.functions.build import compile_filter, compile_map, compile_reduce, compile_scan
from streamcore.kernels.functions.loops import SEEN
from streamcore.kernels.functions.refusal import NotCompilableError
from streamcore.kernels.functions.run import FilterLoop, KeyedLoop, MapLoop

RESULT = schema_of(Result)
BATCHES = [1, 7, 100]
thorough = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


def bits(value):
    """A value so that equal ones are of one type and, for floats, of one bit pattern; all nan are one."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    return (type(value), value)


def exact(rows):
    return [tuple(map(bits, row)) for row in rows]


def outcome(run, *arguments):
    """What a call gives, or which exception it raises."""
    try:
        return exact(run(*arguments))
    except Exception as error:  # noqa: BLE001 - whatever a generated function raises
        return type(error)


def compiled(build, function, *arguments):
    """The program; an example whose constants Python itself folds to more than 64 bits, or to a complex number, is not
    one."""
    try:
        return build(function, *arguments)
    except NotCompilableError as refused:
        if "doesn't fit 64 bits" not in refused.reason and "complex" not in refused.reason:
            raise
        reject()


def same(found, wanted, batch):
    """Whether two outcomes are equal. Where several records of a batch are at fault the interpreter's row operators
    run the function on all of them before any result is converted, a compiled one on fewer."""
    return found == wanted or (len(batch) > 1 and isinstance(wanted, type) and found is BadRecordError)


@thorough
@given(source=sources("map"), rows=st.lists(records, min_size=1, max_size=40), size=st.sampled_from(BATCHES))
def test_map(source, rows, size):
    function = define(source)
    loop = MapLoop(compiled(compile_map, function, RECORD, RESULT))
    whole = columns_of(rows, RECORD)
    for start in range(0, len(rows), size):
        batch = whole.slice(start, min(start + size, len(rows)))
        wanted = outcome(lambda b: to_columns(list(map(function, b.to_rows())), RESULT).to_rows(), batch)
        assert same(outcome(lambda b: loop.run(b).to_rows(), batch), wanted, batch), source


@thorough
@given(source=sources("filter"), rows=st.lists(records, min_size=1, max_size=40), size=st.sampled_from(BATCHES))
def test_filter(source, rows, size):
    function = define(source)
    loop = FilterLoop(compiled(compile_filter, function, RECORD))
    whole = columns_of(rows, RECORD)
    for start in range(0, len(rows), size):
        batch = whole.slice(start, min(start + size, len(rows)))
        wanted = outcome(lambda b: list(filter(function, b.to_rows())), batch)
        assert same(outcome(lambda b: loop.run(b).to_rows(), batch), wanted, batch), source


@thorough
@given(
    source=sources("scan"),
    rows=st.lists(st.tuples(st.integers(0, 3), records), min_size=1, max_size=40),
    size=st.sampled_from(BATCHES),
)
def test_scan(source, rows, size):
    function, initial = define(source), State(0.0, 0, False)
    loop = KeyedLoop(compiled(compile_scan, function, initial, RECORD, RESULT))
    arrays = {"total": np.zeros(4), "count": np.zeros(4, np.int64), "on": np.zeros(4, bool)}
    states = {}
    keys, whole = np.array([key for key, _ in rows]), columns_of([row for _, row in rows], RECORD)

    def interpreted(slots, batch):
        results = []
        for key, record in zip(slots.tolist(), batch.to_rows(), strict=True):
            new, result = function(states.get(key, initial), record)
            if not -(2**63) <= new.count < 2**63:
                raise BadRecordError("states are of 64 bits")
            states[key] = new
            results.append(result)
        return to_columns(results, RESULT).to_rows()

    for start in range(0, len(rows), size):
        part = slice(start, min(start + size, len(rows)))
        slots, batch = keys[part], whole.slice(part.start, part.stop)
        wanted = outcome(interpreted, slots, batch)
        found = outcome(lambda s, b: loop.run(s, arrays, b).to_rows(), slots, batch)
        assert same(found, wanted, batch), source
        if isinstance(wanted, type):
            return  # the job would have failed here
        for key, state in states.items():
            assert exact([[arrays[name][key].item() for name in State._fields]]) == exact([state]), source


PLAIN = Schema.of(key=np.int64, x=np.float64, n=np.int16, flag=bool)


@thorough
@given(
    which=st.sampled_from(
        [
            "r._replace(x=s.x + r.x, n=max(s.n, r.n))",
            "s if s.x > r.x else r",
            "s._replace(n=s.n + r.n, flag=s.flag ^ r.flag)",
            "r._replace(x=s.x / r.x)",
            "s._replace(x=s.x ** r.x, n=s.n * r.n)",
        ]
    ),
    rows=st.lists(
        st.tuples(
            st.integers(0, 3), st.one_of(st.floats(), st.sampled_from([0.0, 1.0, -2.0])), st.integers(-300, 300)
        ).map(lambda row: (*row, row[2] % 3 == 0)),
        min_size=1,
        max_size=60,
    ),
    size=st.sampled_from(BATCHES),
)
def test_reduce(which, rows, size):
    function = define(f"def f(s, r):\n    return {which}")
    loop = KeyedLoop(compile_reduce(function, PLAIN, ("key",), with_results=True))
    arrays = {"key": np.zeros(4, np.int64), "x": np.zeros(4), "n": np.zeros(4, np.int64), "flag": np.zeros(4, bool)}
    arrays[SEEN] = np.zeros(4, bool)
    states, whole = {}, columns_of(rows, PLAIN)

    def interpreted(batch):
        results = []
        for record in batch.to_rows():
            states[record.key] = new = function(states[record.key], record) if record.key in states else record
            if type(new.x) is not float:
                raise BadRecordError("a state keeps its type")
            results.append(new)
        return to_columns(results, PLAIN).to_rows()

    for start in range(0, len(rows), size):
        batch = whole.slice(start, min(start + size, len(rows)))
        wanted = outcome(interpreted, batch)
        assert same(outcome(lambda b: loop.run(b["key"], arrays, b).to_rows(), batch), wanted, batch), which
        if isinstance(wanted, type):
            return


@pytest.mark.parametrize("rows", [[], [(0, 1.0, 2, True)]])
def test_empty_and_single_batches(rows):
    loop = MapLoop(compile_map(define("def f(r):\n    return r"), PLAIN, PLAIN))
    assert loop.run(columns_of(rows, PLAIN)).to_rows() == rows
