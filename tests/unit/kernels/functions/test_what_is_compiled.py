"""What compiled functions may do, what is refused and why, and records on which compiled code gives up."""

from __future__ import annotations

import cmath
import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from streamcore.batch import Columns, Schema, Vector, schema_of
from streamcore.errors import BadRecordError
from streamcore.kernels.functions.build import (
    compile_filter,
    compile_fold,
    compile_map,
    compile_merge,
    compile_reduce,
    compile_result,
    compile_scan,
)
from streamcore.kernels.functions.loops import SEEN
from streamcore.kernels.functions.refusal import NotCompilableError
from streamcore.kernels.functions.run import FilterLoop, KeyedLoop, MapLoop


class Reading(NamedTuple):
    sensor: str
    n: int
    value: float


class Sum(NamedTuple):
    total: float
    count: int


@dataclass(frozen=True)
class Frozen:
    n: int
    value: float = 2.5

    def doubled(self):
        return self.n * 2


@dataclass
class Careful:
    n: int

    def __post_init__(self):
        self.n = abs(self.n)


class Packed(msgspec.Struct):
    n: int
    value: float


READING = schema_of(Reading)
READINGS = [Reading("a", 1, 0.5), Reading("b", 2, -1.5), Reading("a", 2**53 + 1, 7.25)]
FACTOR = 3
WORDS = {"a": 1}


def columns(rows, schema=READING):
    parts = list(zip(*rows, strict=True))
    arrays = {
        f.name: pa.array(part, f.type) if f.dtype is None else np.array(part, f.dtype)
        for f, part in zip(schema.fields, parts, strict=True)
    }
    return Columns(schema, arrays)


def scaled(record):
    return helper(record.value) * FACTOR


def helper(value, shift=1.0):
    return value + shift


def one_or_other(record):
    return 1 if record.n > 2 else record.value


def unset(record):
    if record.n > 5:
        x = 3
    return x > 2


def recursive(record):
    return recursive(record)


def tolerant(record):
    try:
        return 1 / record.n > 3
    except ZeroDivisionError:
        return False


def changing(record):
    global FACTOR  # noqa: PLW0603 - what is to be refused
    FACTOR = record.n
    return True


def refused(function, schema=READING):
    with pytest.raises(NotCompilableError) as caught:
        compile_filter(function, schema)
    return caught.value


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda r: r.sensor == "a", "string"),
        (lambda r: r.sensor < r.sensor, "`<` on column 'sensor'"),
        (lambda r: r.value and [1], "list"),
        (lambda r: r.n in (1, 2), "`in`"),
        (lambda r: print(r.n), "print()"),
        (lambda r: round(r.value, 2), "round() with 2 arguments"),
        (lambda r: r.sensor.upper(), "method 'upper'"),
        (lambda r: WORDS, "dict"),
        (lambda r: np.sqrt(r.value), "sqrt"),
        (lambda r: cmath.sqrt(r.value), "sqrt"),
        (lambda r: r.n > 1180591620717411303424, "64 bits"),
        (lambda r: max(x for x in (r.n, 2)), "function"),
        (lambda r: r.missing, "missing"),
        (lambda r: max(r.n, r.value), "different types"),
        (lambda r: Careful(r.n).n > 0, "Careful has code of its own"),
        (one_or_other, "int on one path and float on another"),
        (unset, "'x' may be unset"),
        (recursive, "calls itself"),
        (tolerant, ""),
        (changing, ""),
        (functools.partial(helper, 1.0), "partial"),
        (abs, "builtin"),
        (lambda *r: True, "any number of arguments"),
        (lambda r: (yield r.n), "generator"),
        (lambda r, other: True, "called with (record)"),
        (lambda r: r, "truth"),
        (lambda r: r.n + r, "record"),
        (lambda r: None, "on None"),
    ],
)
def test_refused_with_a_reason(function, reason):
    assert reason in refused(function).reason


def test_the_line_of_what_is_refused_is_known():
    assert refused(one_or_other).line == one_or_other.__code__.co_firstlineno + 1


@pytest.mark.parametrize("cls", [Frozen, Packed])
def test_a_class_that_is_no_tuple_is_not_used_as_one(cls):
    assert refused(lambda r: r[0] > 1, schema_of(cls)).reason == f"takes a {cls.__name__} as a tuple"


def test_a_class_that_runs_code_of_its_own_is_refused():
    assert "Careful has code" in refused(lambda r: r.n > 1, schema_of(Careful)).reason


@pytest.mark.parametrize(
    "function",
    [
        lambda r: scaled(r) > 1.0,
        lambda r: helper(r.value, shift=-1.0),
        lambda r: Frozen(value=r.value, n=r.n).n > 1,
        lambda r: Frozen(r.n).value > r.value,
        lambda r: dataclasses.replace(Frozen(r.n), value=r.value).value,
        lambda r: r._replace(n=5).n == r.n,
        lambda r: r[1] > 1,
        lambda r: math.sqrt(abs(r.value)) > 1 and not r.n < 2,
        lambda r: sum_to(r.n & 7) > 2,
        lambda r: pair(r)[1] > pair(r)[0],
        lambda r: min(r.n, 5, 3) == 3,
    ],
)
def test_compiled_and_equal(function):
    batch = columns(READINGS)
    assert FilterLoop(compile_filter(function, READING)).run(batch).to_rows() == list(filter(function, READINGS))


def sum_to(n):
    total = 0
    for k in range(n):
        if k == 5:
            continue
        total += k
    while total > 10:
        total -= 3
    return total


def pair(record):
    first, second = record.n, record.value
    return first * 1.0, second


@pytest.mark.parametrize("cls", [Frozen, Packed])
def test_records_of_dataclasses_and_structs(cls):
    schema = schema_of(cls)
    loop = MapLoop(compile_map(lambda r: cls(n=r.n + 1, value=r.value / 2), schema, schema))
    rows = loop.run(columns([(1, 1.0), (2, 3.0)], schema)).to_rows()
    assert rows == [cls(2, 0.5), cls(3, 1.5)]


def test_columns_that_are_no_numbers_are_handed_on_without_a_copy():
    schema = Schema.of(word=str, vector=Vector(2), maybe=int | None, n=int)
    batch = Columns(
        schema,
        {"word": pa.array(["x", "y"]), "vector": np.ones((2, 2)), "maybe": pa.array([None, 4]), "n": np.array([1, 2])},
    )
    out = Schema.of(n=np.int8, twin=str, word=str, vector=Vector(2), maybe=int | None)
    result = MapLoop(compile_map(lambda r: (r.n, r.word, r.word, r.vector, r.maybe), schema, out)).run(batch)
    assert result["n"].tolist() == [1, 2]
    assert result["n"].dtype == np.int8
    for name in ("twin", "word", "vector", "maybe"):
        assert result[name] is batch["word" if name == "twin" else name]


@pytest.mark.parametrize(
    ("out", "function"),
    [
        (Schema.of(a=int), lambda r: (r.sensor,)),
        (Schema.of(a=str), lambda r: (r.n,)),
        (Schema.of(a=bool), lambda r: (r.n,)),
        (Schema.of(a=int), lambda r: (r.n > 1,)),
        (Schema.of(a=int), lambda r: r.n),
        (Schema.of(a=int, b=int), lambda r: (r.n,)),
        (Schema.of(other=int, m=int), lambda r: Frozen(r.n)),
    ],
)
def test_results_of_another_type_are_refused(out, function):
    with pytest.raises(NotCompilableError):
        compile_map(function, READING, out)


def test_numbers_too_large_are_left_to_python():
    schema = Schema.of(n=np.uint64, m=int)
    loop = MapLoop(compile_map(lambda r: (r.n % 1000, r.m * r.m // r.m), schema, schema))
    rows = loop.run(columns([(2**64 - 1, 2**40), (5, 2**62)], schema)).to_rows()
    assert [tuple(row) for row in rows] == [((2**64 - 1) % 1000, 2**40), (5, 2**62)]


def test_a_result_that_fits_no_column_names_the_record():
    schema = Schema.of(n=np.int8)
    loop = MapLoop(compile_map(lambda r: (r.n + 100,), schema, schema))
    with pytest.raises(BadRecordError, match="field 'n' is 200, not int8"):
        loop.run(columns([(1,), (100,)], schema))


def test_a_batch_that_is_not_as_its_schema_says_is_interpreted():
    schema = Schema.of(n=int)
    loop = MapLoop(compile_map(lambda r: (r.n + 1,), schema, schema))
    assert loop.run(Columns(schema, {"n": np.array([1, 2], np.int32)}))["n"].tolist() == [2, 3]
    assert loop.run(Columns(schema, {"n": np.arange(10)[::2]}))["n"].tolist() == [1, 3, 5, 7, 9]


def test_every_record_given_up_still_comes_out_in_order():
    schema = Schema.of(n=int)
    rows = [(2**62 + i if i % 3 else i,) for i in range(1000)]
    function = lambda r: ((r.n * 4) % 1001,)  # noqa: E731
    loop = MapLoop(compile_map(function, schema, schema))
    assert loop.run(columns(rows, schema))["n"].tolist() == [n * 4 % 1001 for (n,) in rows]
    loop = KeyedLoop(compile_scan(lambda s, r: (s + r.n % 7, (r.n * 4 % 1001 + s,)), 0, schema, schema))
    found = loop.run(np.zeros(1000, np.int64), {"value": np.zeros(1, np.int64)}, columns(rows, schema))
    total, wanted = 0, []
    for (n,) in rows:
        wanted.append(n * 4 % 1001 + total)
        total += n % 7
    assert found["n"].tolist() == wanted


@pytest.mark.parametrize(
    ("initial", "function", "reason"),
    [
        (Sum(0.0, 0), lambda s, r: (Sum(0, s.count), r), "total int, the old one float"),
        (Sum(0, 0), lambda s, r: (s, r), "total is 0 (int), not float"),
        (0, lambda s, r: (s + r.value, r), "the new state is float"),
        ([], lambda s, r: (s, r), "a state of type list"),
        (("a",), lambda s, r: (s, r), "item_0 of the state"),
        (2**70, lambda s, r: (s, r), "64 bits"),
        (0, lambda s, r: s, "no pair"),
        (0, lambda s, r: ((s, s), r), "the new state is a tuple"),
    ],
)
def test_states_that_would_change_their_type_are_refused(initial, function, reason):
    with pytest.raises(NotCompilableError) as caught:
        compile_scan(function, initial, READING, READING)
    assert reason in caught.value.reason


@pytest.mark.parametrize("initial", [(0.0, 0), Sum(0.0, 0), Frozen(0, 0.0)])
def test_states_are_numbers_tuples_or_records(initial):
    out = Schema.of(a=float)

    def step(state, record):
        if type(initial) is tuple:
            return (state[0] + record.value, state[1] + 1), (state[0],)
        return state, (record.value,)

    function = (lambda s, r: ((s[0] + r.value, s[1] + 1), (s[0],))) if type(initial) is tuple else None
    function = function or (lambda s, r: (s, (r.value,)))
    program = compile_scan(function, initial, READING, out)
    arrays = dict(zip(program.state.names, ([v] * 1 for v in program.state.values(initial)), strict=True))
    arrays = {name: np.array(value) for name, value in arrays.items()}
    state, wanted = initial, []
    for record in READINGS:
        state, (result,) = step(state, record)
        wanted.append(result)
    found = KeyedLoop(program).run(np.zeros(3, np.int64), arrays, columns(READINGS))
    assert found["a"].tolist() == wanted
    assert tuple(array[0].item() for array in arrays.values()) == program.state.values(state)


def test_a_state_that_outgrows_its_array_is_an_error_that_says_so():
    program = compile_scan(lambda s, r: (s * 2**40, (s,)), 1, READING, Schema.of(a=float))
    with pytest.raises(BadRecordError, match="doesn't fit 64 bits") as caught:
        KeyedLoop(program).run(np.zeros(3, np.int64), {"value": np.ones(1, np.int64)}, columns(READINGS))
    assert "compiled=False" in caught.value.hint


def test_reduce_takes_text_of_the_key_from_the_record():
    def times(a, b):
        return Reading(a.sensor, a.n * b.n, b.value / a.value)

    program = compile_reduce(times, READING, ("sensor",), with_results=True)
    arrays = {"n": np.zeros(2, np.int64), "value": np.zeros(2), SEEN: np.zeros(2, bool)}
    rows = [Reading("a", 2**40, 1.0), Reading("b", 3, 2.0), Reading("a", -(2**23), 3.0), Reading("b", 5, 1.0)]
    found = KeyedLoop(program).run(np.array([0, 1, 0, 1]), arrays, columns(rows))
    assert found.to_rows() == [rows[0], rows[1], Reading("a", -(2**63), 3.0), Reading("b", 15, 0.5)]
    with pytest.raises(NotCompilableError, match="'sensor'"):
        compile_reduce(lambda a, b: b, READING, ("n",), with_results=True)


def test_fold_merge_and_result_share_a_state():
    initial = Sum(0.0, 0)
    fold = KeyedLoop(compile_fold(lambda s, r: Sum(s.total + r.value, s.count + 1), initial, READING))
    merge = KeyedLoop(compile_merge(lambda a, b: Sum(a.total + b.total, a.count + b.count), initial))
    result = MapLoop(compile_result(lambda s: (s.total / s.count,), initial, Schema.of(mean=float)))
    states = {"total": np.zeros(2), "count": np.zeros(2, np.int64)}
    assert fold.run(np.array([0, 1, 0]), states, columns(READINGS)) is None
    assert states["total"].tolist() == [7.75, -1.5]
    other = Columns(schema_of(Sum), {"total": np.array([1.0, 2.0]), "count": np.array([1, 2])})
    assert merge.run(np.array([0, 1]), states, other) is None
    assert list(zip(states["total"].tolist(), states["count"].tolist(), strict=True)) == [(8.75, 3), (0.5, 3)]
    assert result.run(Columns(schema_of(Sum), states))["mean"].tolist() == [8.75 / 3, 0.5 / 3]


def _with_gaps(array):
    wide = np.zeros((len(array), 2), array.dtype)
    wide[:, 0] = array
    return wide[:, 0]


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("view", [_with_gaps, _read_only])
def test_views_of_other_arrays_give_the_same_states(view):
    schema = Schema.of(n=int)
    loop = KeyedLoop(compile_fold(lambda total, record: (total * 3 + record.n) % 10007, 0, schema))
    slots, numbers = np.array([0, 1, 1, 0, 2] * 20), np.arange(100)

    def folded(slots, numbers, states):
        loop.run(slots, {"value": states}, Columns(schema, {"n": numbers}))
        return states.tolist()

    wanted = folded(slots, numbers, np.zeros(3, np.int64))
    assert folded(view(slots), numbers, np.zeros(3, np.int64)) == wanted
    assert folded(slots, view(numbers), np.zeros(3, np.int64)) == wanted
    assert folded(slots, numbers, _with_gaps(np.zeros(3, np.int64))) == wanted
