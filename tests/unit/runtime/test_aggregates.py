"""Aggregates: the types and names of their results, and what they refuse."""

from __future__ import annotations

import datetime
import math
import sys

import numpy as np
import pyarrow as pa
import pytest

from streamcore import (
    Columns,
    Schema,
    StreamEnvironment,
    Vector,
    approx_count_distinct,
    bounded_out_of_orderness,
    collect,
    count,
    count_distinct,
    count_of,
    first_of,
    last_of,
    max_by,
    max_of,
    mean,
    median,
    min_by,
    min_of,
    quantile,
    quantiles,
    sliding,
    std_of,
    sum_of,
    top_values,
    var_of,
)
from streamcore.errors import TopologyError
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.operators.window import accumulators_of
from streamcore.state.accumulators import fresh

SCHEMA = Schema.of(
    i=int,
    small=np.int8,
    b=bool,
    x=float,
    half=np.float16,
    s=str,
    maybe=int | None,
    wide=np.uint64,
    v=Vector(2),
    many=pa.list_(pa.int64()),
    day=datetime.date | None,
    at=datetime.datetime,
)


@pytest.mark.parametrize("make", [sum_of, min_of, max_of])
@pytest.mark.parametrize(
    ("field", "type_"),
    [("i", pa.int64()), ("small", pa.int64()), ("b", pa.int64()), ("x", pa.float64()), ("half", pa.float64())],
)
def test_results_are_of_the_field_s_kind(make, field, type_):
    column = make(field).bind(SCHEMA, "here").column
    assert column.type == type_
    assert column.name == f"{make.__name__.removesuffix('_of')}_{field}"
    assert not column.nullable


@pytest.mark.parametrize("field", ["i", "b", "x"])
def test_a_mean_is_float(field):
    column = mean(field).bind(SCHEMA, "here").column
    assert (column.name, column.type) == (f"mean_{field}", pa.float64())


def test_a_count_is_int_and_needs_no_field():
    column = count().bind(SCHEMA, "here").column
    assert (column.name, column.type) == ("count", pa.int64())


def test_the_fields_that_are_read():
    aggregates = [count(), var_of("x"), min_by("s", "i"), top_values("x", 1), top_values("s", 1, by="x"), median("x")]
    assert [a.fields for a in aggregates] == [(), ("x",), ("s", "i"), ("x",), ("s", "x"), ("x",)]


def test_another_name():
    assert mean("x").named("average").bind(SCHEMA, "here").column.name == "average"


def test_a_mean_of_integers_is_not_cut_off():
    bound = mean("i").bind(SCHEMA, "here")
    values = dict(zip(bound.accumulators, [[np.array([7, -1])], [np.array([2, 2])]], strict=True))
    assert bound.results(values)["mean_i"].tolist() == [3.5, -0.5]


def test_fields_whose_names_run_together_are_kept_apart():
    """`c` by `a_b`, and `b_c` by `a`."""
    rows = [("x", 1, 5, 10, 20), ("x", 2, 3, 11, 21)]
    records = StreamEnvironment().from_values(rows, Schema.of(k=str, a=int, a_b=int, b_c=int, c=int))
    results = records.key_by("k").aggregate(one=min_by("c", "a_b"), other=min_by("b_c", "a")).execute_and_collect()
    assert results == [("x", 21, 10)]


def test_accumulators_are_shared():
    bound = [aggregate.bind(SCHEMA, "here") for aggregate in (mean("x"), sum_of("x"), count(), mean("i"))]
    assert [a.name for a in accumulators_of(bound)] == ["sum_x", "count", "sum_i"]
    assert [a.name for a in accumulators_of([min_of("i").bind(SCHEMA, "here")])] == ["min_i", "count"]


@pytest.mark.parametrize("make", [sum_of, mean, min_of, max_of, var_of, std_of])
@pytest.mark.parametrize("field", ["s", "wide", "v", "many"])
def test_fields_that_are_no_plain_numbers(make, field):
    with pytest.raises(TopologyError, match=rf"^here: {make(field).name} of field {field}: .*isn't a plain number"):
        make(field).bind(SCHEMA, "here")


def test_a_field_that_is_not_there():
    with pytest.raises(TopologyError, match="here: mean_y of a field 'y' that isn't there") as caught:
        mean("y").bind(SCHEMA, "here")
    assert "x: double" in str(caught.value)


@pytest.mark.parametrize(
    ("aggregate", "name", "type_", "nullable"),
    [
        (count_of("maybe"), "count_maybe", pa.int64(), False),
        (sum_of("maybe"), "sum_maybe", pa.int64(), True),
        (mean("maybe"), "mean_maybe", pa.float64(), True),
        (min_of("day"), "min_day", pa.date32(), True),
        (max_of("at"), "max_at", pa.timestamp("us"), False),
        (var_of("maybe"), "var_maybe", pa.float64(), False),
        (std_of("x", ddof=0), "std_x", pa.float64(), False),
        (first_of("small"), "first_small", pa.int8(), False),
        (last_of("s"), "last_s", pa.string(), False),
        (last_of("wide"), "last_wide", pa.uint64(), False),
        (min_by("s", "i"), "s_at_min_i", pa.string(), False),
        (max_by("day", "x"), "day_at_max_x", pa.date32(), True),
        (top_values("x", 3), "top_x", pa.list_(pa.float64()), False),
        (top_values("s", 3, by="at"), "top_s", pa.list_(pa.string()), False),
        (collect("day"), "collect_day", pa.list_(pa.date32()), False),
        (count_distinct("s"), "distinct_s", pa.int64(), False),
        (approx_count_distinct("at"), "approx_distinct_at", pa.int64(), False),
        (quantile("maybe", 0.5), "q50_maybe", pa.float64(), False),
        (quantile("x", 0.999), "q99_9_x", pa.float64(), False),
        (quantiles("x", [0, 0.07])[1], "q7_x", pa.float64(), False),
        (median("x"), "median_x", pa.float64(), False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_and_types(aggregate, name, type_, nullable):
    column = aggregate.bind(SCHEMA, "here").column
    assert (column.name, column.type, column.nullable) == (name, type_, nullable)


@pytest.mark.parametrize(
    ("aggregate", "message"),
    [
        (first_of("v"), "here: first_v of field v: .*which holds more than one value"),
        (collect("many"), "here: collect_many of field many: .*more than one value"),
        (count_distinct("v"), "here: distinct_v of field v: .*more than one value"),
        (min_by("i", "s"), "here: i_at_min_s of field s: string, which isn't a plain number or time"),
        (max_by("nothing", "i"), "here: nothing_at_max_i of a field 'nothing' that isn't there"),
        (top_values("s", 1), "here: top_s of field s: string, which isn't a plain number or time"),
        (top_values("i", 1, by="wide"), "here: top_i of field wide: uint64, which isn't"),
        (quantile("at", 0.5), r"here: q50_at of field at: timestamp\[us\], which isn't a plain number\n"),
        (count_of("nothing"), "here: count_nothing of a field 'nothing' that isn't there"),
        (sum_of("at"), r"here: sum_at of field at: timestamp\[us\], which isn't a plain number\n"),
    ],
    ids=lambda value: value.name if not isinstance(value, str) else "",
)
def test_fields_of_the_wrong_type(aggregate, message):
    with pytest.raises(TopologyError, match=message):
        aggregate.bind(SCHEMA, "here")


def test_a_decimal_has_no_sketch():
    with pytest.raises(TopologyError, match=r"here: approx_distinct_d of field d: decimal128\(5, 2\)"):
        approx_count_distinct("d").bind(Schema.of(d=pa.decimal128(5, 2)), "here")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quantile("x", 1.01), "quantile: 1.01 is no share"),
        (lambda: quantile("x", -0.1), "quantile: -0.1 is no share"),
        (lambda: quantile("x", float("nan")), "quantile: nan is no share"),
        (lambda: quantiles("x", [0.5, 99]), "quantile: 99 is no share"),
        (lambda: top_values("x", 0), "top_values: k is 0"),
        (lambda: top_values("x", 1.5), "top_values: k is 1.5"),
        (lambda: approx_count_distinct("x", lg_k=22), "lg_k is 22"),
        (lambda: var_of("x", ddof=-1), "var_of: ddof is -1"),
        (lambda: std_of("x", ddof=-1), "std_of: ddof is -1"),
    ],
)
def test_parameters_out_of_range(make, message):
    with pytest.raises(TopologyError, match=message):
        make()


@pytest.mark.parametrize("make", [lambda: approx_count_distinct("x"), lambda: quantile("x", 0.5), lambda: median("x")])
def test_a_missing_library_is_named_with_the_command(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketches", None)
    with pytest.raises(TopologyError, match="needs the package datasketches") as caught:
        make()
    assert "pip install 'streamcore[sketches]'" in str(caught.value)


def test_the_event_time_that_first_goes_by_must_be_there():
    with pytest.raises(TopologyError, match="here: first_i goes by event time: there is no field 'gone'"):
        first_of("i").bind(SCHEMA, "here", EventTime("gone"))


def test_event_time_may_be_a_function():
    records = Schema.of(key=str, n=int)
    rows = [("a", 3), ("a", 1), ("a", 2)]
    stream = StreamEnvironment().from_values(rows, records)
    timed = stream.assign_watermarks(bounded_out_of_orderness(lambda row: -row[1], 0.01))
    results = timed.key_by("key").aggregate(first_of("n"), last_of("n"), collect("n")).execute_and_collect()
    assert results == [("a", 3, 1, [3, 2, 1])]


def test_a_mean_of_nothing_is_missing():
    stream = StreamEnvironment().from_values([("a", None), ("b", 4)], Schema.of(key=str, n=int | None))
    results = (
        stream.key_by("key").aggregate(sum_of("n"), mean("n"), max_of("n"), var_of("n", ddof=0)).execute_and_collect()
    )
    assert [tuple(row)[:4] for row in results] == [("a", None, None, None), ("b", 4, 4.0, 4)]
    assert math.isnan(results[0].var_n)
    assert results[1].var_n == 0


@pytest.mark.parametrize("type_", [float, float | None])
@pytest.mark.parametrize("parallelism", [1, 2])
def test_nan_is_one_value_wherever_it_was_added(type_, parallelism):
    rows = [("a", 1.5 if n % 3 == 0 else math.nan, n) for n in range(40)]
    env = StreamEnvironment(parallelism=parallelism, batch_size=4)
    stream = env.from_values(rows, Schema.of(key=str, x=type_, t=int))
    timed = stream.assign_watermarks(bounded_out_of_orderness("t", 0.001)).key_by("key")
    windowed = timed.window(sliding(0.02, every=0.005)).aggregate(n=count_distinct("x"))
    assert {row.n for row in windowed.execute_and_collect()} == {2}


@pytest.mark.parametrize("type_", [float, float | None])
def test_nan_has_no_place_in_an_order(type_):
    rows = [("a", math.nan, 1), ("a", 2.0, 2), ("a", math.nan, 3), ("b", math.nan, 4)]
    stream = StreamEnvironment().from_values(rows, Schema.of(key=str, x=type_, n=int))
    aggregates = [min_by("n", "x"), max_by("key", "x"), top_values("n", 2, by="x"), median("x"), count_distinct("x")]
    first, second = stream.key_by("key").aggregate(*aggregates).execute_and_collect()
    assert first == ("a", 2, "a", [2], 2.0, 2)
    assert tuple(second)[:4] == ("b", None, None, [])
    assert math.isnan(second.median_x)
    assert second.distinct_x == 1


@pytest.mark.parametrize("parts", [1, 5])
def test_variances_of_values_far_from_zero(parts):
    """Where the sum of squares less the squared sum has no digit left (Chan, Golub and LeVeque's example)."""
    values = 1e9 + np.random.default_rng(1).normal(0, 1e-3, 10_000)
    schema = Schema.of(v=float)
    bound = var_of("v").bind(schema, "here")
    (moments,) = bound.accumulators
    total = fresh(moments, 1)
    for chunk in np.array_split(values, parts):
        part = fresh(moments, 1)
        moments.add(part, np.zeros(len(chunk), np.int64), Columns.of(v=chunk))
        moments.merge(total, np.zeros(1, np.int64), part)
    assert bound.results({moments: total})["var_v"][0] == pytest.approx(np.var(values - 1e9, ddof=1), rel=1e-4)


def test_lists_travel_through_maps_and_sinks():
    stream = StreamEnvironment().from_values([("a", 1), ("a", 2)], Schema.of(key=str, n=int))
    lists = stream.key_by("key").aggregate(all=collect("n"))
    assert lists.map(lambda row: sum(row.all)).execute_and_collect() == [3]
