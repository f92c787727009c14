"""Folds of the user's own functions: with windows and without, compiled and interpreted, in one stage and in two."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import StreamEnvironment, bounded_out_of_orderness, seconds, sliding, tumbling
from streamcore.errors import StreamcoreError, TopologyError


class Reading(NamedTuple):
    sensor: str
    time: int
    value: float


class Moments(NamedTuple):
    n: int
    total: float
    squares: float


class Spread(NamedTuple):
    mean: float
    deviation: float


START = Moments(0, 0.0, 0.0)


def add(m, r):
    return Moments(m.n + 1, m.total + r.value, m.squares + r.value * r.value)


def merge(a, b):
    return Moments(a.n + b.n, a.total + b.total, a.squares + b.squares)


def spread(m):
    mean = m.total / m.n
    return Spread(mean, math.sqrt(max(m.squares / m.n - mean * mean, 0.0)))


def readings(env, rows, bound=100):
    return env.from_values(rows, Reading).assign_watermarks(bounded_out_of_orderness("time", seconds(bound)))


def expected(rows, size, every):
    groups: dict = {}
    for sensor, time, value in rows:
        for start in range((time - size) // every * every + every, time + 1, every):
            groups.setdefault((sensor, start, start + size), []).append(value)
    return groups


ROWS = st.lists(
    st.builds(Reading, st.sampled_from("ab"), st.integers(0, 9000), st.integers(-40, 40).map(float)), max_size=40
)


@settings(max_examples=20, deadline=None)
@given(
    ROWS,
    st.sampled_from([(2000, 2000), (3000, 1000)]),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.sampled_from([None, False]),
)
def test_a_fold_is_the_aggregate_of_each_window(rows, lengths, parallelism, two_stage, compiled):
    size, every = lengths
    env = StreamEnvironment(parallelism=parallelism, two_stage=two_stage)
    windows = sliding(seconds(size / 1000), every=seconds(every / 1000))
    stream = readings(env, rows).key_by("sensor").window(windows)
    results = stream.fold(START, add, merge=merge, result=spread, returns=Spread, compiled=compiled)
    found = {tuple(row[:3]): tuple(row[3:]) for row in results.execute_and_collect()}
    groups = expected(rows, size, every)
    assert found.keys() == groups.keys()
    for place, values in groups.items():
        mean = sum(values) / len(values)
        variance = sum(value * value for value in values) / len(values) - mean * mean
        assert found[place] == pytest.approx((mean, math.sqrt(max(variance, 0.0))), abs=1e-9)


def test_without_result_the_state_is_the_result_and_without_windows_there_is_one_a_key():
    env = StreamEnvironment(parallelism=2)
    rows = [Reading("a", 1, 2.0), Reading("b", 1, 3.0), Reading("a", 2, 4.0)]
    totals = env.from_values(rows, Reading).key_by("sensor").fold(START, add, merge=merge)
    assert sorted(map(tuple, totals.execute_and_collect())) == [("a", 2, 6.0, 20.0), ("b", 1, 3.0, 9.0)]


def test_without_merge_records_are_added_in_order_and_in_one_stage():
    env = StreamEnvironment(parallelism=2)
    rows = [Reading("a", i, float(i)) for i in range(1, 200)]
    stream = env.from_values(rows, Reading).key_by("sensor")
    stream = stream.fold((0.0, 0), lambda s, r: (0.5 * s[0] + r.value, s[1] + 1))
    assert "partial" not in env.describe()
    decayed = 0.0
    for row in rows:
        decayed = 0.5 * decayed + row.value
    assert stream.execute_and_collect() == [("a", decayed, 199)]


def test_overlapping_windows_need_merge():
    stream = readings(StreamEnvironment(), []).key_by("sensor").window(sliding(seconds(3), every=seconds(1)))
    with pytest.raises(TopologyError, match=r"test_folds\.py:\d+.*overlap") as error:
        stream.fold(START, add)
    assert "merge=" in error.value.hint


def test_a_state_that_is_no_numbers_is_refused():
    keyed = StreamEnvironment().from_values([], Reading).key_by("sensor")
    with pytest.raises(TopologyError, match=r"test_folds\.py:\d+"):
        keyed.fold([], lambda state, r: [*state, r])


def test_the_type_of_the_results_must_be_known():
    keyed = StreamEnvironment().from_values([], Reading).key_by("sensor")
    with pytest.raises(TopologyError, match="type of the results") as error:
        keyed.fold(START, add, result=spread)
    assert "returns=" in error.value.hint


def test_compiled_true_refuses_what_cannot_be_compiled():
    keyed = StreamEnvironment().from_values([], Reading).key_by("sensor")
    with pytest.raises(TopologyError, match="can't be compiled"):
        keyed.fold(0, lambda state, r: state + len(r.sensor), compiled=True)


def test_what_cannot_be_compiled_is_interpreted():
    rows = [Reading("ab", 1, 2.0), Reading("ab", 2, 2.0)]
    keyed = StreamEnvironment().from_values(rows, Reading).key_by("sensor").window
    with pytest.raises(TopologyError, match="no event time"):
        keyed(tumbling(seconds(1)))
    lengths = StreamEnvironment().from_values(rows, Reading).key_by("sensor").fold(0, lambda n, r: n + len(r.sensor))
    assert lengths.execute_and_collect() == [("ab", 4)]


def test_a_users_exception_names_the_record():
    rows = [Reading("a", 1, 1.0), Reading("a", 2, 0.0)]
    stream = StreamEnvironment().from_values(rows, Reading).key_by("sensor").fold(0.0, lambda s, r: s + 1 / r.value)
    with pytest.raises(StreamcoreError, match="ZeroDivisionError") as error:
        stream.execute_and_collect()
    assert "Reading(sensor='a', time=2, value=0.0)" in str(error.value)


def test_merging_the_first_state_must_change_nothing():
    keyed = StreamEnvironment().from_values([], Reading).key_by("sensor")
    with pytest.raises(TopologyError, match="isn't initial"):
        keyed.fold(10, lambda n, r: n + 1, merge=lambda a, b: a + b)
