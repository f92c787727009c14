"""Card payments: each is judged against what its own card did before, by the logic of one record in plain Python."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

EARTH_KM = 6371.0088
VELOCITY_HALF_LIFE_S = 60.0
MOST_A_MINUTE = 3.5
FASTEST_KMH = 900.0
NEAR_KM = 100.0
USUAL_AFTER = 5
MOST_DEVIATIONS = 6.0
LEARNING_RATE = 0.1


class Card(NamedTuple):
    """What is remembered of a card.

    Attributes:
        seen: payments so far.
        time: of the last one, milliseconds.
        lat, lon: where that was, degrees.
        velocity: payments, each of which counts half after a minute.
        usual, spread: EWMA of the logarithm of the amount, and of how far amounts lie from it.
    """

    seen: int = 0
    time: int = 0
    lat: float = 0.0
    lon: float = 0.0
    velocity: float = 0.0
    usual: float = 0.0
    spread: float = 0.5


class Judged(NamedTuple):
    """A payment and what speaks against it.

    Attributes:
        velocity: payments of the card, each of which counts half after a minute.
        km, kmh: from the last payment to this one, and how fast the card would have had to travel.
        deviations: by how many times its usual spread the amount (its logarithm) is above the card's usual.
        score: from 0 to 1; about how sure one may be that it isn't honest.
        fraud: an index of `planted.KINDS`, -1 where it isn't known.
    """

    time: int
    card: int
    amount: float
    velocity: float
    km: float
    kmh: float
    deviations: float
    score: float
    fraud: int


def judge(card: Card, payment: Any) -> tuple[Card, Judged]:
    """The payment judged by the card's past, and the card with the payment in its past."""
    logarithm = math.log(max(payment.amount, 0.01))
    velocity, km, kmh, deviations = 1.0, 0.0, 0.0, 0.0
    usual, spread = logarithm, card.spread
    if card.seen > 0:
        gap_s = max(payment.time - card.time, 0) / 1000.0
        velocity += card.velocity * 0.5 ** (gap_s / VELOCITY_HALF_LIFE_S)
        lat, lon = math.radians(card.lat), math.radians(card.lon)
        other_lat, other_lon = math.radians(payment.lat), math.radians(payment.lon)
        half = (
            math.sin((other_lat - lat) / 2.0) ** 2
            + math.cos(lat) * math.cos(other_lat) * math.sin((other_lon - lon) / 2.0) ** 2
        )
        km = 2.0 * EARTH_KM * math.asin(min(1.0, math.sqrt(half)))
        kmh = km / max(gap_s / 3600.0, 1.0 / 60.0)
        above = logarithm - card.usual
        if card.seen >= USUAL_AFTER:
            deviations = above / max(card.spread, 0.2)
        change = max(min(above, 3.0 * card.spread), -3.0 * card.spread)  # one outlier must not become the usual
        usual = card.usual + LEARNING_RATE * change
        spread = card.spread + LEARNING_RATE * (abs(change) - card.spread)
    speeding = kmh if km > NEAR_KM else 0.0
    honest = (
        1.0
        / (1.0 + math.exp(3.0 * (velocity - MOST_A_MINUTE)))
        / (1.0 + math.exp(min(speeding / FASTEST_KMH - 1.0, 50.0) * 10.0))
        / (1.0 + math.exp(2.0 * (deviations - MOST_DEVIATIONS)))
    )
    judged = Judged(
        payment.time, payment.card, payment.amount, velocity, km, kmh, deviations, 1.0 - honest, payment.fraud
    )
    return Card(card.seen + 1, payment.time, payment.lat, payment.lon, velocity, usual, spread), judged


def reasons(judged: Judged) -> list[str]:
    """Why a payment was given its score, in words; the strongest rules alone."""
    found = []
    if judged.velocity > MOST_A_MINUTE:
        found.append(f"velocity: {judged.velocity:.1f} payments a minute")
    if judged.km > NEAR_KM and judged.kmh > FASTEST_KMH:
        found.append(f"distance: {judged.km:,.0f} km from the last payment, at {judged.kmh:,.0f} km/h")
    if judged.deviations > MOST_DEVIATIONS:
        found.append(f"amount: {judged.amount:,.2f} is {judged.deviations:.1f} spreads above the card's usual")
    return found or ["several signs, none alone"]
