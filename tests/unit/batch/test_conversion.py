"""Rows to columns and back, and how a record that does not fit is named."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Schema, Vector, schema_of, to_columns, to_rows
from streamcore.errors import BadRecordError


@dataclass
class Reading:
    sensor: str
    celsius: float
    count: int
    good: bool
    note: str | None = None
    at: datetime.datetime | None = None


class Pair(NamedTuple):
    a: int
    b: str


OLDEST, NEWEST = (datetime.datetime.fromisoformat(text) for text in ("1900-01-01", "2200-01-01"))
SCHEMA = schema_of(Reading)
READING = st.builds(
    Reading,
    st.text(max_size=4),
    st.floats(allow_nan=False),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.one_of(st.none(), st.text(max_size=3)),
    st.one_of(st.none(), st.datetimes(OLDEST, NEWEST)),
)


@given(st.lists(READING, max_size=12))
@settings(max_examples=100, deadline=None)
def test_dataclasses_and_dictionaries_and_tuples_give_the_same_columns(rows):
    columns = to_columns(rows, SCHEMA)
    assert to_rows(columns) == rows
    assert columns == to_columns([dict(vars(r)) for r in rows], SCHEMA)
    assert columns == to_columns([tuple(vars(r).values()) for r in rows], SCHEMA)


def test_columns_and_rows_pass_as_they_are():
    columns = to_columns([Reading("a", 1.0, 1, True)], SCHEMA)
    assert to_columns(columns, SCHEMA) is columns
    rows = [1]
    assert to_rows(rows) is rows


def test_numbers_that_fit_are_taken():
    columns = to_columns([{"f": 1, "i": 2.0, "n": np.int16(3)}], Schema.of(f=float, i=int, n=int))
    assert [columns[name].tolist() for name in "fin"] == [[1.0], [2], [3]]


def test_vectors():
    schema = Schema.of(v=Vector(2, "f4"))
    columns = to_columns([{"v": [1, 2]}, {"v": np.array([3, 4])}, {"v": (5, 6)}], schema)
    assert columns["v"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert to_columns([], schema)["v"].shape == (0, 2)


def good(**changes):
    return Reading(**{"sensor": "s1", "celsius": 1.5, "count": 1, "good": True, **changes})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("celsius", "warm"),
        ("celsius", None),
        ("count", None),
        ("count", 1.5),
        ("count", 2**63),
        ("count", "7"),
        ("good", None),
        ("good", "yes"),
        ("sensor", None),
        ("sensor", 5),
        ("note", 5),
        ("at", "noon"),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_value_of_another_type_is_named_with_its_record_and_field(field, value, place):
    rows = [good(), good()]
    rows[place] = good(**{"sensor": "bad", field: value})
    with pytest.raises(BadRecordError) as caught:
        to_columns(rows, SCHEMA)
    text = str(caught.value)
    assert f"field {field!r} is {value!r}" in text
    assert ("sensor='bad'" if field != "sensor" else f"sensor={value!r}") in text


def test_a_vector_of_another_width_is_named():
    schema = Schema.of(n=int, v=Vector(2))
    for bad in ([1], [1, 2, 3], None, "ab"):
        with pytest.raises(BadRecordError, match=r"record .*'n': 7.*field 'v'"):
            to_columns([{"n": 1, "v": [1, 2]}, {"n": 7, "v": bad}], schema)


@pytest.mark.parametrize("bad", [(1,), (1, "x", 2), (), 5, "ab", None, [1, "x"]])
@pytest.mark.parametrize("first", [True, False])
def test_a_row_of_another_shape_among_tuples_is_named(bad, first):
    rows = [bad] if first else [Pair(1, "x"), bad]
    with pytest.raises(BadRecordError) as caught:
        to_columns(rows, schema_of(Pair))
    assert repr(bad) in str(caught.value)


@pytest.mark.parametrize("others", ["tuples", "dicts", "objects"])
def test_a_field_that_is_lacking_is_named(others):
    rows = {
        "tuples": [Pair(1, "x"), (1,)],
        "dicts": [{"a": 1, "b": "x"}, {"a": 1}],
        "objects": [good(), Pair(1, "x")],
    }[others]
    schema = SCHEMA if others == "objects" else schema_of(Pair)
    with pytest.raises(BadRecordError, match="record") as caught:
        to_columns(rows, schema)
    assert repr(rows[1]) in str(caught.value)


def test_dictionaries_among_objects_and_objects_among_dictionaries_are_named():
    for rows in ([{"a": 1, "b": "x"}, good()], [good(), {"a": 1}]):
        schema = schema_of(Pair) if isinstance(rows[0], dict) else SCHEMA
        with pytest.raises(BadRecordError, match="has no field"):
            to_columns(rows, schema)


def test_a_long_record_is_shortened():
    with pytest.raises(BadRecordError) as caught:
        to_columns([good(note=["x" * 5000])], SCHEMA)
    assert len(str(caught.value)) < 400
