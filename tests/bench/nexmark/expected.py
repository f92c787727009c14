"""What the queries of Nexmark must give, computed by polars from the same events."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pyarrow as pa

from streamcore import Columns
from tests.bench.nexmark.generator import Nexmark

_WINDOW_MS, _SLIDE_MS = 10_000, 2_000


def frame(parts: list[Columns], *names: str) -> pl.DataFrame:
    """Some columns of the events as a frame; texts stay dictionary-encoded."""
    batches = [pa.table({name: part.encoded(name) for name in names}) for part in parts]
    found = pl.from_arrow(pa.concat_tables(batches).unify_dictionaries())
    assert isinstance(found, pl.DataFrame)
    return found


def expected(name: str, events: Nexmark) -> pl.DataFrame:
    """The results of a query, in any order."""
    return _BY_NAME[name](events)


def _q0(events: Nexmark) -> pl.DataFrame:
    return frame(events.all("bids"), "auction", "bidder", "price", "channel", "url", "time", "extra")


def _q1(events: Nexmark) -> pl.DataFrame:
    bids = frame(events.all("bids"), "auction", "bidder", "price", "time", "extra")
    return bids.with_columns(pl.col("price") * 0.908)


def _q2(events: Nexmark) -> pl.DataFrame:
    return frame(events.all("bids"), "auction", "price").filter(pl.col("auction") % 123 == 0)


def _q3(events: Nexmark) -> pl.DataFrame:
    offers = frame(events.all("auctions"), "id", "seller", "category").filter(pl.col("category") == 10)
    persons = frame(events.all("persons"), "id", "name", "city", "state").with_columns(pl.col("state").cast(pl.String))
    here = persons.filter(pl.col("state").is_in(["OR", "ID", "CA"]))
    joined = offers.rename({"id": "auction"}).join(here, left_on="seller", right_on="id")
    return joined.select("auction", "seller", "name", "city", "state")


def _q4(events: Nexmark) -> pl.DataFrame:
    auctions = frame(events.all("auctions"), "id", "category", "time", "expires")
    bids = frame(events.all("bids"), "auction", "price", "time")
    joined = bids.join(auctions, left_on="auction", right_on="id", suffix="_begin")
    is_open = pl.col("time").is_between(pl.col("time_begin"), pl.col("expires"))
    final = joined.filter(is_open).group_by("auction", "category", "expires").agg(pl.col("price").max())
    number, total = pl.int_range(1, pl.len() + 1), pl.col("price").cum_sum()
    average = (total / number).over("category").alias("average")
    return final.sort("expires", "auction").select("category", average)


def _q5(events: Nexmark) -> pl.DataFrame:
    bids = frame(events.all("bids"), "auction", "time")
    slices = bids.group_by("auction", (pl.col("time") // _SLIDE_MS).alias("slice")).agg(pl.len().alias("count"))
    windows = pl.concat(
        slices.with_columns(((pl.col("slice") + 1 + later) * _SLIDE_MS).alias("window_end"))
        for later in range(_WINDOW_MS // _SLIDE_MS)
    )
    counts = windows.group_by("auction", "window_end").agg(pl.col("count").sum().cast(pl.Int64))
    hot = counts.filter(pl.col("count") == pl.col("count").max().over("window_end"))
    start, rank = (pl.col("window_end") - _WINDOW_MS).alias("window_start"), pl.lit(1).alias("rank")
    return hot.select("auction", start, "window_end", "count", rank)


def _q7(events: Nexmark) -> pl.DataFrame:
    bids = frame(events.all("bids"), "auction", "bidder", "price", "channel", "url", "time", "extra")
    bids = bids.with_columns(((pl.col("time") // _WINDOW_MS + 1) * _WINDOW_MS).alias("window_end"))
    best = bids.filter(pl.col("price") == pl.col("price").max().over("window_end"))
    return best.with_columns(pl.lit(1).alias("rank"))


def _q8(events: Nexmark) -> pl.DataFrame:
    window = (pl.col("time") // _WINDOW_MS * _WINDOW_MS).alias("window_start")
    persons = frame(events.all("persons"), "id", "name", "time").with_columns(window)
    sellers = frame(events.all("auctions"), "seller", "time").select("seller", window).unique()
    joined = persons.join(sellers, left_on=["id", "window_start"], right_on=["seller", "window_start"])
    return joined.select("id", "name", "time", "window_start")


_BY_NAME: dict[str, Callable[[Nexmark], pl.DataFrame]] = {
    "q0": _q0, "q1": _q1, "q2": _q2, "q3": _q3, "q4": _q4, "q5": _q5, "q7": _q7, "q8": _q8,
}  # fmt: skip
