"""group_rows against NumPy's stable argsort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.kernels.partition import group_rows


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
