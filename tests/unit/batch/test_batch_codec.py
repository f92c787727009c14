"""Batches as bytes: what goes over a socket or into a snapshot comes back the same, in both forms."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Columns, Field, Schema, to_rows
from streamcore.batch.codec import BodyKind, decode_saved, decode_wire, encode_saved, encode_wire
from streamcore.errors import BadRecordError, StateCodecError, TopologyError

OLDEST, NEWEST = (datetime.datetime.fromisoformat(text) for text in ("1900-01-01", "2200-01-01"))
KINDS = [
    (pa.int64(), False, st.integers(-(2**63), 2**63 - 1)),
    (pa.int8(), False, st.integers(-128, 127)),
    (pa.uint16(), False, st.integers(0, 65535)),
    (pa.float64(), False, st.floats(allow_nan=False)),
    (pa.float32(), False, st.floats(width=32, allow_nan=False)),
    (pa.bool_(), False, st.booleans()),
    (pa.int64(), True, st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))),
    (pa.bool_(), True, st.one_of(st.none(), st.booleans())),
    (pa.string(), False, st.text(max_size=4)),
    (pa.string(), True, st.one_of(st.none(), st.text(max_size=4))),
    (pa.binary(), True, st.one_of(st.none(), st.binary(max_size=4))),
    (pa.date32(), False, st.dates()),
    (
        pa.timestamp("us"),
        True,
        st.one_of(st.none(), st.datetimes(OLDEST, NEWEST)),
    ),
    (pa.list_(pa.float32(), 3), False, st.lists(st.integers(-9, 9), min_size=3, max_size=3)),
]


@st.composite
def batches(draw):
    """Columns of a random schema, perhaps a slice of longer ones, and their values."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
    count = draw(st.integers(0, 8))
    schema = Schema(tuple(Field(f"f{i}", arrow, nullable) for i, (arrow, nullable, _) in enumerate(kinds)))
    values = [draw(st.lists(kind[2], min_size=count, max_size=count)) for kind in kinds]
    arrays = {}
    for field, column in zip(schema.fields, values, strict=True):
        if field.width:
            arrays[field.name] = np.array(column, field.dtype).reshape(count, field.width)
        else:
            arrays[field.name] = pa.array(column, field.type) if field.dtype is None else np.array(column, field.dtype)
    start = draw(st.integers(0, count))
    return Columns(schema, arrays).slice(start, count), [column[start:] for column in values]


def values_of(columns):
    """The values by column, from the arrays themselves."""
    result = []
    for field in columns.schema.fields:
        array = columns[field.name]
        assert isinstance(array, np.ndarray) is (field.dtype is not None)
        if isinstance(array, np.ndarray):
            assert array.dtype == field.dtype
            result.append(array.tolist())
        else:
            assert array.type == field.type
            result.append(array.to_pylist())
    return result


@given(batches())
@settings(max_examples=100, deadline=None)
def test_columns_over_the_wire(case):
    columns, values = case
    kind, body = encode_wire(columns, columns.schema)
    assert kind is BodyKind.ARROW
    back = decode_wire(int(kind), memoryview(bytes(body)), columns.schema)
    assert back.schema == columns.schema
    assert values_of(back) == values


@given(batches())
@settings(max_examples=100, deadline=None)
def test_columns_over_an_untyped_wire_and_in_a_snapshot(case):
    columns, values = case
    kind, body = encode_wire(columns, None)
    over_the_wire = decode_wire(int(kind), memoryview(bytes(body)), None)
    kind, saved = encode_saved(columns, allow_pickle=False)
    assert isinstance(saved, bytes)
    for back in (over_the_wire, decode_saved(int(kind), saved, allow_pickle=False)):
        assert back.schema == columns.schema
        assert values_of(back) == values


PLAIN = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.binary(max_size=3), st.floats(allow_nan=False)
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner), st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(st.lists(PLAIN, max_size=6))
@settings(max_examples=100, deadline=None)
def test_rows_over_the_wire_and_in_a_snapshot(rows):
    kind, body = encode_wire(rows, None)
    assert kind is BodyKind.ROWS
    assert decode_wire(int(kind), body, None) == rows
    kind, saved = encode_saved(rows, allow_pickle=False)
    assert decode_saved(int(kind), saved, allow_pickle=False) == rows


@dataclass
class Point:
    x: int
    name: str

    def shout(self):
        return self.name.upper()


POINTS = Schema((Field("x", pa.int64()), Field("name", pa.string())), Point)


def test_typed_rows_travel_as_columns_and_come_back_as_their_class():
    rows = [Point(1, "a"), Point(2, "b")]
    kind, body = encode_wire(rows, POINTS)
    assert kind is BodyKind.ARROW
    back = decode_wire(int(kind), bytes(body), POINTS)
    assert isinstance(back, Columns)
    assert to_rows(back) == rows
    assert to_rows(back)[0].shout() == "A"


def test_a_row_that_is_not_of_the_type_is_named():
    with pytest.raises(BadRecordError, match=r"Point\(x='one'.*field 'x'"):
        encode_wire([Point("one", "a")], POINTS)


def test_columns_of_another_schema_than_the_edge_s_say_so_themselves():
    other = Columns.of(y=np.arange(2))
    kind, body = encode_wire(other, POINTS)
    assert kind is BodyKind.ARROW_WITH_SCHEMA
    assert decode_wire(int(kind), bytes(body), POINTS) == other


def test_rows_of_a_local_class_and_functions_go_over_the_wire_by_value():
    class Local:
        def __init__(self, n):
            self.n = n

    add = 5
    kind, body = encode_wire([Local(3), lambda x: x + add], None)
    first, second = decode_wire(int(kind), body, None)
    assert first.n == 3
    assert second(1) == 6


def test_a_row_that_cannot_be_sent_is_an_error_with_a_hint(tmp_path):
    with (
        (tmp_path / "f").open("w") as file,
        pytest.raises(TopologyError, match="can't be sent to another process") as caught,
    ):
        encode_wire([file], None)
    assert "open files" in caught.value.hint


def test_a_row_without_plain_form_is_not_saved_unless_pickle_is_allowed():
    rows = [range(3)]
    with pytest.raises(StateCodecError, match="range has no safe saved form"):
        encode_saved(rows, allow_pickle=False)
    kind, saved = encode_saved(rows, allow_pickle=True)
    assert decode_saved(int(kind), saved, allow_pickle=True) == rows
    with pytest.raises(StateCodecError, match="pickled"):
        decode_saved(int(kind), saved, allow_pickle=False)
