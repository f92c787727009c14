"""The queries q0-q5, q7, q8 of Nexmark as topologies: each takes the streams that it reads, by kind of event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamcore import (
    Columns,
    DataStream,
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    count,
    seconds,
    sliding,
    tumbling,
)
from streamcore.operators.stream_join import stream_join
from streamcore.operators.top_k import top_k
from streamcore.operators.window_join import window_join
from tests.bench.nexmark.generator import BID, Nexmark
from tests.bench.nexmark.winning_bids import winning_bids

Stream = DataStream[Any]

WINDOW_MS = 10_000
EUROS = Schema.of(auction=int, bidder=int, price=float, time=int, extra=str)
AUCTION_PRICE = Schema.of(auction=int, price=int)
OFFER = Schema.of(auction=int, seller=int)
SELLER_HERE = Schema.of(id=int, name=str, city=str, state=str)
AVERAGE = Schema.of(category=int, average=float)
NEW_PERSON = Schema.of(id=int, name=str, time=int)
SELLER_WINDOW = Schema.of(seller=int, window_start=int)
STATES = pa.array(["OR", "ID", "CA"])


@dataclass(frozen=True)
class Query:
    """A query: the kinds of events that it reads, the topology over their streams, and what it is about."""

    reads: tuple[str, ...]
    build: Callable[..., Stream]
    title: str


def build(name: str, env: StreamEnvironment, events: Nexmark) -> Stream:
    """The results of a query over generated events, which may be out of order by 4 seconds of event time."""
    query = QUERIES[name]
    strategy = bounded_out_of_orderness("time", seconds(4))
    return query.build(*(env.source(events.source(kind), watermarks=strategy).name(kind) for kind in query.reads))


def q0(bids: Stream) -> Stream:
    """All bids as they are."""
    return bids


def q1(bids: Stream) -> Stream:
    """All bids with their price in euros."""
    return bids.map(lambda bid: (bid.auction, bid.bidder, bid.price * 0.908, bid.time, bid.extra), returns=EUROS)


def q2(bids: Stream) -> Stream:
    """Auction and price of the bids on every 123rd auction."""
    return bids.filter(lambda bid: bid.auction % 123 == 0).map(
        lambda bid: (bid.auction, bid.price), returns=AUCTION_PRICE
    )


def q3(auctions: Stream, persons: Stream) -> Stream:
    """Who sells in category 10 and lives in Oregon, Idaho or California: name, city, state and the auction."""
    offers = auctions.filter(lambda auction: auction.category == 10).map_batch(_offers, returns=OFFER)
    here = persons.filter_batch(lambda columns: pc.is_in(columns["state"], STATES).to_numpy(zero_copy_only=False))
    return stream_join(
        offers, here.map_batch(lambda columns: columns.select(*SELLER_HERE.names), returns=SELLER_HERE),
        on=("seller", "id"),
    )  # fmt: skip


def q4(auctions: Stream, bids: Stream) -> Stream:
    """The average of the winning bids of each category, anew with each auction that ends."""
    return winning_bids(auctions, bids).key_by("category").scan((0, 0), _running_average, returns=AVERAGE)


def q5(bids: Stream) -> Stream:
    """The auctions with the most bids in the last 10 s, every 2 s."""
    counts = bids.key_by("auction").window(sliding(seconds(10), every=seconds(2))).aggregate(count())
    return top_k(counts, 1, "count", with_ties=True)


def q7(bids: Stream) -> Stream:
    """The bids with the highest price of each 10 s."""
    with_window = Schema((*BID.fields, *Schema.of(window_end=int).fields))
    return top_k(bids.map_batch(_with_window, returns=with_window), 1, "price", with_ties=True)


def q8(persons: Stream, auctions: Stream) -> Stream:
    """Who has come and begun an auction within the same 10 s."""
    windows = tumbling(seconds(10))
    sellers = auctions.key_by("seller").window(windows).aggregate(count())
    return window_join(
        persons.map_batch(lambda columns: columns.select(*NEW_PERSON.names), returns=NEW_PERSON),
        sellers.map_batch(lambda columns: columns.select(*SELLER_WINDOW.names), returns=SELLER_WINDOW),
        on=("id", "seller"), windows=windows, time=("time", "window_start"),
    )  # fmt: skip


QUERIES = {
    "q0": Query(("bids",), q0, "pass through"),
    "q1": Query(("bids",), q1, "currency conversion"),
    "q2": Query(("bids",), q2, "selection"),
    "q3": Query(("auctions", "persons"), q3, "local item suggestion"),
    "q4": Query(("auctions", "bids"), q4, "average price for a category"),
    "q5": Query(("bids",), q5, "hot items"),
    "q7": Query(("bids",), q7, "highest bid"),
    "q8": Query(("persons", "auctions"), q8, "monitor new users"),
}


def _offers(columns: Columns) -> Columns:
    return Columns(OFFER, {"auction": columns["id"], "seller": columns["seller"]})


def _with_window(columns: Columns) -> Columns:
    time = columns["time"]
    return columns.with_columns(window_end=time - time % WINDOW_MS + WINDOW_MS)


def _running_average(state: tuple[int, int], winner: Any) -> tuple[tuple[int, int], tuple[int, float]]:
    total, number = state[0] + winner.price, state[1] + 1
    return (total, number), (winner.category, total / number)
