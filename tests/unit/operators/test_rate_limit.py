"""rate_limit against a bucket of tokens in exact fractions, and through a restore."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import OutputTag, Schema, StreamEnvironment, minutes, seconds
from streamcore.operators.rate_limit import RateLimitError, rate_limit

EVENT = Schema.of(name=str, number=int, time=np.int64)
events = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.integers(-3000, 9000)), max_size=40)


def by_tokens(rows, every_ms, at_once, key):
    """(row, how many were held back before it) of each that passes, and the others."""
    tokens, latest, waiting, passed, excess = {}, {}, Counter(), [], []
    for row in rows:
        k, now = key(row), row[-1]
        before = latest.get(k, now)
        latest[k] = max(before, now)
        tokens[k] = min(Fraction(at_once), tokens.get(k, at_once) + Fraction(latest[k] - before, every_ms))
        if tokens[k] >= 1:
            tokens[k] -= 1
            passed.append((*row, waiting.pop(k, 0)))
        else:
            waiting[k] += 1
            excess.append(row)
    return passed, excess


@settings(max_examples=60, deadline=None)
@given(events, st.sampled_from([1, 3, 16384]), st.integers(1, 3000), st.integers(1, 4))
def test_like_a_bucket_of_tokens(rows, batch_size, every_ms, at_once):
    rows.sort(key=lambda row: row[-1])
    tag = OutputTag("excess", EVENT)
    env = StreamEnvironment(batch_size=batch_size)
    stream = env.from_values(rows, EVENT)
    limited = rate_limit(stream, ("name", "number"), every=every_ms / 1000, at_once=at_once, excess=tag)
    union = limited.union(limited.side_output(tag).with_columns(held_back=-1))
    passed, excess = by_tokens(rows, every_ms, at_once, lambda row: row[:2])
    found = list(map(tuple, union.execute_and_collect()))
    assert [row for row in found if row[-1] >= 0] == passed
    assert [row[:-1] for row in found if row[-1] < 0] == excess


@settings(max_examples=60, deadline=None)
@given(events, st.integers(1, 3000), st.integers(1, 4))
def test_a_record_out_of_order_is_taken_as_of_the_latest(rows, every_ms, at_once):
    stream = StreamEnvironment().from_values(rows, EVENT)
    found = rate_limit(stream, "name", every=every_ms / 1000, at_once=at_once).execute_and_collect()
    assert list(map(tuple, found)) == by_tokens(rows, every_ms, at_once, lambda row: row[0])[0]


def test_a_token_comes_exactly_when_it_is_due():
    """In floats, ten times 0.1 tokens would be less than one."""
    stream = StreamEnvironment().from_values([("a", 0, 1000 * n) for n in range(31)], EVENT)
    found = rate_limit(stream, "name", every=seconds(10)).execute_and_collect()
    assert [(record.time, record.held_back) for record in found] == [(0, 0), (10_000, 9), (20_000, 9), (30_000, 9)]


def test_what_can_not_be():
    stream = StreamEnvironment().from_values([("a", 0, 0)], EVENT)
    for by, options in (
        ("colour", {"every": 1}),
        ((), {"every": 1}),
        ("name", {"every": 0}),
        ("name", {"every": float("nan")}),
        ("name", {"every": 1, "at_once": 0}),
        ("name", {"every": 1, "time": "name"}),
    ):
        with pytest.raises(RateLimitError, match="rate_limit"):
            rate_limit(stream, by, **options)
    with pytest.raises(RateLimitError, match="already"):
        rate_limit(rate_limit(stream, "name", every=minutes(1)), "name", every=minutes(1))
