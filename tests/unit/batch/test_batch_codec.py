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
from streamcore.batch.codec import decode_saved, encode_saved
from streamcore.batch.wire import COMPRESSIONS, BodyKind, WireDecoder, WireEncoder
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


def over_the_wire(batch, schema, kind, compression="none"):
    """The batch as the other side has it, which must have been sent in a body of `kind`."""
    detail, body = WireEncoder(schema, compression).encode(batch)
    assert 0 <= detail < 256
    assert detail & 0xF == kind
    return WireDecoder(schema).decode(detail, memoryview(bytes(body)))


@given(batches())
@settings(max_examples=100, deadline=None)
def test_columns_over_the_wire(case):
    columns, values = case
    back = over_the_wire(columns, columns.schema, BodyKind.ARROW)
    assert back.schema == columns.schema
    assert values_of(back) == values


@given(batches())
@settings(max_examples=100, deadline=None)
def test_columns_over_an_untyped_wire_and_in_a_snapshot(case):
    columns, values = case
    received = over_the_wire(columns, None, BodyKind.ARROW_WITH_SCHEMA)
    kind, saved = encode_saved(columns, allow_pickle=False)
    assert isinstance(saved, bytes)
    for back in (received, decode_saved(int(kind), saved, allow_pickle=False)):
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
    assert over_the_wire(rows, None, BodyKind.ROWS) == rows
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
    back = over_the_wire(rows, POINTS, BodyKind.ARROW)
    assert isinstance(back, Columns)
    assert to_rows(back) == rows
    assert to_rows(back)[0].shout() == "A"


def test_a_row_that_is_not_of_the_type_is_named():
    with pytest.raises(BadRecordError, match=r"Point\(x='one'.*field 'x'"):
        WireEncoder(POINTS).encode([Point("one", "a")])


def test_columns_of_another_schema_than_the_edge_s_say_so_themselves():
    other = Columns.of(y=np.arange(2))
    assert over_the_wire(other, POINTS, BodyKind.ARROW_WITH_SCHEMA) == other


def test_rows_of_a_local_class_and_functions_go_over_the_wire_by_value():
    class Local:
        def __init__(self, n):
            self.n = n

    add = 5
    first, second = over_the_wire([Local(3), lambda x: x + add], None, BodyKind.ROWS)
    assert first.n == 3
    assert second(1) == 6


def test_a_row_that_cannot_be_sent_is_an_error_with_a_hint(tmp_path):
    with (
        (tmp_path / "f").open("w") as file,
        pytest.raises(TopologyError, match="can't be sent to another process") as caught,
    ):
        WireEncoder(None).encode([file])
    assert "open files" in caught.value.hint


def test_a_row_without_plain_form_is_not_saved_unless_pickle_is_allowed():
    rows = [range(3)]
    with pytest.raises(StateCodecError, match="range has no safe saved form"):
        encode_saved(rows, allow_pickle=False)
    kind, saved = encode_saved(rows, allow_pickle=True)
    assert decode_saved(int(kind), saved, allow_pickle=True) == rows
    with pytest.raises(StateCodecError, match="pickled"):
        decode_saved(int(kind), saved, allow_pickle=False)


READINGS = Schema.of(sensor=int, celsius=float, word=str)


def readings(count):
    return Columns(
        READINGS,
        {"sensor": np.arange(count) % 7, "celsius": np.full(count, 20.5), "word": pa.array(["warm"] * count)},
    )


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_bodies_are_smaller_and_come_back_the_same(compression):
    typed, rows, other = readings(1000), [(n, "same text") for n in range(1000)], Columns.of(y=np.zeros(1000))
    for batch, schema, kind in (
        (typed, READINGS, BodyKind.ARROW),
        (rows, None, BodyKind.ROWS),
        (other, READINGS, BodyKind.ARROW_WITH_SCHEMA),
    ):
        assert over_the_wire(batch, schema, kind, compression) == batch
        _, plain = WireEncoder(schema).encode(batch)
        detail, small = WireEncoder(schema, compression).encode(batch)
        assert detail == kind | COMPRESSIONS.index(compression) << 4
        assert len(small) < 0.8 * len(plain)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_what_compression_would_not_help_is_sent_as_it_is(compression):
    noise = Columns.of(x=np.random.default_rng(1).integers(0, 2**63, 1000))
    for batch in (noise, readings(1)):
        assert WireEncoder(batch.schema, compression).encode(batch)[0] == BodyKind.ARROW
        assert over_the_wire(batch, batch.schema, BodyKind.ARROW, compression) == batch


def test_the_numbers_of_a_received_batch_lie_in_the_received_body():
    batch = Columns.of(a=np.arange(1000), b=np.zeros((1000, 3), np.float32), c=np.arange(1000, dtype=np.int16))
    detail, body = WireEncoder(batch.schema).encode(batch)
    received = np.frombuffer(bytearray(memoryview(body)), np.uint8)
    back = WireDecoder(batch.schema).decode(detail, memoryview(received))
    assert back == batch
    for name in back.arrays:
        assert np.shares_memory(back[name], received)
        assert back[name].flags.aligned
        assert not back[name].flags.owndata
