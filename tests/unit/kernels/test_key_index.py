"""KeyIndex against a dictionary: any form of keys, forms that change on the way, tuple keys field by field."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.kernels.hashing import hash_key, hash_keys
from streamcore.kernels.key_columns import KeyColumns, as_list
from streamcore.kernels.key_index import KeyIndex

TEXT = st.text(alphabet="ab", max_size=3)
SMALL = st.integers(-3, 3)


def expected(model, keys):
    return [model.setdefault(key, len(model)) for key in keys]


def columns_of(tuples):
    return KeyColumns([list(field) for field in zip(*tuples, strict=True)])


FORMS = {
    "list": (st.one_of(SMALL, TEXT, st.none(), st.floats(-2, 2).map(round), st.booleans()), list),
    "ints": (SMALL, lambda keys: np.array(keys, np.int64)),
    "small": (SMALL, lambda keys: np.array(keys, np.int16)),
    "unsigned": (st.integers(0, 2**64 - 1), lambda keys: np.array(keys, np.uint64)),
    "floats": (st.sampled_from([0.5, 1.0, 2.0]), lambda keys: np.array(keys, float)),
    "arrow ints": (st.one_of(SMALL, st.none()), lambda keys: pa.array(keys, pa.int64())),
    "text": (st.one_of(TEXT, st.none()), lambda keys: pa.array(keys, pa.string())),
    "words": (TEXT, list),
    "numpy text": (TEXT.filter(bool), np.array),
    "bytes": (st.binary(max_size=2), list),
    "tuples": (st.tuples(SMALL, TEXT), list),
    "triples": (st.tuples(SMALL, SMALL, SMALL), columns_of),
    "columns": (st.tuples(SMALL, st.one_of(TEXT, st.none())), columns_of),
}


@st.composite
def batches(draw):
    form = draw(st.sampled_from(sorted(FORMS)))
    keys, make = FORMS[form]
    values = draw(st.lists(keys, min_size=1, max_size=20))
    return values, make(values)


@given(st.lists(batches(), max_size=6))
@settings(max_examples=300, deadline=None)
def test_keys_of_any_form_in_any_order_share_slots_as_in_a_dictionary(given):
    index, model = KeyIndex(), {}
    for values, keys in given:
        assert index.find(keys).tolist() == [model.get(value, -1) for value in values]
        before = index.size
        assert index.slots(keys).tolist() == expected(model, values)
        assert as_list(index.keys_from(before)) == list(model)[before:]
    assert as_list(index.keys) == list(model)
    assert index.size == len(model)


@given(st.data(), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_tuple_keys_field_by_field(data, width):
    rows = st.lists(st.tuples(*[SMALL if i % 2 else TEXT for i in range(width)]), min_size=1, max_size=80)
    index, model = KeyIndex(), {}
    for _ in range(3):
        tuples = data.draw(rows)
        fields = [
            np.array(field, np.int64) if i % 2 else pa.array(field).dictionary_encode()
            for i, field in enumerate(zip(*tuples, strict=True))
        ]
        assert index.find(KeyColumns(fields)).tolist() == [model.get(key, -1) for key in tuples]
        assert index.slots(KeyColumns(fields)).tolist() == expected(model, tuples)
    assert index.keys.to_pylist() == list(model)
    assert hash_keys(index.keys).tolist() == [hash_key(key) for key in model]


def test_empty_batches_decide_nothing():
    index = KeyIndex()
    assert index.slots([]).tolist() == []
    assert index.keys.tolist() == []
    assert index.slots(np.array(["a"])).tolist() == [0]
    assert index.find([]).tolist() == []


@pytest.mark.parametrize("keys", [[2**70, 1], ["\ud800", "a"], [(), ()], [(1,), (1, 2)], [None, 1.5]])
def test_keys_without_a_compiled_form(keys):
    index = KeyIndex()
    assert index.slots(keys).tolist() == expected({}, keys)
    assert as_list(index.keys) == list(dict.fromkeys(keys))


def test_key_columns_of_unequal_length_are_refused():
    with pytest.raises(AssertionError, match=r"key fields of lengths \[2, 1\]"):
        KeyColumns([np.array([1, 2]), pa.array(["a"])])


def test_nan_is_one_key():
    index = KeyIndex()
    assert index.slots(np.array([np.nan, 1.5, np.nan])).tolist() == [0, 1, 0]
    assert index.slots([float("nan"), 1.5]).tolist() == [0, 1]
