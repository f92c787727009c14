"""Partial results, combined, are the results of the whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Schema, StreamEnvironment
from streamcore.operators.partial_aggregate import PartialAggregateError, combined, partial_aggregate

SALE = Schema.of(shop=str, day=int, price=float, pieces=int)
PARTS = {
    "total": ("price", "sum"),
    "n": ("price", "count"),
    "least": ("pieces", "min"),
    "most": ("price", "max"),
    "pieces": ("pieces", "sum"),
}
sales = st.lists(
    st.tuples(st.sampled_from("xyz"), st.integers(0, 1), st.integers(-9, 9).map(float), st.integers(-5, 5))
)


@settings(max_examples=30, deadline=None)
@given(sales, st.integers(1, 9), st.integers(1, 2))
def test_combined_they_are_those_of_all_records(rows, batch_size, parallelism):
    stream = StreamEnvironment(batch_size=batch_size, parallelism=parallelism).from_values(rows, SALE)
    partial = partial_aggregate(stream, ("shop", "day"), **PARTS)
    found = partial.key_by(("shop", "day")).aggregate(**combined(PARTS)).execute_and_collect()
    groups = {}
    for row in rows:
        groups.setdefault(row[:2], []).append(row[2:])
    expected = []
    for key, group in groups.items():
        prices, pieces = zip(*group, strict=True)
        expected.append((*key, sum(prices), len(group), min(pieces), max(prices), sum(pieces)))
    assert sorted(map(tuple, found)) == sorted(expected)


def test_there_is_one_result_for_each_key_of_a_batch():
    rows = [("x", 0, 1.0, 1)] * 8 + [("y", 0, 1.0, 1)] * 8
    stream = StreamEnvironment(batch_size=16).from_values(rows, SALE)
    found = partial_aggregate(stream, "shop", n=("price", "count")).execute_and_collect()
    assert sorted(map(tuple, found)) == [("x", 8), ("y", 8)]


@pytest.mark.parametrize(
    ("by", "parts", "message"),
    [
        ("town", {"n": ("price", "count")}, "'town'"),
        ("shop", {}, "needs parts"),
        ("shop", {"shop": ("price", "sum")}, "otherwise than the key"),
        ("shop", {"n": ("price", "mean")}, "no 'mean'"),
        ("shop", {"n": ("shop", "sum")}, "'shop' must be a plain number"),
    ],
)
def test_wrong_arguments_are_refused(by, parts, message):
    with pytest.raises(PartialAggregateError, match=message):
        partial_aggregate(StreamEnvironment().from_values([], SALE), by, **parts)
