"""What looking at an A/B test again and again does to its p-values: experiments without an effect, and with one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamcore.operators.ab_test import TwoRates

LEVEL = 0.05


@dataclass(frozen=True)
class Peeking:
    """What came of `runs` experiments that were looked at `looks` times, and stopped at the first p-value below 0.05.

    Attributes:
        naive, sequential: the part of the experiments in which that happened, by the p-value for one look and by the
            sequential one.
        users: how many users of each variant the sequential one had taken by then (median), if it stopped any.
    """

    runs: int
    looks: int
    naive: float
    sequential: float
    users: int | None


def peek(
    rate: float, effect: float, *, runs: int, scale: float, seed: int, looks: int = 100, users_per_look: int = 100
) -> Peeking:
    """Runs experiments in which `rate` of the control and `rate + effect` of the treatment convert."""
    chance = np.random.default_rng(seed)
    a, b = (chance.binomial(users_per_look, shown, (runs, looks)).cumsum(axis=1) for shown in (rate, rate + effect))
    users = users_per_look * np.arange(1, looks + 1)
    seen = TwoRates(a, users, b, users, scale)
    stopped = seen.sequential_p_value() <= LEVEL
    first = users[stopped.argmax(axis=1)[stopped.any(axis=1)]]
    return Peeking(
        runs,
        looks,
        float((seen.p_value() <= LEVEL).any(axis=1).mean()),
        float(stopped.any(axis=1).mean()),
        int(np.median(first)) if len(first) else None,
    )
