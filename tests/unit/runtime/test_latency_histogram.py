"""Latencies in buckets: percentiles within 5 %."""

from __future__ import annotations

import numpy as np
import pytest

from streamcore.runtime.latency import LatencyHistogram


def histogram(latencies):
    found = LatencyHistogram()
    for latency in latencies:
        found.add(latency)
    return found


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 0.999, 1.0])
def test_percentiles_hold_to_five_percent(share):
    latencies = np.random.default_rng(7).lognormal(-6, 2, 5000)
    exact = np.quantile(latencies, share, method="inverted_cdf")
    assert histogram(latencies).percentile(share) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("latency", [2e-6, 1e-3, 0.5, 60.0, 3 * 3600.0])
def test_from_a_microsecond_to_hours(latency):
    assert histogram([latency]).percentile(0.5) == pytest.approx(latency, rel=0.05)


@pytest.mark.parametrize("latency", [-1.0, 0.0, 1e-9])
def test_what_is_below_a_microsecond_counts_as_one(latency):
    assert histogram([latency]).percentile(1.0) == pytest.approx(1e-6, rel=0.05)


def test_what_is_beyond_the_last_bucket_falls_into_it():
    assert histogram([1e9]).percentile(1.0) == histogram([1e12]).percentile(1.0)


def test_an_empty_one_is_zero():
    assert LatencyHistogram().percentile(0.99) == 0.0
    assert len(LatencyHistogram()) == 0


def test_two_merge_to_the_histogram_of_both():
    first, second = histogram([1e-3, 2e-3]), histogram([2e-3, 5.0])
    first.merge(second)
    assert first == histogram([1e-3, 2e-3, 2e-3, 5.0])
    assert len(first) == 4
    assert len(second) == 2


def test_a_copy_counts_for_itself():
    first = histogram([1e-3])
    copied = first.copy()
    first.add(1.0)
    assert copied == histogram([1e-3])
    assert first != copied
    assert first != "a histogram"
