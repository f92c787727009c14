"""The winning bid of each auction, when the auction is over: what q4 averages."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore import CoBatchFunction, Columns, Context, DataStream, Schema, TableState, kernel
from streamcore.operators.event_time_buffer import EventTimeBuffer, no_rows

Array = np.ndarray[Any, Any]

OFFER = Schema.of(id=int, category=int, time=int, expires=int)
PRICE = Schema.of(auction=int, price=int, time=int)
OPEN = Schema.of(id=int, category=int, expires=int, time=int, price=int)
WINNER = Schema.of(id=int, category=int, expires=int, price=int)

NO_BID = -1
_STRETCH_MS = 1000


def winning_bids(auctions: DataStream[Any], bids: DataStream[Any]) -> DataStream[Any]:
    """The highest price among the bids of each auction from its beginning to its end (both inclusive), as `WINNER`,
    by end and id; nothing for an auction without bids."""
    offers = auctions.map_batch(lambda columns: columns.select(*OFFER.names), returns=OFFER)
    prices = bids.map_batch(lambda columns: columns.select(*PRICE.names), returns=PRICE)
    return offers.connect(prices).key_by("id", "auction").process(WinningBids(), returns=WINNER)


class WinningBids(CoBatchFunction[Any]):
    """Lets auctions and bids wait until the watermark has passed them: then all auctions that a bid can be for are
    known, and both are dealt with in order of time. Keyed by auction."""

    def __init__(self) -> None:
        self._offers = EventTimeBuffer(OFFER, "time", _STRETCH_MS)
        self._bids = EventTimeBuffer(PRICE, "time", _STRETCH_MS)
        self._open = no_rows(OPEN)

    def open(self, ctx: Context[Any]) -> None:
        ctx.table_state(TableState("offers", "id", self._offers.rows, self._offers.add))
        ctx.table_state(TableState("bids", "auction", self._bids.rows, self._bids.add))
        ctx.table_state(TableState("open", "id", self._copy_of_open, self._add_open))

    def process_first(self, columns: Columns, ctx: Context[Any]) -> None:
        self._offers.add(columns)

    def process_second(self, columns: Columns, ctx: Context[Any]) -> None:
        self._bids.add(columns)

    def on_watermark(self, time_ms: int, ctx: Context[Any]) -> None:
        offers, bids = self._offers.take(time_ms), self._bids.take(time_ms)
        if offers is not None:
            self._add_open(offers.with_columns(price=np.full(len(offers), NO_BID)))
        auctions = self._open
        if bids is not None:
            raise_prices(
                bids["auction"], bids["time"], bids["price"],
                auctions["id"], auctions["time"], auctions["expires"], auctions["price"],
            )  # fmt: skip
        is_over = auctions["expires"] <= time_ms
        if is_over.any():
            self._open = auctions.filter(~is_over)
            sold = auctions.filter(is_over & (auctions["price"] != NO_BID))
            in_order = sold.take(np.lexsort((sold["id"], sold["expires"])))
            ctx.emit_batch(Columns(WINNER, in_order.arrays))

    def _add_open(self, columns: Columns) -> None:
        """Adds auctions to the open ones, which are in order of id so that bids find them by bisection."""
        both = Columns.concat([self._open, Columns(OPEN, columns.arrays)])
        self._open = both.take(np.argsort(both["id"], kind="stable"))

    def _copy_of_open(self) -> Columns:
        return self._open.take(np.arange(len(self._open)))  # prices change in place


@kernel
def raise_prices(
    auctions: Array, times: Array, prices: Array, ids: Array, begins: Array, ends: Array, highest: Array
) -> None:
    """Raises the highest price of each bid's auction, if the auction is among `ids` (in order) and open at its time."""
    for row in range(len(auctions)):
        place = np.searchsorted(ids, auctions[row])
        if place < len(ids) and ids[place] == auctions[row] and begins[place] <= times[row] <= ends[place]:
            highest[place] = max(highest[place], prices[row])
