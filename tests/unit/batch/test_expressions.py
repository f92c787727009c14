"""Expressions give what polars gives for the same expressions, on every kind of column and on any cut into batches."""

from __future__ import annotations

import datetime
import math
import operator
import pickle

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore import Columns, Schema, col, lit, when
from streamcore.batch.dictionary import is_dictionary
from streamcore.batch.expressions import Expression
from streamcore.batch.projection import Predicate, Projection

SCHEMA = Schema.of(
    x=int, y=np.int16, f=float, good=bool, word=str, n=int | None, g=float | None, maybe=bool | None, note=str | None,
    at=datetime.datetime,
)  # fmt: skip
T0 = datetime.datetime.fromisoformat("2024-03-01T12:00:00")
VALUES = {
    "x": [3, -7, 0, 12, 5, 5],
    "y": [1, 2, 3, -4, 5, 6],
    "f": [0.5, -1.25, 2.5, 1e9, 3.5, -0.0],
    "good": [True, False, True, True, False, False],
    "word": ["Ab", "", "naïve", "ab", "日本語", "x ab y"],
    "n": [1, None, 3, None, -5, 0],
    "g": [None, 1.5, -2.5, 0.25, None, 7.0],
    "maybe": [True, None, False, True, None, False],
    "note": [None, "a", "", None, "ab", "b"],
    "at": [T0 + datetime.timedelta(hours=hour) for hour in range(6)],
}


def columns_of(values, *, encoded=False):
    arrays = {}
    for field in SCHEMA.fields:
        column = values[field.name]
        arrays[field.name] = pa.array(column, field.type) if field.dtype is None else np.array(column, field.dtype)
        if encoded and field.type == pa.string():
            arrays[field.name] = arrays[field.name].dictionary_encode()
    return Columns(SCHEMA, arrays)


def frame(values):
    return pl.DataFrame(values, schema_overrides={"y": pl.Int16, "at": pl.Datetime("us")})


def computed(expression, columns):
    """The values of an expression's column, which must have the type that was found before there was a record."""
    projection = Projection({"result": expression}, SCHEMA, keep=False)
    result = projection(columns)
    field = projection.schema.fields[0]
    array = result.encoded("result")
    assert len(array) == len(columns)
    if field.dtype is not None:
        assert array.dtype == field.dtype
        return array.tolist()
    assert (array.type.value_type if is_dictionary(array) else array.type) == field.type
    assert field.nullable or not array.null_count
    return result["result"].to_pylist()


def same(got, wanted):
    return all(
        type(a) is type(b) and (a == b or (isinstance(a, float) and (math.isclose(a, b) or (a != a and b != b))))
        for a, b in zip(got, wanted, strict=True)
    )


CASES = [  # one function for both libraries where they spell it the same, else one for each
    lambda c: c("x") * 1.8 + 32,
    lambda c: -c("x") - 2 * c("f"),
    lambda c: 100 - c("n"),
    lambda c: c("n") + c("g"),
    lambda c: c("x") / 2,
    lambda c: 1 / (c("x") * c("x") + 1),
    lambda c: c("x") // 4,
    lambda c: c("x") % 4,
    lambda c: 1000 // (c("n") * 2 + 1),
    lambda c: c("f") ** 2,
    lambda c: c("x") > c("n"),
    lambda c: c("f") >= 0.5,
    lambda c: c("word") == "ab",
    lambda c: c("note") != "a",
    lambda c: c("word") < c("note"),
    lambda c: c("at") >= T0 + datetime.timedelta(hours=2),
    lambda c: c("good") & c("maybe"),
    lambda c: c("maybe") | c("good"),
    lambda c: c("good") ^ c("maybe"),
    lambda c: ~c("maybe"),
    lambda c: c("good") == c("maybe"),
    lambda c: c("n").is_null(),
    lambda c: c("x").is_null(),
    lambda c: c("note").is_not_null(),
    lambda c: c("n").fill_null(9),
    lambda c: c("n").fill_null(c("x")),
    lambda c: c("note") + c("word"),
    lambda c: c("word") + "!",
    lambda c: "<" + c("note"),
    lambda c: c("x").abs(),
    lambda c: c("g").floor(),
    lambda c: c("f").ceil(),
    lambda c: c("x").sqrt(),
    lambda c: c("y").exp(),
    lambda c: c("f").clip(-1, 3),
    lambda c: (c("x") > 0) & (c("f") < 3) | c("good"),
    lambda c: c("at") - T0,
]
SPELT_OTHERWISE = [
    (col("g").round(0), pl.col("g").round(mode="half_to_even")),
    (col("x").round(), pl.col("x")),
    (col("x").between(0, 5), pl.col("x").is_between(0, 5)),
    (col("x").isin([5, 12]), pl.col("x").is_in([5, 12])),
    (col("n").isin([1, 3]), pl.col("n").is_in([1, 3])),
    (col("word").isin(["ab", ""]), pl.col("word").is_in(["ab", ""])),
    (col("note").isin(["ab", ""]), pl.col("note").is_in(["ab", ""])),
    (col("x").cast(float), pl.col("x").cast(pl.Float64)),
    (col("f").clip(-9, 9).cast(int), pl.col("f").clip(-9, 9).cast(pl.Int64)),
    (col("n").cast("int8"), pl.col("n").cast(pl.Int8)),
    (col("n").cast(str), pl.col("n").cast(pl.String)),
    (col("x").cast(str).cast(int), pl.col("x")),
    (col("y") + 1, pl.col("y") + 1),
    (col("word").str.lower(), pl.col("word").str.to_lowercase()),
    (col("note").str.upper(), pl.col("note").str.to_uppercase()),
    ((" " + col("word") + " ").str.strip(), pl.col("word")),
    (col("word").str.length(), pl.col("word").str.len_chars().cast(pl.Int32)),
    (col("note").str.length() + col("x"), pl.col("note").str.len_chars() + pl.col("x")),
    (col("word").str.contains("a"), pl.col("word").str.contains("a", literal=True)),
    (col("word").str.contains("^a.$", regex=True), pl.col("word").str.contains("^a.$")),
    (col("word").str.starts_with("a"), pl.col("word").str.starts_with("a")),
    (col("note").str.ends_with("b"), pl.col("note").str.ends_with("b")),
    (col("word").str.replace("ab", "_"), pl.col("word").str.replace_all("ab", "_", literal=True)),
    (col("word").str.slice(1, 3), pl.col("word").str.slice(1, 2)),
    (
        when(col("n") > 0).then(col("x")).otherwise(None),
        pl.when(pl.col("n") > 0).then(pl.col("x")).otherwise(None),
    ),
    (
        when(col("maybe")).then("yes").when(col("x") > 0).then(col("word")).otherwise(col("note")),
        pl.when(pl.col("maybe")).then(pl.lit("yes")).when(pl.col("x") > 0).then("word").otherwise("note"),
    ),
    (when(col("good")).then(col("f")).otherwise(0), pl.when("good").then("f").otherwise(0)),
    (lit(5), pl.lit(5)),
    (lit("k") + col("word"), pl.lit("k") + pl.col("word")),
    ((col("f").abs() + 1).log(), (pl.col("f").abs() + 1).log()),
]
PAIRS = [*((make(col), make(pl.col)) for make in CASES), *SPELT_OTHERWISE]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=[str(ours) for ours, _ in PAIRS])
def test_the_values_are_those_of_polars(ours, theirs):
    wanted = frame(VALUES).with_columns(result=theirs)["result"].to_list()
    for encoded in (False, True):
        columns = columns_of(VALUES, encoded=encoded)
        assert same(computed(ours, columns), wanted)
        assert same(computed(pickle.loads(pickle.dumps(ours)), columns), wanted)  # noqa: S301
        one_by_one = [value for i in range(6) for value in computed(ours, columns.slice(i, i + 1))]
        assert same(one_by_one, wanted)


OPERATORS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "<": operator.lt, "<=": operator.le, "==": operator.eq,
    "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "&": operator.and_, "|": operator.or_,
}  # fmt: skip
NUMBERS = st.sampled_from(["x", "n"])
BOOLEANS = st.sampled_from(["good", "maybe"])


def trees():
    """Functions that build one expression for either library; of numbers, and of booleans."""
    number = st.one_of(
        NUMBERS.map(lambda name: lambda p: p.col(name)), st.integers(-3, 3).map(lambda value: lambda p: p.lit(value))
    )
    boolean = BOOLEANS.map(lambda name: lambda p: p.col(name))
    for _ in range(3):
        ops = st.sampled_from(["+", "-", "*"])
        comparisons = st.sampled_from(["<", "<=", "==", "!=", ">", ">="])
        deeper = st.one_of(
            number,
            st.tuples(ops, number, number).map(lambda t: lambda p: operate(t[0], t[1](p), t[2](p))),
            st.tuples(number, number).map(lambda t: lambda p: t[0](p).fill_null(t[1](p))),
            st.tuples(boolean, number, number).map(
                lambda t: lambda p: p.when(t[0](p)).then(t[1](p)).otherwise(t[2](p))
            ),
        )
        boolean = st.one_of(
            boolean,
            st.tuples(comparisons, number, number).map(lambda t: lambda p: operate(t[0], t[1](p), t[2](p))),
            st.tuples(st.sampled_from("&|"), boolean, boolean).map(lambda t: lambda p: operate(t[0], t[1](p), t[2](p))),
            boolean.map(lambda make: lambda p: ~make(p)),
            number.map(lambda make: lambda p: make(p).is_null()),
        )
        number = deeper
    return number, boolean


def operate(op, a, b):
    return OPERATORS[op](a, b)


TREES = trees()


@given(st.one_of(*TREES), st.data())
@settings(max_examples=250, deadline=None)
def test_any_tree_over_any_data(make, data):
    count = data.draw(st.integers(0, 5))
    values = {name: column[:count] for name, column in VALUES.items()}
    for name, one in (
        ("x", st.integers(-4, 4)),
        ("n", st.one_of(st.none(), st.integers(-4, 4))),
        ("good", st.booleans()),
        ("maybe", st.one_of(st.none(), st.booleans())),
    ):
        values[name] = data.draw(st.lists(one, min_size=count, max_size=count))
    schema = {"x": pl.Int64, "n": pl.Int64, "good": pl.Boolean, "maybe": pl.Boolean}
    table = pl.DataFrame({name: values[name] for name in schema}, schema=schema)
    wanted = table.with_columns(_result=make(pl))["_result"].to_list()
    assert computed(make(sc), columns_of(values)) == wanted


@given(TREES[1])
@settings(max_examples=60, deadline=None)
def test_a_filter_keeps_what_is_true(make):
    kept = columns_of(VALUES).filter(Predicate(make(sc), SCHEMA)(columns_of(VALUES)))
    assert kept["x"].tolist() == frame(VALUES).filter(make(pl))["x"].to_list()


@given(st.one_of(*TREES))
@settings(max_examples=100, deadline=None)
def test_the_text_of_an_expression_is_the_expression(make):
    expression = make(sc)
    again = eval(str(expression), {"col": col, "lit": lit, "when": when})  # noqa: S307 - of the tree just made
    again = again if isinstance(again, Expression) else lit(again)
    assert computed(again, columns_of(VALUES)) == computed(expression, columns_of(VALUES))


def test_division_by_zero_is_as_in_numpy():
    columns = columns_of(VALUES)
    assert str(computed(col("f") / (col("x") * 0), columns)) == "[inf, -inf, inf, inf, inf, nan]"
    assert computed(col("n") // 0, columns) == [0, None, 0, None, 0, 0]


def test_a_number_that_is_no_number_is_not_missing():
    nan = when(col("n") == 3).then(math.nan).otherwise(col("g"))
    got = computed(nan + col("n"), columns_of(VALUES))
    assert got[:2] == [None, None]
    assert math.isnan(got[2])


def test_functions_of_texts_run_on_the_entries_of_a_dictionary(monkeypatch):
    seen = []

    def lower(array):
        seen.append(len(array))
        return array

    monkeypatch.setattr("pyarrow.compute.utf8_lower", lower)
    words = pa.array(["A", "b"] * 100).dictionary_encode()
    expression = col("word").str.lower()
    columns = Columns.of(word=words)
    result = Projection({"word": expression}, columns.schema, keep=True)(columns)
    assert is_dictionary(result.encoded("word"))
    assert seen == [0, 2]


def test_what_cannot_be_cast_says_so_when_it_comes():
    with pytest.raises(pa.ArrowInvalid, match="Failed to parse"):
        computed(col("word").cast(int), columns_of(VALUES))
    with pytest.raises(pa.ArrowInvalid):
        computed((col("f") * math.nan).cast(int), columns_of(VALUES))
    with pytest.raises(pa.ArrowInvalid, match="301 not in range"):
        computed((col("y") + 300).cast("int8"), columns_of({name: column[:1] for name, column in VALUES.items()}))
