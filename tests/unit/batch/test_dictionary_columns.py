"""Text columns that are held dictionary-encoded behave as plain ones do, against lists."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Columns, Field, Schema, concat, same_form, to_columns, to_rows
from streamcore.batch.dictionary import DictionaryUse, concat_arrays, dictionary_id, is_dictionary
from streamcore.kernels.hashing import hash_keys
from streamcore.runtime.keys import KeySelector
from streamcore.state.columnar import ColumnarTable
from streamcore.state.descriptors import ColumnarState

WORDS = ["", "a", "b", "word", "naïve", "日本"]
EITHER = st.booleans()
SCHEMA = Schema((Field("n", pa.int64()), Field("word", pa.string(), nullable=True)))


@st.composite
def texts(draw, *, nullable=True, encoded=EITHER):
    """Values and an array of them: plain, or over a dictionary with more entries than are used; perhaps a slice."""
    entries = draw(st.permutations(WORDS))[: draw(st.integers(1, len(WORDS)))]
    value = st.sampled_from([*entries, None] if nullable else entries)
    values = draw(st.lists(value, max_size=10))
    if draw(encoded):
        indices = [None if v is None else entries.index(v) for v in values]
        array = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(entries, pa.string()))
    else:
        array = pa.array(values, pa.string())
    start = draw(st.integers(0, len(values)))
    return values[start:], array[start:]


def columns_of(array):
    return Columns(SCHEMA, {"n": np.arange(len(array)), "word": array})


def words_of(columns):
    assert columns.schema == SCHEMA
    assert columns["word"].type == pa.string()
    return columns["word"].to_pylist()


@given(texts(), st.data())
@settings(max_examples=150, deadline=None)
def test_every_operation_gives_what_it_gives_for_plain_text(text, data):
    values, array = text
    columns = columns_of(array)
    assert words_of(columns) == values
    assert [row.word for row in columns.to_rows()] == values
    assert columns.to_arrow().schema == SCHEMA.arrow
    assert columns.to_arrow().column("word").to_pylist() == values
    batch = pa.record_batch([pa.array(columns["n"]), array], names=["n", "word"])
    assert words_of(Columns.from_arrow(batch, SCHEMA)) == values
    assert columns == columns_of(pa.array(values, pa.string()))
    assert columns_of(pa.array(values, pa.string())) == columns
    indices = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=9)) if values else []
    assert words_of(columns.take(np.array(indices, np.int64))) == [values[i] for i in indices]
    mask = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    assert words_of(columns.filter(np.array(mask, bool))) == [v for v, kept in zip(values, mask, strict=True) if kept]
    middle = len(values) // 2
    assert words_of(columns.slice(middle, len(values))) == values[middle:]
    assert columns.select("word")["word"].to_pylist() == values
    assert to_columns(columns, SCHEMA) is columns
    assert to_rows(columns) == columns.to_rows()


@given(st.lists(texts(), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_concat_of_any_mixture(parts):
    values = [value for part, _ in parts for value in part]
    batches = [columns_of(array) for _, array in parts]
    assert all(same_form(batches[0], batch) for batch in batches)
    assert words_of(concat(batches)) == values


@given(texts(nullable=False))
@settings(max_examples=60, deadline=None)
def test_keys_hash_alike_in_both_forms(text):
    values, array = text
    columns = columns_of(array)
    expected = hash_keys(values).tolist()
    assert KeySelector("word").hashes(columns).tolist() == expected
    pairs = hash_keys(list(zip(values, range(len(values)), strict=True))).tolist()
    assert KeySelector(("word", "n")).hashes(columns).tolist() == pairs


def test_hashes_follow_when_the_dictionary_changes():
    selector = KeySelector("word")
    for entries in (["a", "b", "c"], ["c", "b", "a"], ["a", "b", "c"]):
        dictionary = pa.array(entries)
        for indices in ([2, 0], [1, 1, 0], [2]):  # fewer records than entries first, then more
            words = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), dictionary)
            got = selector.hashes(Columns.of(word=words)).tolist()
            assert got == hash_keys([entries[i] for i in indices]).tolist()


def test_work_on_a_whole_dictionary_pays_once_its_records_outnumber_its_entries():
    use = DictionaryUse()
    words = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array(list("abcde")))
    assert not use.pays
    seen = []
    for _ in range(4):
        seen.append((use.meets(words), use.pays))
    assert seen == [(False, False), (True, False), (True, True), (True, True)]
    other = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array(["x", "y"]))
    assert (use.meets(other), use.pays) == (False, False)


def test_an_entry_that_no_record_has_is_no_key():
    table = ColumnarTable(ColumnarState("count", Schema.of(n=int)))
    words = pa.DictionaryArray.from_arrays(pa.array([2, 0, 2], pa.int32()), pa.array(["a", "unused", "c"]))
    slots = table.slots(words)
    assert len(table) == 2
    assert slots[0] == slots[2] != slots[1]


def test_pieces_of_one_dictionary_keep_it():
    big = pa.array([str(i) for i in range(1000)])
    first, second = (pa.DictionaryArray.from_arrays(pa.array(i, pa.int32()), big) for i in ([1, 2], [999]))
    joined = concat_arrays([first, second])
    assert dictionary_id(joined) == dictionary_id(first)
    assert joined.to_pylist() == ["1", "2", "999"]


def test_large_dictionaries_are_not_joined_for_a_few_records():
    first, second = (
        pa.DictionaryArray.from_arrays(pa.array([7], pa.int32()), pa.array([f"{side}{i}" for i in range(1000)]))
        for side in "ab"
    )
    assert not is_dictionary(concat_arrays([first, second]))
    small = [pa.array(["x", "y", "y", "x"]).dictionary_encode(), pa.array(["y", "z", "z", "z"]).dictionary_encode()]
    joined = concat_arrays(small)
    assert is_dictionary(joined)
    assert sorted(joined.dictionary.to_pylist()) == ["x", "y", "z"]


def test_the_type_of_the_field_is_that_of_the_values():
    words = pa.array(["x", "y"]).dictionary_encode()
    assert str(Columns.of(word=words).schema) == "(word: string)"
    assert str(Columns.of(word=pa.array(["x", None]).dictionary_encode()).schema) == "(word: string?)"
    columns = columns_of(pa.array(["a", "b"]))
    assert columns.with_columns(word=words).schema is columns.schema
    assert is_dictionary(columns.with_columns(word=words).encoded("word"))
    assert not is_dictionary(columns.with_columns(word=words)["word"])


def test_other_indices_and_a_missing_entry_are_brought_into_form():
    words = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), pa.array(["x", "y"]))
    assert Columns.of(word=words).encoded("word").type == pa.dictionary(pa.int32(), pa.string())
    with_null = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int32()), pa.array(["x", None]))
    columns = Columns.of(word=with_null)
    assert columns["word"].to_pylist() == [None, "x"]
    assert columns.schema.fields[0].nullable


def test_a_decoded_column_can_be_computed_with():
    columns = Columns.of(word=pa.array(["Ab", "c"]).dictionary_encode())
    assert pc.utf8_upper(columns["word"]).to_pylist() == ["AB", "C"]


@pytest.mark.parametrize("indices", [pa.int8(), pa.int64(), pa.uint16()])
def test_whatever_a_function_makes_is_held_in_one_form(indices):
    words = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1], indices), pa.array(["a", "b"]))
    columns = Columns(Schema.of(word=str, n=int), {"word": words, "n": pa.array([1, 2, 3])})
    assert columns.encoded("word").indices.type == pa.int32()
    assert columns["word"].to_pylist() == ["b", "a", "b"]
    assert isinstance(columns["n"], np.ndarray)


def test_an_arrow_type_that_is_not_the_fields_is_cast():
    columns = Columns(Schema.of(word=str), {"word": pa.array(["a", None], pa.large_string())})
    assert columns["word"].type == pa.string()
    with pytest.raises(ValueError, match="lacks values"):
        Columns(Schema.of(n=int), {"n": pa.array([1, None])})
