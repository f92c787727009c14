"""Aggregates: the types and names of their results, and what they refuse."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from streamcore import Schema, Vector, count, max_of, mean, min_of, sum_of
from streamcore.errors import TopologyError
from streamcore.runtime.operators.window import accumulators_of

SCHEMA = Schema.of(
    i=int, small=np.int8, b=bool, x=float, half=np.float16, s=str, maybe=int | None, wide=np.uint64, v=Vector(2)
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


def test_another_name():
    assert mean("x").named("average").bind(SCHEMA, "here").column.name == "average"


def test_a_mean_of_integers_is_not_cut_off():
    values = {"sum_i": np.array([7, -1]), "count": np.array([2, 2])}
    assert mean("i").bind(SCHEMA, "here").results(values)["mean_i"].tolist() == [3.5, -0.5]


def test_accumulators_are_shared():
    bound = [aggregate.bind(SCHEMA, "here") for aggregate in (mean("x"), sum_of("x"), count(), mean("i"))]
    assert [a.name for a in accumulators_of(bound)] == ["sum_x", "count", "sum_i"]
    assert [a.name for a in accumulators_of([min_of("i").bind(SCHEMA, "here")])] == ["min_i", "count"]


@pytest.mark.parametrize("make", [sum_of, mean, min_of, max_of])
@pytest.mark.parametrize("field", ["s", "maybe", "wide", "v"])
def test_fields_that_are_no_plain_numbers(make, field):
    with pytest.raises(TopologyError, match=rf"^here: {make(field).name} of field {field}: .*isn't a plain number"):
        make(field).bind(SCHEMA, "here")


def test_a_field_that_is_not_there():
    with pytest.raises(TopologyError, match="here: mean_y of a field 'y' that isn't there") as caught:
        mean("y").bind(SCHEMA, "here")
    assert "x: double" in str(caught.value)
