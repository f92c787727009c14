"""group_rows against NumPy's stable argsort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.kernels.partition import group_rows, split_by_number


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), max_size=60))))
@settings(max_examples=80, deadline=None)
def test_against_argsort(dtype, case):
    n_targets, values = case
    targets = np.array(values, dtype)
    order, starts = group_rows(targets, n_targets)
    assert order.dtype == starts.dtype == np.int64
    assert np.array_equal(order, np.argsort(targets, kind="stable"))
    assert np.array_equal(starts, np.searchsorted(np.sort(targets), np.arange(n_targets + 1)))


def test_large():
    targets = np.random.default_rng(7).integers(0, 100, 50_000).astype(np.int32)
    order, starts = group_rows(targets, 100)
    assert np.array_equal(order, np.argsort(targets, kind="stable"))
    assert starts[-1] == 50_000


@given(st.lists(st.one_of(st.integers(-3, 3), st.integers(0, 40), st.integers(-(2**63), 2**63 - 1)), min_size=1))
@settings(max_examples=200, deadline=None)
def test_split_by_number(numbers):
    values = np.arange(len(numbers), dtype=np.int64) * 3
    expected = {}
    for value, number in zip(values.tolist(), numbers, strict=True):
        expected.setdefault(number, []).append(value)
    found = split_by_number(values, np.array(numbers, np.int64))
    assert [(number, part.tolist()) for number, part in found] == sorted(expected.items())
    assert all(part.base is not values and part is not values for _, part in found)
