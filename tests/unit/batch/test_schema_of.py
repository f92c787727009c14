"""schema_of: which columns a user's type stands for."""

from __future__ import annotations

import datetime
import pickle
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple, Optional

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from streamcore.batch import Field, Schema, Vector, schema_of, to_columns, to_rows
from streamcore.errors import TopologyError


@dataclass
class Reading:
    sensor: str
    celsius: float
    count: int = 0
    good: bool = True
    raw: bytes = b""
    at: datetime.datetime | None = None
    day: Optional[datetime.date] = None  # noqa: UP045 - both spellings must work
    small: np.int16 = 0  # type: ignore[assignment]
    vector: Annotated[list, Vector(3, "f4")] = field(default_factory=lambda: [0, 0, 0])


class Pair(NamedTuple):
    user: int
    name: str | None


class Point(msgspec.Struct):
    x: float
    y: Annotated[float, "metres"]


@dataclass(kw_only=True)
class Keyword:
    a: int
    b: str


@dataclass
class Odd:
    good: int
    bad: dict


def test_a_dataclass():
    schema = schema_of(Reading)
    assert schema.row_type is Reading
    assert [(f.name, f.type, f.nullable) for f in schema.fields] == [
        ("sensor", pa.string(), False),
        ("celsius", pa.float64(), False),
        ("count", pa.int64(), False),
        ("good", pa.bool_(), False),
        ("raw", pa.binary(), False),
        ("at", pa.timestamp("us"), True),
        ("day", pa.date32(), True),
        ("small", pa.int16(), False),
        ("vector", pa.list_(pa.float32(), 3), False),
    ]


def test_which_fields_are_numpy_columns():
    by_name = schema_of(Reading).by_name
    dtypes = {name: f.dtype for name, f in by_name.items()}
    assert dtypes == {
        "sensor": None, "celsius": np.dtype("f8"), "count": np.dtype("i8"), "good": np.dtype("?"), "raw": None,
        "at": None, "day": None, "small": np.dtype("i2"), "vector": np.dtype("f4"),
    }  # fmt: skip
    assert by_name["vector"].width == 3
    assert by_name["celsius"].width == 0
    assert Field("n", pa.int64(), nullable=True).dtype is None


def test_a_named_tuple_and_a_struct():
    assert [(f.name, f.type, f.nullable) for f in schema_of(Pair).fields] == [
        ("user", pa.int64(), False), ("name", pa.string(), True)]  # fmt: skip
    assert [(f.name, f.type) for f in schema_of(Point).fields] == [("x", pa.float64()), ("y", pa.float64())]


def test_an_arrow_schema():
    arrow = pa.schema([("n", pa.int32()), ("s", pa.string()), pa.field("t", pa.string(), nullable=False)])
    assert [(f.name, f.type, f.nullable) for f in schema_of(arrow).fields] == [
        ("n", pa.int32(), False), ("s", pa.string(), True), ("t", pa.string(), False)]  # fmt: skip


def test_schema_of_names_and_types():
    schema = Schema.of(user=int, vector=Vector(10, "f4"), when=pa.timestamp("ms"), word=str | None)
    assert str(schema) == (
        "(user: int64, vector: fixed_size_list<item: float>[10], when: timestamp[ms]?, word: string?)"
    )
    assert schema_of(schema) is schema


@pytest.mark.parametrize("declared", [None, int, str, dict, list, tuple, object(), lambda: 1])
def test_other_types_travel_as_rows(declared):
    assert schema_of(declared) is None


def test_a_field_without_column_form_is_named():
    with pytest.raises(TopologyError, match=r"field 'bad' has type <class 'dict'>.*no column form"):
        schema_of(Odd)


@pytest.mark.parametrize("declared", [int | str, list[int], object])
def test_types_without_column_form(declared):
    with pytest.raises(TopologyError, match="field 'x'"):
        Schema.of(x=declared)


def test_schemas_are_equal_by_their_fields():
    assert schema_of(Pair) == Schema.of(user=int, name=str | None)
    assert schema_of(Pair) != Schema.of(user=int, name=str)
    assert hash(schema_of(Pair)) == hash(Schema.of(user=int, name=str | None))
    copy = pickle.loads(pickle.dumps(schema_of(Pair)))  # noqa: S301
    assert copy == schema_of(Pair)
    assert copy.row_type is Pair


def test_select():
    assert schema_of(Pair).select(["name"]) == Schema.of(name=str | None)


@pytest.mark.parametrize(
    "row", [Pair(1, None), Point(1.0, 2.0), Keyword(a=1, b="x"), Reading("s", 1.0, vector=[1, 2, 3])]
)
def test_a_row_comes_back_as_its_own_class(row):
    (back,) = to_rows(to_columns([row], schema_of(type(row))))
    assert type(back) is type(row)
    if isinstance(row, Reading):
        assert back.vector.tolist() == [1, 2, 3]
        back.vector = row.vector
    assert back == row


def test_a_row_without_class_is_a_named_tuple():
    (row,) = to_rows(to_columns([{"a": 1, "b": "x"}], Schema.of(a=int, b=str)))
    assert (row.a, row.b) == row == (1, "x")
