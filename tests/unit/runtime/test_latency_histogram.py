"""Percentiles of the histogram against those of the values themselves."""

from __future__ import annotations

import numpy as np
import pytest

from streamcore.runtime.latency import LatencyHistogram


def histogram(values):
    result = LatencyHistogram()
    for value in values:
        result.add(value)
    return result


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 0.999, 1.0])
def test_percentiles_hold_to_five_percent(seed, share):
    values = np.random.default_rng(seed).lognormal(np.log(2e-3), 2.0, 5000).clip(2e-6, 3600)
    wanted = float(np.quantile(values, share, method="inverted_cdf"))
    assert wanted <= histogram(values).percentile(share) * (1 + 1e-9)
    assert histogram(values).percentile(share) == pytest.approx(wanted, rel=0.05)


def test_what_a_clock_that_goes_back_measures_counts_as_zero():
    seen = histogram([-5.0, 0.0])
    assert len(seen) == 2
    assert seen.percentile(1.0) < 1.1e-6
    assert seen.total_s == 0.0


def test_an_empty_one_says_zero():
    assert LatencyHistogram().percentile(0.99) == 0.0


def test_a_merge_is_as_if_one_had_seen_all():
    left, right, both = [0.001, 0.5], [0.001, 7200.0], histogram([0.001, 0.5, 0.001, 7200.0])
    merged = histogram(left)
    merged.merge(histogram(right))
    assert merged.counts == both.counts
    assert merged.total_s == pytest.approx(both.total_s)


def test_a_copy_stays_as_it_was():
    original = histogram([0.25])
    copied = original.copy()
    assert copied == original
    original.add(0.25)
    assert copied != original
    assert (len(copied), copied.total_s) == (1, 0.25)
