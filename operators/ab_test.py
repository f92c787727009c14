"""Comparing two rates: intervals and p-values for one look at a fixed time, and such that hold at every look.

Numbers of users and of successes may be scalars or arrays (n,); results are float64 arrays of that shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from streamcore import UsageError

Counts = Any
Numbers = np.ndarray[Any, np.dtype[np.float64]]

_complementary_error = np.vectorize(math.erfc, otypes=[np.float64])


def wilson_interval(successes: Counts, trials: Counts, confidence: float = 0.95) -> tuple[Numbers, Numbers]:
    """The bounds of a rate: Wilson's score interval (1927). Without trials it is 0 to 1.

    Example:
        >>> low, high = wilson_interval(3, 10)
        >>> round(float(low), 3), round(float(high), 3)
        (0.108, 0.603)
    """
    z = _quantile(confidence)
    successes, trials = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    n = np.maximum(trials, 1.0)
    rate = successes / n
    middle = rate + z * z / (2 * n)
    half = z * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    whole = 1 + z * z / n
    low, high = np.clip((middle - half) / whole, 0, 1), np.clip((middle + half) / whole, 0, 1)
    return np.where(trials > 0, low, 0.0), np.where(trials > 0, high, 1.0)


@dataclass(frozen=True)
class TwoRates:
    """What has been seen of two variants so far.

    Attributes:
        successes_a, trials_a: of the control.
        successes_b, trials_b: of the treatment.
        scale: for the sequential results, how large a difference of the rates is expected to be, about. They hold for
            any scale; they are sharpest for differences of that size.

    Example:
        >>> seen = TwoRates(100, 1000, 150, 1000, scale=0.03)
        >>> round(float(seen.difference), 3)
        0.05
        >>> round(float(seen.p_value()), 5), round(float(seen.sequential_p_value()), 4)
        (0.00072, 0.0228)
    """

    successes_a: Counts
    trials_a: Counts
    successes_b: Counts
    trials_b: Counts
    scale: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.scale < 1:
            raise UsageError(f"the scale of a difference of rates can't be {self.scale}", hint="0.02, say")

    @property
    def difference(self) -> Numbers:
        """The rate of the treatment less that of the control; 0 while one of them has no trials."""
        rates = self._rate(self.successes_b, self.trials_b) - self._rate(self.successes_a, self.trials_a)
        return np.where(self._has_both, rates, 0.0)

    def interval(self, confidence: float = 0.95) -> tuple[Numbers, Numbers]:
        """The bounds of the difference at one look: Newcombe's hybrid score interval (Statistics in Medicine 17, 1998,
        method 10). Without trials it is -1 to 1."""
        low_a, high_a = wilson_interval(self.successes_a, self.trials_a, confidence)
        low_b, high_b = wilson_interval(self.successes_b, self.trials_b, confidence)
        a, b = self._rate(self.successes_a, self.trials_a), self._rate(self.successes_b, self.trials_b)
        below = np.sqrt((b - low_b) ** 2 + (high_a - a) ** 2)
        above = np.sqrt((high_b - b) ** 2 + (a - low_a) ** 2)
        has_both = self._has_both
        return np.where(has_both, b - a - below, -1.0), np.where(has_both, b - a + above, 1.0)

    def p_value(self) -> Numbers:
        """The two-sided p-value of the z-test with pooled variance, **for one look at a time fixed before**: whoever
        looks again and again, and stops when it is small, is wrong far more often than it says."""
        variance = self._pooled_variance
        z = np.abs(self.difference) / np.sqrt(np.where(variance > 0, variance, np.inf))
        found: Numbers = _complementary_error(z / math.sqrt(2))
        return found

    def sequential_p_value(self) -> Numbers:
        """A p-value that may be looked at after every user: if the rates are equal, the chance that it is ever below
        some level is at most that level.

        It is the inverse of the mixture likelihood ratio of the mSPRT with a normal mixture (R. Johari, P. Koomen,
        L. Pekelis, D. Walsh, "Always Valid Inference: Continuous Monitoring of A/B Tests", Operations Research 70,
        2022), in its normal approximation, with the variance that the pooled rate gives.
        """
        variance = self._pooled_variance
        known = np.where(variance > 0, variance, 1.0)
        mixed = known + self.scale**2
        exponent = self.scale**2 * self.difference**2 / (2 * known * mixed)
        ratio = 0.5 * np.log(known / mixed) + exponent
        return np.where(variance > 0, np.exp(-np.maximum(ratio, 0.0)), 1.0)

    def sequential_interval(self, confidence: float = 0.95) -> tuple[Numbers, Numbers]:
        """A confidence sequence: with that confidence, the difference lies within the bounds at all looks (the inverse
        of the test above, with the variance of both rates after one success and one failure more)."""
        variance = np.zeros(np.shape(self.difference))
        for successes, trials in ((self.successes_a, self.trials_a), (self.successes_b, self.trials_b)):
            n = np.asarray(trials, np.float64) + 2
            rate = (np.asarray(successes, np.float64) + 1) / n
            variance = variance + rate * (1 - rate) / np.maximum(n - 2, 1)
        mixed = variance + self.scale**2
        level = np.log(np.sqrt(mixed / variance) / (1 - confidence))
        half = np.sqrt(2 * variance * mixed / self.scale**2 * level)
        has_both, difference = self._has_both, self.difference
        low = np.where(has_both, np.maximum(difference - half, -1.0), -1.0)
        return low, np.where(has_both, np.minimum(difference + half, 1.0), 1.0)

    @property
    def _has_both(self) -> Any:
        return (np.asarray(self.trials_a) > 0) & (np.asarray(self.trials_b) > 0)

    @property
    def _pooled_variance(self) -> Numbers:
        """Of the difference if the rates are equal; 0 where it isn't known."""
        n_a, n_b = np.asarray(self.trials_a, np.float64), np.asarray(self.trials_b, np.float64)
        rate = self._rate(np.asarray(self.successes_a) + np.asarray(self.successes_b), n_a + n_b)
        found: Numbers = rate * (1 - rate) * (1 / np.maximum(n_a, 1) + 1 / np.maximum(n_b, 1))
        return np.where(self._has_both, found, 0.0)

    @staticmethod
    def _rate(successes: Counts, trials: Counts) -> Numbers:
        found: Numbers = np.asarray(successes, np.float64) / np.maximum(np.asarray(trials, np.float64), 1.0)
        return found


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence of {confidence}", hint="between 0 and 1: 0.95")
    return NormalDist().inv_cdf((1 + confidence) / 2)
