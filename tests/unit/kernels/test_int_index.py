"""IntIndex against a dictionary: slots in order of first appearance, over growth."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.kernels import index as module
from streamcore.kernels.index import IntIndex

KEY = st.one_of(st.integers(-20, 20), st.integers(-(2**63), 2**63 - 1))


@given(st.lists(st.lists(KEY, max_size=80), max_size=8), st.sampled_from([2, 4, 64]))
@settings(max_examples=150, deadline=None)
def test_against_a_dictionary(batches, capacity):
    index, model = IntIndex(capacity), {}
    for batch in batches:
        keys = np.array(batch, np.int64)
        assert index.find(keys).tolist() == [model.get(key, -1) for key in batch]
        expected = [model.setdefault(key, len(model)) for key in batch]
        assert index.slots(keys).tolist() == expected
        assert index.find(keys).tolist() == expected
        assert index.size == len(model)
        assert index.keys.tolist() == list(model)


@given(st.lists(st.lists(KEY, max_size=80), max_size=8), st.sampled_from([2, 4, 64]), st.sampled_from([1, 7, 50]))
@settings(max_examples=150, deadline=None)
def test_a_table_that_moves_bit_by_bit(batches, capacity, moved):
    with patch.multiple(module, _LARGE=2, _MOVED=moved, _RESERVED=100):
        test_against_a_dictionary.hypothesis.inner_test(batches, capacity)


def test_a_large_table_moves_a_part_in_each_call():
    keys, moved, move = np.random.default_rng(1).permutation(1 << 14), [], module._move

    def counting(slot_keys, start, stop, table):
        moved.append(stop - start)
        move(slot_keys, start, stop, table)

    with patch.multiple(module, _LARGE=100, _MOVED=64, _move=counting):
        index = IntIndex()
        for start in range(0, len(keys), 10):
            index.slots(keys[start : start + 10])
            assert np.array_equal(index.find(keys[: start + 10]), np.arange(min(start + 10, len(keys))))
    assert sum(moved) > len(keys) // 2
    assert max(moved) == 64


@pytest.mark.parametrize("step", [1, -1, 1 << 17, 1 << 40])
def test_many_keys_in_one_call_and_in_many(step):
    keys = np.arange(20_000, dtype=np.int64) * step
    at_once, bit_by_bit = IntIndex(), IntIndex()
    assert at_once.slots(keys).tolist() == list(range(20_000))
    for start in range(0, 20_000, 977):
        bit_by_bit.slots(keys[start : start + 977])
    assert np.array_equal(at_once.keys, keys)
    assert np.array_equal(bit_by_bit.keys, keys)
    assert at_once.find(np.array([step * 20_001])).tolist() == [-1]


def test_the_ends_of_int64_are_keys_like_others():
    keys = np.array([-(2**63), 2**63 - 1, 0, -1, -(2**63)], np.int64)
    assert IntIndex().slots(keys).tolist() == [0, 1, 2, 3, 0]


def test_strided_keys():
    assert IntIndex().slots(np.arange(10, dtype=np.int64)[::3]).tolist() == [0, 1, 2, 3]
