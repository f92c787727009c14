"""TextIndex against a dictionary: slots in order of first appearance, whatever the layout of the words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.kernels.text_index import TextIndex

WORDS = st.one_of(
    st.none(),
    st.text(alphabet="ab\0ü", max_size=4),
    st.integers(0, 40).map(lambda n: "x" * n),
    st.integers(0, 40).map(lambda n: "x" * n + "y" + "x" * (40 - n)),
)
TYPES = [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.string())]


def expected(model, words):
    return [model.setdefault(word, len(model)) for word in words]


def array_of(words, type_):
    plain = pa.array(["unused", *words, "unused"], type_.value_type if pa.types.is_dictionary(type_) else type_)
    return (plain.cast(type_) if pa.types.is_dictionary(type_) else plain)[1:-1]


@given(st.lists(st.tuples(st.lists(WORDS, max_size=60), st.sampled_from(TYPES)), max_size=8))
@settings(max_examples=150, deadline=None)
def test_slots_and_keys_in_order_of_first_appearance(batches):
    index, model = TextIndex(capacity=4), {}
    for words, type_ in batches:
        known = dict(model)
        array = array_of(words, type_)
        assert index.find(array).tolist() == [known.get(word, -1) for word in words]
        before = index.size
        assert index.slots(array).tolist() == expected(model, words)
        assert index.keys_from(before).to_pylist() == list(model)[before:]
        assert index.find(array).tolist() == [model[word] for word in words]
    assert index.keys.to_pylist() == list(model)
    assert index.size == len(model)


def test_many_words_over_growth():
    words = [f"{n}" * (1 + n % 9) for n in range(20_000)]
    index, model = TextIndex(), {}
    for start in range(0, 20_000, 977):
        index.slots(pa.array(words[start : start + 977]))
    assert index.slots(pa.array(words)).tolist() == expected(model, words)
    assert index.keys.to_pylist() == list(model)


@pytest.mark.parametrize("length", [65_534, 65_535, 65_536, 70_000])
def test_long_words_that_differ_at_the_end_or_in_length_alone(length):
    words = ["x" * length, "x" * (length + 1), "x" * (length - 1) + "y", "y" + "x" * (length - 1), "x" * length]
    assert TextIndex().slots(pa.array(words)).tolist() == [0, 1, 2, 3, 0]


def test_bytes():
    words = [b"\xff\xfe", b"", b"\0", b"\0\0", b"\xff\xfe"]
    index = TextIndex(is_binary=True)
    assert index.slots(pa.array(words, pa.binary())).tolist() == [0, 1, 2, 3, 0]
    assert index.slots(pa.array(words, pa.large_binary())).tolist() == [0, 1, 2, 3, 0]
    assert index.keys.to_pylist() == words[:4]


def test_entries_of_a_dictionary_that_no_record_has_get_no_slot():
    words = pa.array(["a", "b", "c", "d"]).dictionary_encode()
    index = TextIndex()
    assert index.slots(words.take(pa.array([3, 1]))).tolist() == [0, 1]
    assert index.keys.to_pylist() == ["d", "b"]
    assert index.slots(words).tolist() == [2, 1, 3, 0]


def test_a_missing_value_in_the_dictionary_itself_is_the_same_key_as_a_missing_code():
    words = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 2], pa.int8()), pa.array(["a", None, "b"]))
    index = TextIndex()
    assert index.slots(words).tolist() == [0, 1, 1, 2]
    assert index.keys.to_pylist() == ["a", None, "b"]


def test_a_dictionary_that_grows_and_ones_that_take_turns():
    index, model = TextIndex(), {}
    texts = [f"word-{n}" for n in range(500)]
    rng = np.random.default_rng(5)
    others = [pa.array([f"other-{n}-{i}" for i in range(20)]) for n in range(30)]
    for size in range(20, 500, 20):
        for dictionary in (pa.array(texts[:size]), others[size % 30], others[(size + 7) % 30]):
            codes = rng.integers(0, len(dictionary), 100, np.int32)
            array = pa.DictionaryArray.from_arrays(codes, dictionary)
            assert index.slots(array).tolist() == expected(model, array.to_pylist())
    assert index.keys.to_pylist() == list(model)


def test_dictionaries_at_one_address_after_another_are_not_mistaken():
    index, model = TextIndex(), {}
    for turn in range(200):  # freed memory is given out again at once
        array = pa.array([f"w{turn}-{i}" for i in range(10)]).dictionary_encode()
        assert index.slots(array).tolist() == expected(model, array.to_pylist())
        del array


def test_the_keys_are_a_copy():
    index = TextIndex()
    index.slots(pa.array(["a", "b"]))
    keys = index.keys
    index.slots(pa.array([str(n) for n in range(1000)]))
    assert keys.to_pylist() == ["a", "b"]
