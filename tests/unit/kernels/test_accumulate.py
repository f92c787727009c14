"""Accumulating kernels against plain Python."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.kernels.accumulate import (
    add_ones,
    add_values,
    floor_divide,
    keep_highest,
    keep_lowest,
    number_rows,
    rows_by_key,
)

NAN = float("nan")
ENTRIES = np.array([0, 1, 0, 2, 1])


def test_counts_and_sums():
    counts, sums = np.zeros(3, np.int64), np.zeros(3)
    add_ones(counts, ENTRIES)
    add_values(sums, ENTRIES, np.array([1.5, 2.0, 3.0, 4.0, 5.0]))
    assert counts.tolist() == [2, 2, 1]
    assert sums.tolist() == [4.5, 7.0, 4.0]


def test_sums_of_integers_wrap_round():
    sums = np.full(1, (1 << 63) - 1)
    add_values(sums, np.zeros(1, np.int64), np.ones(1, np.int64))
    assert sums.tolist() == [-(1 << 63)]


def test_lowest_and_highest_leave_nan_out():
    values = np.array([NAN, 2.0, 3.0, NAN, -1.0])
    lowest, highest = np.full(3, NAN), np.full(3, NAN)
    keep_lowest(lowest, ENTRIES, values)
    keep_highest(highest, ENTRIES, values)
    assert lowest[:2].tolist() == [3.0, -1.0]
    assert highest[:2].tolist() == [3.0, 2.0]
    assert np.isnan([lowest[2], highest[2]]).all()  # nothing but NaN


def test_lowest_and_highest_of_integers():
    lowest, highest = np.full(3, 10), np.full(3, -10)
    keep_lowest(lowest, ENTRIES, np.array([4, 2, 3, 20, -1]))
    keep_highest(highest, ENTRIES, np.array([4, 2, 3, -20, -1]))
    assert lowest.tolist() == [3, -1, 10]
    assert highest.tolist() == [4, 2, -10]


@settings(deadline=None)
@given(st.lists(st.integers(-(1 << 40), 1 << 40)), st.integers(-1000, 1000), st.integers(1, 5000))
def test_division_rounds_down(values, offset, divisor):
    found = floor_divide(np.array(values, np.int64), offset, divisor)
    assert found.tolist() == [(value - offset) // divisor for value in values]


@settings(deadline=None)
@given(st.lists(st.integers(0, 9)))
def test_rows_are_numbered_by_first_appearance(keys):
    row_of, distinct = np.full(10, -1), np.empty(len(keys), np.int64)
    rows, count = rows_by_key(np.array(keys, np.int64), row_of, distinct)
    expected = list(dict.fromkeys(keys))
    assert distinct[:count].tolist() == expected
    assert rows.tolist() == [expected.index(key) for key in keys]
    assert (row_of == -1).all()


def test_rows_are_numbered_on():
    row_of, distinct = np.full(10, -1), np.empty(6, np.int64)
    rows, count = number_rows(np.array([7, 2, 7]), row_of, distinct, 0)
    assert (rows.tolist(), count) == ([0, 1, 0], 2)
    rows, count = number_rows(np.array([3, 2, 9]), row_of, distinct, count)
    assert (rows.tolist(), count) == ([2, 1, 3], 4)
    assert distinct[:count].tolist() == [7, 2, 3, 9]
    assert np.flatnonzero(row_of >= 0).tolist() == [2, 3, 7, 9]
