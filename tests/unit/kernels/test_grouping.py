"""Grouping rows by entry, keeping the best, and exact quantiles: compared with NumPy and plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.kernels.grouping import interpolated_quantiles, keep_better, number_entries

ENTRIES = st.lists(st.one_of(st.integers(0, 5), st.integers(0, 1 << 40)), max_size=60)


@settings(deadline=None)
@given(ENTRIES)
def test_entries_are_numbered_in_order_of_first_appearance(entries):
    distinct, numbers = number_entries(np.array(entries, np.int64))
    assert distinct.tolist() == list(dict.fromkeys(entries))
    assert distinct[numbers].tolist() == entries


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3), st.integers(0, 2)), max_size=40),
    st.booleans(),
    st.booleans(),
    st.sampled_from([np.int64, np.float64]),
)
def test_the_best_is_kept_and_named(rows, lowest, last, dtype):
    entries, order, weights = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    counts, best = np.zeros(4, np.int64), np.zeros(4, dtype)
    winners = keep_better(counts, best, entries, order.astype(dtype), weights, lowest, last)
    for entry in range(4):
        mine = [i for i in range(len(rows)) if entries[i] == entry and weights[i]]
        assert counts[entry] == sum(weights[i] for i in mine)
        won = [i for i in winners.tolist() if entries[i] == entry]
        if mine:
            wanted = (min if lowest else max)(order[i] for i in mine)
            equal = [i for i in mine if order[i] == wanted]
            assert best[entry] == wanted
            assert won[-1] == (equal[-1] if last else equal[0])
        else:
            assert won == []


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=9), max_size=5), st.floats(0, 1))
def test_quantiles_are_those_of_numpy(groups, q):
    starts = np.cumsum([0, *map(len, groups)])
    got = interpolated_quantiles(np.array([x for group in groups for x in group], np.float64), starts, q)
    wanted = [np.quantile(group, q) if group else np.nan for group in groups]
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_quantiles_of_infinities(q):
    got = interpolated_quantiles(np.array([np.inf, -np.inf, 3.0]), np.array([0, 3]), q)
    assert got.tolist() == [{0.0: -np.inf, 0.5: 3.0, 1.0: np.inf}[q]]
