"""Rates, their differences, and what peeking does to a p-value; against published examples."""

import math

import numpy as np
import pytest

from streamcore import StreamcoreError
from streamcore.operators.ab_test import TwoRates, wilson_interval


def test_wilson_s_interval_is_where_the_score_test_just_accepts():
    for successes, trials in ((0, 10), (3, 10), (10, 10), (81, 263)):
        rate = successes / trials
        for bound in map(float, wilson_interval(successes, trials)):
            if 1e-9 < bound < 1 - 1e-9:
                score = abs(rate - bound) / math.sqrt(bound * (1 - bound) / trials)
                assert score == pytest.approx(1.959964, abs=1e-5)
    assert tuple(map(float, wilson_interval(0, 0))) == (0, 1)


@pytest.mark.parametrize(
    ("seen", "low", "high"),
    # the comparisons a to h of Newcombe (1998), table II, method 10
    [
        ((48, 80, 56, 70), 0.0524, 0.3339),
        ((3, 10, 9, 10), 0.1705, 0.8090),
        ((2, 7, 6, 7), 0.0582, 0.8062),
        ((0, 29, 5, 56), -0.0381, 0.1926),
        ((0, 20, 0, 10), -0.1611, 0.2775),
        ((0, 10, 10, 10), 0.6075, 1.0000),
    ],
)
def test_newcombe_s_interval_is_the_published_one(seen, low, high):
    found = TwoRates(*seen).interval()
    assert tuple(map(float, found)) == pytest.approx((low, high), abs=6e-5)


def test_the_p_value_is_that_of_the_chi_square_test():
    a, b, c, d = 15, 85, 30, 70
    chi = 200 * (a * d - b * c) ** 2 / ((a + b) * (c + d) * (a + c) * (b + d))
    assert float(TwoRates(15, 100, 30, 100).p_value()) == pytest.approx(math.erfc(math.sqrt(chi / 2)))


def test_the_sequential_p_value_is_one_over_the_mixture_of_likelihood_ratios():
    """The mixture over differences with a normal density, summed up by numbers."""
    seen = TwoRates(100, 1000, 150, 1200, scale=0.03)
    pooled = 250 / 2200
    variance = pooled * (1 - pooled) * (1 / 1000 + 1 / 1200)
    effects = np.linspace(-0.4, 0.4, 200_001)
    density = np.exp(-((effects / 0.03) ** 2) / 2) / (0.03 * math.sqrt(2 * math.pi))
    difference = 150 / 1200 - 0.1
    ratio = np.exp((difference * effects - effects**2 / 2) / variance)
    mixture = (ratio * density).sum() * (effects[1] - effects[0])
    assert float(seen.sequential_p_value()) == pytest.approx(min(1, 1 / mixture), rel=1e-6)


def looks(rate_a, rate_b, *, runs, users, scale=0.03, seed=5):
    """Experiments that are looked at after every user of each variant."""
    chance = np.random.default_rng(seed)
    a, b = (np.cumsum(chance.random((runs, users)) < rate, axis=1) for rate in (rate_a, rate_b))
    number = np.arange(1, users + 1)
    return TwoRates(a, number, b, number, scale)


@pytest.mark.parametrize("rate", [0.5, 0.1, 0.01])
def test_peeking_fools_the_p_value_for_one_look_but_not_the_sequential_one(rate):
    seen = looks(rate, rate, runs=500, users=2000)
    assert (seen.p_value() < 0.05).any(axis=1).mean() > 0.2
    assert (seen.sequential_p_value() <= 0.05).any(axis=1).mean() <= 0.05


def test_the_confidence_sequence_holds_the_difference_at_all_looks():
    seen = looks(0.1, 0.13, runs=500, users=3000)
    low, high = seen.sequential_interval()
    assert ((low <= 0.03) & (high >= 0.03)).all(axis=1).mean() >= 0.95
    assert (low > 0).any(axis=1).mean() > 0.8, "a difference that is there is found"
    assert (high - low)[:, -1].max() < 0.1


def test_nothing_is_known_without_trials_or_before_both_outcomes():
    for seen in (TwoRates(0, 0, 0, 0), TwoRates(0, 5, 0, 0), TwoRates(0, 5, 0, 5), TwoRates(5, 5, 5, 5)):
        assert float(seen.difference) == 0
        assert float(seen.p_value()) == float(seen.sequential_p_value()) == 1
    assert tuple(map(float, TwoRates(1, 5, 0, 0).interval())) == (-1, 1)
    assert tuple(map(float, TwoRates(1, 5, 0, 0).sequential_interval())) == (-1, 1)


def test_wrong_arguments_are_refused():
    with pytest.raises(StreamcoreError, match="scale"):
        TwoRates(1, 2, 1, 2, scale=0)
    with pytest.raises(StreamcoreError, match="confidence"):
        wilson_interval(1, 2, confidence=95)
