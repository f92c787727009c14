"""Card transactions made by index, with fraud planted among them.

Transaction i is a pure function of i, so a source can be rewound to any of them. All cards together make a transaction
every `spacing`, so that a card makes one in eight hours on average: near its home, or near another town in a week in
which it travels; of its usual amount, times a log-normal factor, and now and then of eight times that. So each rule has
honest transactions to stumble over. Every `period` transactions a fraud of one of three kinds is planted:

=========  =============================================================================================
`burst`    a stolen number is tried out: eight small payments, about ten seconds apart
`travel`   a cloned card: a payment ten minutes after, and some 6,000 km from, the last one of its owner
`amount`   one payment of thirty times the card's usual amount, near its home
=========  =============================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from streamcore import Columns, Schema

KINDS = ("honest", "burst", "travel", "amount")
"""What the numbers in a transaction's field `fraud` stand for; -1: not known."""

TRANSACTION = Schema.of(time=int, card=int, amount=float, lat=float, lon=float, fraud=int)
"""time: milliseconds; amount: of one currency; lat, lon: degrees; fraud: an index of KINDS, or -1."""

BURST_LENGTH = 8
_BETWEEN_MS = 8 * 3_600_000
_WEEK_MS = 7 * 86_400_000
_START_MS = 1_700_000_000_000

Floats = np.ndarray[Any, np.dtype[np.float64]]
Indexes = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class PlantedTransactions:
    """The transactions of a number of cards; call it with a range of indices."""

    cards: int

    @property
    def spacing_ms(self) -> float:
        """Milliseconds of event time between two transactions."""
        return _BETWEEN_MS / self.cards

    @property
    def period(self) -> int:
        """Transactions between two planted frauds: room for a burst, and for ten minutes."""
        return max(1000, 2 * self._steps(600_000))

    def __call__(self, start: int, stop: int) -> Columns:
        index = np.arange(start, stop)
        place, episode = index % self.period, index // self.period
        kind = episode % 3 + 1
        burst = (kind == 1) & (place % self._steps(10_000) == 0) & (place < BURST_LENGTH * self._steps(10_000))
        before = (kind == 2) & (place == 0)
        travel = (kind == 2) & (place == self._steps(600_000))
        amount = (kind == 3) & (place == 0)
        planted = burst | before | travel | amount
        cards = self.cards
        card = np.where(planted, cards * _uniform(episode, 1), cards * _uniform(index, 2) ** 1.5).astype(np.int64)
        time = (index * self.spacing_ms).astype(np.int64)
        lat, lon = self._place_of(card, time)
        lat, lon = lat + 0.1 * _normal(index, 3), lon + 0.1 * _normal(index, 5)
        usual = np.exp(3 + 0.7 * _normal(card, 7))
        factor = np.exp(0.5 * _normal(index, 9)) * np.where(_uniform(index, 11) < 0.002, 8.0, 1.0)
        factor = np.where(burst, 0.1, np.where(amount, 30.0, factor))
        return Columns(
            TRANSACTION,
            {
                "time": _START_MS + time,
                "card": card,
                "amount": np.round(usual * factor, 2) + 0.01,
                "lat": np.where(travel, lat - 40, lat),
                "lon": np.where(travel, lon - 60, lon),
                "fraud": np.where(burst | travel | amount, kind, 0),
            },
        )

    def _steps(self, span_ms: int) -> int:
        return max(1, round(span_ms / self.spacing_ms))

    def _place_of(self, card: Indexes, time: Indexes) -> tuple[Floats, Floats]:
        """Where a card is in the week of a time: at home, or in one week of ten somewhere else in Europe."""
        week = card * 1000 + time // _WEEK_MS
        seed = np.where(_uniform(week, 13) < 0.1, week + self.cards * 1000, card)
        return 38 + 20 * _uniform(seed, 15), -8 + 36 * _uniform(seed, 17)


def _uniform(number: Indexes, salt: int) -> Floats:
    """A number from [0, 1) for each of (n,) numbers; SplitMix64 (Steele, Lea, Flood 2014)."""
    mixed = number.astype(np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15) % (1 << 64))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    shares: Floats = ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) / float(1 << 53)
    return shares


def _normal(number: Indexes, salt: int) -> Floats:
    """A number of the standard normal distribution for each; Box and Muller's transform. Uses `salt` and `salt + 1`."""
    radius = np.sqrt(-2 * np.log1p(-_uniform(number, salt)))
    normal: Floats = radius * np.cos(2 * np.pi * _uniform(number, salt + 1))
    return normal
