"""Random functions of one record, as source text, and random records: for the equality of compiled and interpreted."""

from __future__ import annotations

import linecache
import math
from itertools import count
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from streamcore.batch import Columns, schema_of


class Record(NamedTuple):
    i: np.int64
    j: np.int64
    small: np.int16
    x: np.float64
    y: np.float64
    single: np.float32
    flag: np.bool_
    name: str


class Result(NamedTuple):
    n: np.int64
    m: np.int32
    value: np.float64
    other: np.float32
    ok: np.bool_
    name: str


class State(NamedTuple):
    total: float
    count: int
    on: bool


RECORD = schema_of(Record)
EDGES = [0, 1, -1, 2, 3, -7, 63, 64, 2**53, 2**53 + 1, -(2**53) - 1, 2**62, 2**63 - 1, -(2**63), -(2**63) + 1, 2**31]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -3.5, 1e300, -1e300, 5e-324, math.inf, -math.inf, math.nan, 2.0**53, 2.0**63]

ints = st.one_of(st.sampled_from(EDGES), st.integers(-20, 20), st.integers(-(2**63), 2**63 - 1))
floats = st.one_of(st.sampled_from(FLOATS), st.floats(-100, 100), st.floats())
records = st.tuples(
    *(ints, ints, st.integers(-(2**15), 2**15 - 1), floats, floats, st.floats(width=32), st.booleans()),
    st.sampled_from(["", "a", "ü"]),
)


def columns_of(rows, schema):
    """Records (tuples in the order of the fields) as columns."""
    import pyarrow as pa

    parts = list(zip(*rows, strict=True)) if rows else [[]] * len(schema.fields)
    return Columns(
        schema,
        {
            field.name: pa.array(part, field.type) if field.dtype is None else np.array(part, field.dtype)
            for field, part in zip(schema.fields, parts, strict=True)
        },
    )


def _operands(draw, depth, names):
    return draw(expressions("int", depth, names)), draw(expressions("float", depth, names))


LEAVES = {
    "int": ["r.i", "r.j", "r.small", "LIMIT", "0", "1", "-1", "3", "9007199254740993", "4611686018427387904"],
    "float": ["r.x", "r.y", "r.single", "RATE", "0.0", "-0.0", "1.5", "1e308", "math.pi", "math.inf"],
    "bool": ["r.flag", "True", "False"],
}
STATE_LEAVES = {"int": ["s.count"], "float": ["s.total"], "bool": ["s.on"]}
UNARY = {
    "int": ["-{i}", "+{i}", "~{i}", "abs({i})", "int({f})", "int({b})", "round({f})", "math.floor({f})", "+{b}"],
    "float": [
        *("-{f}", "abs({f})", "float({i})", "math.sqrt({f})", "math.exp({f})", "math.log({f})", "math.sin({f})"),
        *("math.cos({i})", "math.atan({f})", "math.log10({f})", "math.fabs({i})", "math.log1p({f})", "halve({f})"),
        *("math.tanh({f})", "math.degrees({f})", "math.ceil({f}) * 1.0", "float({b})", "math.log2({i})"),
    ],
    "bool": ["not {b}", "not {i}", "not {f}", "bool({f})", "math.isnan({f})", "math.isfinite({f})", "math.isinf({i})"],
}
BINARY = {
    "int": [
        *("{i} + {i2}", "{i} - {i2}", "{i} * {i2}", "{i} // {i2}", "{i} % {i2}", "{i} & {i2}", "{i} | {i2}"),
        *("{i} ^ {i2}", "{i} << ({i2} & 63)", "{i} >> ({i2} & 127)", "{i} ** ({i2} & 7)", "min({i}, {i2})"),
        *("max({i}, {i2}, 5)", "{i} + {b}", "{b} * {b2}", "clamp({i}, {i2})", "clamp(high={i}, value={i2})"),
        *("{i} << {small}", "{i} >> {small}", "{b} // {i}"),
    ],
    "float": [
        *("{f} + {f2}", "{f} - {f2}", "{f} * {f2}", "{f} / {f2}", "{f} // {f2}", "{f} % {f2}", "{i} / {i2}"),
        *("{f} ** 2", "{f} ** {f2}", "{f} ** 0.5", "{i} + {f}", "{f} - {i}", "{i} * {f}", "{i} / {f}", "{f} // {i}"),
        *("{i} % {f}", "min({f}, {f2})", "max({f}, {f2})", "math.copysign({f}, {f2})", "math.atan2({f}, {f2})"),
        *("math.fmod({f}, {i})", "{b} * {f}", "{f} ** {small}", "math.pow({f}, {f2})", "math.log({f}, {f2})"),
    ],
    "bool": [
        *("{i} < {i2}", "{i} <= {f}", "{f} > {i}", "{f} >= {f2}", "{i} == {i2}", "{f} == {i}", "{f} != {f2}"),
        *("{b} and {b2}", "{b} or {b2}", "{b} & {b2}", "{b} ^ {b2}", "{b} == {i}", "{b} < {f}", "{i} < {f} < {i2}"),
    ],
}


@st.composite
def expressions(draw, kind, depth, with_state):
    """The text of an expression of a kind."""
    leaves = LEAVES[kind] + (STATE_LEAVES[kind] if with_state else [])
    form = draw(st.sampled_from(["leaf", "unary", "binary", "binary", "choice"])) if depth else "leaf"
    if form == "leaf":
        return draw(st.sampled_from(leaves))
    if form == "choice":
        condition = draw(expressions("bool", depth - 1, with_state))
        first, second = (draw(expressions(kind, depth - 1, with_state)) for _ in range(2))
        return f"({first} if {condition} else {second})"
    text = draw(st.sampled_from(UNARY[kind] if form == "unary" else BINARY[kind]))
    kinds = {"i": "int", "i2": "int", "f": "float", "f2": "float", "b": "bool", "b2": "bool"}
    operands = {key: draw(expressions(of, depth - 1, with_state)) for key, of in kinds.items() if f"{{{key}}}" in text}
    return "(" + text.format(**operands, small=draw(st.integers(-2, 70))) + ")"


HELPERS = """
import math

LIMIT = 5
RATE = 0.9


def halve(value):
    return value / 2


def clamp(value, high=100):
    if value > high:
        return high
    return value


"""
_numbers = count()


def define(text, **names):
    """The function `f` of a source text, with its lines where tracebacks find them."""
    filename = f"<generated {next(_numbers)}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    scope = {"Result": Result, "State": State, "__name__": __name__, **names}
    exec(compile(HELPERS + text, filename, "exec"), scope)
    return scope["f"]


@st.composite
def bodies(draw, with_state):
    """Statements before the result: assignments, a branch with an exception, a loop."""
    lines = []
    if draw(st.booleans()):
        lines += ["    if r.small == 7:", "        raise KeyError('no ' + str(r.i))"]
    lines += [
        f"    a = {draw(expressions('int', 2, with_state))}",
        f"    b = {draw(expressions('float', 2, with_state))}",
    ]
    if draw(st.booleans()):
        step = draw(expressions("int", 1, with_state))
        lines += [f"    for k in range({draw(st.integers(0, 4))}):", f"        a += k * {step}", "        b *= 0.5"]
    return lines


@st.composite
def sources(draw, kind):
    """The text of a map, filter, scan or reduce function."""
    with_state = kind == "scan"
    text = [f"def f({'s, ' if with_state else ''}r):", *draw(bodies(with_state))]
    parts = {k: draw(expressions(k, 3, with_state)) for k in ("int", "float", "bool")}
    if kind == "filter":
        return "\n".join([*text, f"    return {draw(st.sampled_from([*parts.values(), 'a > 3 or b < 1']))}"])
    fields = [
        draw(st.sampled_from([parts["int"], "a", parts["float"]])),
        draw(st.sampled_from(["r.small", "a % 1000", parts["int"]])),
        draw(st.sampled_from([parts["float"], "b", parts["int"]])),
        draw(st.sampled_from([parts["float"], "r.single", "b"])),
        parts["bool"],
    ]
    result = draw(
        st.sampled_from(["Result({}, {}, {}, {}, {}, r.name)", "Result({}, {}, {}, other={}, ok={}, name=r.name)"])
    ).format(*fields)
    if kind == "scan":
        result = (
            f"State(s.total * 0.5 + b, s.count + {draw(st.sampled_from(['1', 'a', 'r.small']))}, not s.on), {result}"
        )
    return "\n".join([*text, f"    return {result}"])
