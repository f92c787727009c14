"""Accumulators: what is kept, and that merging parts is adding all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Columns
from streamcore.state.accumulators import COUNT, Accumulator

NAN = math.nan
KINDS = {"sum": sum, "min": min, "max": max}


def run(accumulator, values, cuts=()):
    """The total of one entry, from parts that were accumulated apart and merged."""
    total = np.full(1, accumulator.initial, accumulator.dtype)
    for part in np.split(np.array(values), list(cuts)):
        partial = np.full(1, accumulator.initial, accumulator.dtype)
        accumulator.add([partial], np.zeros(len(part), np.int64), Columns.of(v=part))
        accumulator.merge([total], np.zeros(1, np.int64), [partial])
    return total[0]


@settings(deadline=None)
@given(st.lists(st.integers(-(1 << 40), 1 << 40), min_size=1), st.lists(st.integers(0, 50), max_size=3).map(sorted))
def test_merged_parts_are_the_whole(values, cuts):
    for kind, reference in KINDS.items():
        assert run(Accumulator(kind, "v"), values, cuts) == reference(values)
        assert run(Accumulator(kind, "v", True), [float(v) for v in values], cuts) == reference(values)
    assert run(COUNT, values, cuts) == len(values)


def test_a_part_of_nothing_but_nan_hides_nothing():
    for kind, expected in (("min", -2.0), ("max", 3.0)):
        assert run(Accumulator(kind, "v", True), [NAN, NAN, 3.0, NAN, -2.0, NAN], [2, 5]) == expected
        assert math.isnan(run(Accumulator(kind, "v", True), [NAN, NAN], [1]))
    assert math.isnan(run(Accumulator("sum", "v", True), [1.0, NAN]))


def test_infinities_are_values():
    assert run(Accumulator("min", "v", True), [math.inf]) == math.inf
    assert run(Accumulator("max", "v", True), [-math.inf, NAN]) == -math.inf


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint32, np.float16, np.float32])
def test_narrow_fields_are_kept_wide(dtype):
    is_float = np.dtype(dtype).kind == "f"
    values = np.array([1, 1, 0], dtype)
    assert run(Accumulator("sum", "v", is_float), np.repeat(values, 200)) == 400
    assert Accumulator("sum", "v", is_float).dtype == (np.float64 if is_float else np.int64)


def test_extreme_integers():
    lowest, highest = -(1 << 63), (1 << 63) - 1
    assert run(Accumulator("min", "v"), [highest]) == highest
    assert run(Accumulator("max", "v"), [lowest]) == lowest


def test_names():
    assert [COUNT.name, Accumulator("sum", "v").name, Accumulator("min", "a_b").name] == ["count", "sum_v", "min_a_b"]
