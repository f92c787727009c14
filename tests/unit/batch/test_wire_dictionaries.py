"""Dictionary-encoded columns over the wire: a dictionary goes once, when it pays, and the values stay the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Columns, Field, Schema
from streamcore.batch.dictionary import dictionary_id, is_dictionary
from streamcore.batch.wire import COMPRESSIONS, BodyKind, WireDecoder, WireEncoder

SCHEMA = Schema((Field("n", pa.int64()), Field("a", pa.string()), Field("b", pa.string(), nullable=True)))
DICTIONARIES = [pa.array(["x", "y", "z"]), pa.array(["z", "x"]), pa.array([f"word{i}" for i in range(50)])]


@st.composite
def columns_of_text(draw, count, *, nullable):
    entries = draw(st.sampled_from(DICTIONARIES))
    index = st.integers(0, len(entries) - 1)
    indices = draw(st.lists(st.one_of(st.none(), index) if nullable else index, min_size=count, max_size=count))
    array = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), entries)
    return array if draw(st.booleans()) else array.dictionary_decode()


@st.composite
def streams(draw):
    """Batches of one channel, whose text is plain or over one of a few dictionaries."""
    batches = []
    for _ in range(draw(st.integers(1, 8))):
        count = draw(st.integers(0, 30))
        a, b = (draw(columns_of_text(count, nullable=nullable)) for nullable in (False, True))
        start = draw(st.integers(0, count))
        batches.append(Columns(SCHEMA, {"n": np.arange(count), "a": a, "b": b}).slice(start, count))
    return batches


@given(streams(), st.sampled_from(COMPRESSIONS))
@settings(max_examples=150, deadline=None)
def test_the_values_come_back(batches, compression):
    encoder, decoder = WireEncoder(SCHEMA, compression), WireDecoder(SCHEMA)
    for batch in batches:
        detail, body = encoder.encode(batch)
        back = decoder.decode(detail, memoryview(bytes(body)))
        assert back.schema == SCHEMA
        assert back.to_rows() == batch.to_rows()


WORDS = Schema.of(word=str)


def words(indices, dictionary):
    return Columns(WORDS, {"word": pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), dictionary)})


def test_a_large_dictionary_is_sent_once_and_only_when_as_many_records_have_gone():
    dictionary = pa.array([f"a word of some length, number {i}" for i in range(1000)])
    encoder, decoder = WireEncoder(WORDS), WireDecoder(WORDS)
    kinds, sizes, received = [], [], []
    for start in range(0, 1000, 200):
        batch = words(range(start, start + 200), dictionary)
        detail, body = encoder.encode(batch)
        kinds.append(detail)
        sizes.append(len(body))
        received.append(decoder.decode(detail, memoryview(bytes(body))))
        assert received[-1] == batch
    detail, body = encoder.encode(words([5] * 200, dictionary))
    last = decoder.decode(detail, memoryview(bytes(body)))
    assert kinds == [BodyKind.ARROW] * 4 + [BodyKind.ARROW_WITH_DICTIONARIES]
    assert sizes[0] < 10_000 < 35_000 < sizes[4]
    assert detail == BodyKind.ARROW_WITH_DICTIONARIES
    assert len(body) < 200 * 4 + 400
    assert [is_dictionary(batch.encoded("word")) for batch in received] == [False] * 4 + [True]
    assert dictionary_id(received[4].encoded("word")) == dictionary_id(last.encoded("word"))


def test_a_small_dictionary_goes_with_the_first_batch():
    dictionary = pa.array(["yes", "no"])
    encoder = WireEncoder(WORDS)
    first, second = (encoder.encode(words([0, 1] * 500, dictionary)) for _ in range(2))
    assert first[0] == second[0] == BodyKind.ARROW_WITH_DICTIONARIES
    assert len(second[1]) < len(first[1])


def test_a_new_dictionary_takes_the_place_of_the_last():
    encoder, decoder = WireEncoder(WORDS), WireDecoder(WORDS)
    for entries in (["a", "b"], ["b", "a"], ["a", "b"]):
        batch = words([0, 1, 1], pa.array(entries))
        detail, body = encoder.encode(batch)
        assert decoder.decode(detail, memoryview(bytes(body)))["word"].to_pylist() == [entries[i] for i in (0, 1, 1)]


def test_indices_beyond_the_dictionary_are_refused():
    encoder, decoder = WireEncoder(WORDS), WireDecoder(WORDS)
    dictionary = pa.array(["a", "b"])
    decoder.decode(*encoder.encode(words([0, 1], dictionary)))
    detail, body = encoder.encode(words([1, 1], dictionary))
    damaged = bytes(body).replace(b"\1\0\0\0\1\0\0\0", b"\1\0\0\0\7\0\0\0")
    assert damaged != bytes(body)
    with pytest.raises(pa.ArrowIndexError):
        decoder.decode(detail, damaged)
