"""The texts of Nexmark's events, made once: events refer to them, so that making text doesn't cost more than a query.

All are Arrow arrays; the generator's columns are dictionary-encoded over them.
"""

from __future__ import annotations

import random
import string

import pyarrow as pa

_CHANCE = random.Random(2004)

STATES = ("AZ", "CA", "ID", "OR", "WA", "WY")
CITIES = ("Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent")
FIRST_NAMES = ("Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter")
LAST_NAMES = ("Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris")
HOT_CHANNELS = ("Google", "Facebook", "Baidu", "Apple")
CHANNELS = 10_000
"""Channels beside the hot ones."""

VARIANTS = 1024
"""How many different texts there are of each kind of random text."""


def _letters(shortest: int, longest: int) -> str:
    return "".join(_CHANCE.choices(string.ascii_lowercase + " ", k=_CHANCE.randint(shortest, longest)))


def _word(length: int) -> str:
    return "".join(_CHANCE.choices(string.ascii_lowercase, k=length))


def _card() -> str:
    return " ".join(f"{_CHANCE.randrange(10_000):04}" for _ in range(4))


def _texts(make: object, count: int = VARIANTS) -> pa.Array:
    assert callable(make), "texts are made by a function"
    return pa.array([make() for _ in range(count)], pa.string())


NAME = pa.array([f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES])
EMAIL = _texts(lambda: f"{_word(7)}@{_word(5)}.com")
CARD = _texts(_card)
CITY = pa.array(CITIES)
STATE = pa.array(STATES)
CHANNEL = pa.array([*HOT_CHANNELS, *(f"channel-{number}" for number in range(CHANNELS))])
URL = _texts(lambda: f"https://www.nexmark.com/{_word(5)}/{_word(5)}/item.htm?query=1", len(CHANNEL))
ITEM = _texts(lambda: _letters(10, 20))
DESCRIPTION = _texts(lambda: _letters(50, 100))
PERSON_EXTRA = _texts(lambda: _letters(80, 120))
AUCTION_EXTRA = _texts(lambda: _letters(300, 360))
BID_EXTRA = _texts(lambda: _letters(50, 86))
"""What pads an event to its average size: person 200, auction 500, bid 100 bytes."""
