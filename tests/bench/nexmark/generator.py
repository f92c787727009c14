"""Nexmark's events, made by number: any stretch of them can be made on its own, and comes out the same.

After the public description of the generator in Apache Beam and in nexmark/nexmark: of every 50 events one is a
person, three are auctions, 46 are bids; ids grow with the event number; half of the bids go to a hot auction, three
quarters come from a hot bidder, three quarters of the auctions from a hot seller; prices are log-uniform; event time
is the event number at the rate. Chance is a hash of the event's number (Steele et al. 2014, SplitMix64).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import Columns, Schema, kernel
from streamcore.connectors.generator_source import GeneratorSource
from tests.bench.nexmark import texts

Array = np.ndarray[Any, Any]

EVERY, PERSONS, AUCTIONS, BIDS = 50, 1, 3, 46
"""Of every 50 events, the first is a person, the next three are auctions, the others bids."""

FIRST_ID, FIRST_CATEGORY, CATEGORIES = 1000, 10, 5
LEAD = 10
"""How far ahead of the newest person or auction ids may be that others refer to."""
ACTIVE_PERSONS, OPEN_AUCTIONS = 1000, 100
HOT_EVERY = 100
"""Of so many persons or auctions one is hot while it is among the newest."""
HOT_AUCTION_RATIO, HOT_BIDDER_RATIO, HOT_SELLER_RATIO, HOT_CHANNEL_RATIO = 2, 4, 4, 2
HOT_CHANNELS, CHANNELS, VARIANTS = len(texts.HOT_CHANNELS), texts.CHANNELS, texts.VARIANTS
BASE_TIME_MS = 1_436_918_400_000

PERSON = Schema.of(id=int, name=str, email=str, credit_card=str, city=str, state=str, time=int, extra=str)
AUCTION = Schema.of(
    id=int, item=str, description=str, initial_bid=int, reserve=int, time=int, expires=int, seller=int, category=int,
    extra=str,
)  # fmt: skip
BID = Schema.of(auction=int, bidder=int, price=int, channel=str, url=str, time=int, extra=str)


@dataclass(frozen=True)
class Nexmark:
    """The first `events` events, `rate` of them in a second of event time.

    Example:
        >>> events = Nexmark(100)
        >>> events.persons(0, 2)["id"].tolist(), events.auctions(2, 4)["id"].tolist(), events.count_of("bids")
        ([1000, 1001], [1002, 1003], 92)
    """

    events: int
    rate: int = 10_000

    def count_of(self, kind: str) -> int:
        """How many of the events are `persons`, `auctions` or `bids`."""
        before, share = {"persons": (0, PERSONS), "auctions": (1, AUCTIONS), "bids": (4, BIDS)}[kind]
        return self.events // EVERY * share + min(max(self.events % EVERY - before, 0), share)

    def source(self, kind: str, splits: int = 1) -> GeneratorSource:
        """A source of all events of one kind."""
        make, schema = self._kinds()[kind]
        return GeneratorSource(make, self.count_of(kind), splits=splits, schema=schema)

    def all(self, kind: str, batch: int = 1 << 20) -> list[Columns]:
        """All events of one kind, in batches."""
        make, count = self._kinds()[kind][0], self.count_of(kind)
        return [make(start, min(start + batch, count)) for start in range(0, count, batch)]

    def persons(self, start: int, stop: int) -> Columns:
        """The persons with the numbers from `start` up to, not including, `stop`."""
        (ids, time), chosen = _arrays(2, stop - start), _choices(6, stop - start)
        sizes = np.array([len(t) for t in _PERSON_TEXTS.values()])
        _make_persons(start, self.rate, ids, time, chosen, sizes)
        return Columns(PERSON, {"id": ids, "time": time, **_encoded(_PERSON_TEXTS, chosen)})

    def auctions(self, start: int, stop: int) -> Columns:
        """The auctions with the numbers from `start` up to, not including, `stop`."""
        numbers = ("id", "initial_bid", "reserve", "time", "expires", "seller", "category")
        arrays, chosen = _arrays(len(numbers), stop - start), _choices(3, stop - start)
        _make_auctions(start, self.rate, arrays, chosen)
        return Columns(AUCTION, {**dict(zip(numbers, arrays, strict=True)), **_encoded(_AUCTION_TEXTS, chosen)})

    def bids(self, start: int, stop: int) -> Columns:
        """The bids with the numbers from `start` up to, not including, `stop`."""
        auction, bidder, price, time = _arrays(4, stop - start)
        channel, extra = _choices(2, stop - start)
        _make_bids(start, self.rate, auction, bidder, price, time, channel, extra)
        encoded = _encoded(_BID_TEXTS, (channel, channel, extra))
        return Columns(BID, {"auction": auction, "bidder": bidder, "price": price, "time": time, **encoded})

    def _kinds(self) -> dict[str, tuple[Callable[[int, int], Columns], Schema]]:
        return {"persons": (self.persons, PERSON), "auctions": (self.auctions, AUCTION), "bids": (self.bids, BID)}


_PERSON_TEXTS = {
    "name": texts.NAME, "email": texts.EMAIL, "credit_card": texts.CARD, "city": texts.CITY, "state": texts.STATE,
    "extra": texts.PERSON_EXTRA,
}  # fmt: skip
_BID_TEXTS = {"channel": texts.CHANNEL, "url": texts.URL, "extra": texts.BID_EXTRA}
_AUCTION_TEXTS = {"item": texts.ITEM, "description": texts.DESCRIPTION, "extra": texts.AUCTION_EXTRA}


def _arrays(count: int, rows: int) -> Array:
    return np.empty((count, rows), np.int64)


def _choices(count: int, rows: int) -> Array:
    return np.empty((count, rows), np.int32)


def _encoded(dictionaries: dict[str, pa.Array], chosen: Any) -> dict[str, pa.DictionaryArray]:
    pairs = zip(dictionaries.items(), chosen, strict=True)
    return {name: pa.DictionaryArray.from_arrays(pa.array(rows), entries) for (name, entries), rows in pairs}


@kernel
def _random(event: int, draw: int) -> np.uint64:
    """64 random bits: the `draw`-th of the event."""
    bits = np.uint64(event * 16 + draw + 1) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@kernel
def _below(bits: np.uint64, limit: int) -> int:
    """A number below `limit` (up to 2**31) from the upper bits; the lower ones are for coins."""
    return np.int64(((bits >> np.uint64(32)) * np.uint64(limit)) >> np.uint64(32))


@kernel
def _is_hot(bits: np.uint64, ratio: int) -> bool:
    return np.int64(bits & np.uint64(0xFFFF)) % ratio > 0


@kernel
def _price(bits: np.uint64) -> int:
    """Log-uniform from 1 to a million, in cents."""
    share = np.float64(bits >> np.uint64(11)) / 9007199254740992.0
    return np.int64(np.exp(share * 13.815510557964274) * 100.0 + 0.5)


@kernel
def _time(event: int, rate: int) -> int:
    return BASE_TIME_MS + event * 1000 // rate


@kernel
def _person(bits: np.uint64, newest: int) -> int:
    """A person among the active ones, or not yet known; without the first id."""
    active = min(newest + 1, ACTIVE_PERSONS)
    return newest + 1 - active + _below(bits, active + LEAD)


@kernel
def _make_persons(start: int, rate: int, ids: Array, times: Array, chosen: Array, sizes: Array) -> None:
    for row in range(len(ids)):
        event = (start + row) * EVERY
        ids[row] = FIRST_ID + start + row
        times[row] = _time(event, rate)
        for text in range(len(sizes)):
            chosen[text, row] = _below(_random(event, text), sizes[text])


@kernel
def _make_auctions(start: int, rate: int, arrays: Array, chosen: Array) -> None:
    ids, initial_bids, reserves, times, expires, sellers, categories = arrays
    for row in range(len(ids)):
        number = start + row
        event = number // AUCTIONS * EVERY + PERSONS + number % AUCTIONS
        newest_person = event // EVERY
        ids[row] = FIRST_ID + number
        times[row] = _time(event, rate)
        horizon = _time(event + OPEN_AUCTIONS * EVERY // AUCTIONS, rate) - times[row]
        expires[row] = times[row] + 1 + _below(_random(event, 0), max(horizon * 2, 1))
        bits = _random(event, 1)
        hot = newest_person // HOT_EVERY * HOT_EVERY
        sellers[row] = FIRST_ID + (hot if _is_hot(bits, HOT_SELLER_RATIO) else _person(bits, newest_person))
        categories[row] = FIRST_CATEGORY + _below(_random(event, 2), CATEGORIES)
        initial_bids[row] = _price(_random(event, 3))
        reserves[row] = initial_bids[row] + _price(_random(event, 4))
        for text in range(len(chosen)):
            chosen[text, row] = _below(_random(event, 5 + text), VARIANTS)


@kernel
def _make_bids(
    start: int, rate: int, auctions: Array, bidders: Array, prices: Array, times: Array, channels: Array, extras: Array
) -> None:
    epoch, place = start // BIDS, start % BIDS
    for row in range(len(auctions)):
        event = epoch * EVERY + PERSONS + AUCTIONS + place
        newest_auction = epoch * AUCTIONS + AUCTIONS - 1
        bits = _random(event, 0)
        auction = newest_auction // HOT_EVERY * HOT_EVERY
        if not _is_hot(bits, HOT_AUCTION_RATIO):
            oldest = max(newest_auction - OPEN_AUCTIONS, 0)
            auction = oldest + _below(bits, newest_auction - oldest + 1 + LEAD)
        auctions[row] = FIRST_ID + auction
        bits = _random(event, 1)
        hot = epoch // HOT_EVERY * HOT_EVERY + 1
        bidders[row] = FIRST_ID + (hot if _is_hot(bits, HOT_BIDDER_RATIO) else _person(bits, epoch))
        prices[row] = _price(_random(event, 2))
        times[row] = _time(event, rate)
        bits = _random(event, 3)
        hot_channel = _is_hot(bits, HOT_CHANNEL_RATIO)
        channels[row] = _below(bits, HOT_CHANNELS) if hot_channel else HOT_CHANNELS + _below(bits, CHANNELS)
        extras[row] = _below(_random(event, 4), VARIANTS)
        place += 1
        if place == BIDS:
            epoch, place = epoch + 1, 0
