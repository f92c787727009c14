"""What the queries of Nexmark must give, computed by polars from the same events."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pyarrow as pa

from tests.bench.nexmark.generator import Nexmark

_WINDOW_MS, _SLIDE_MS = 10_000, 2_000


def load(name: str, events: Nexmark) -> list[pl.DataFrame]:
    """The events that a query reads, as frames of the columns that it needs; texts stay dictionary-encoded."""
    frames = []
    for kind, names in _READS[name]:
        parts = [part.select(*names) for part in events.all(kind)]
        tables = [pa.table({name: part.encoded(name) for name in names}) for part in parts]
        made = pl.from_arrow(pa.concat_tables(tables).unify_dictionaries())
        assert isinstance(made, pl.DataFrame), "a table became no frame"
        frames.append(made)
    return frames


def expected(name: str, frames: list[pl.DataFrame]) -> pl.DataFrame:
    """The results of a query, in any order."""
    return _QUERIES[name](*frames)


def _q0(bids: pl.DataFrame) -> pl.DataFrame:
    return bids


def _q1(bids: pl.DataFrame) -> pl.DataFrame:
    return bids.with_columns(pl.col("price") * 0.908)


def _q2(bids: pl.DataFrame) -> pl.DataFrame:
    return bids.filter(pl.col("auction") % 123 == 0)


def _q3(auctions: pl.DataFrame, persons: pl.DataFrame) -> pl.DataFrame:
    offers = auctions.filter(pl.col("category") == 10)
    here = persons.filter(pl.col("state").cast(pl.String).is_in(["OR", "ID", "CA"]))
    joined = offers.rename({"id": "auction"}).join(here, left_on="seller", right_on="id")
    return joined.select("auction", "seller", "name", "city", "state")


def _q4(auctions: pl.DataFrame, bids: pl.DataFrame) -> pl.DataFrame:
    joined = bids.join(auctions, left_on="auction", right_on="id", suffix="_begin")
    is_open = pl.col("time").is_between(pl.col("time_begin"), pl.col("expires"))
    final = joined.filter(is_open).group_by("auction", "category", "expires").agg(pl.col("price").max())
    number, total = pl.int_range(1, pl.len() + 1), pl.col("price").cum_sum()
    average = (total / number).over("category").alias("average")
    return final.sort("expires", "auction").select("category", average)


def _q5(bids: pl.DataFrame) -> pl.DataFrame:
    slices = bids.group_by("auction", (pl.col("time") // _SLIDE_MS).alias("slice")).agg(pl.len().alias("count"))
    windows = pl.concat(
        slices.with_columns(((pl.col("slice") + 1 + later) * _SLIDE_MS).alias("window_end"))
        for later in range(_WINDOW_MS // _SLIDE_MS)
    )
    counts = windows.group_by("auction", "window_end").agg(pl.col("count").sum().cast(pl.Int64))
    hot = counts.filter(pl.col("count") == pl.col("count").max().over("window_end"))
    start, rank = (pl.col("window_end") - _WINDOW_MS).alias("window_start"), pl.lit(1).alias("rank")
    return hot.select("auction", start, "window_end", "count", rank)


def _q7(bids: pl.DataFrame) -> pl.DataFrame:
    bids = bids.with_columns(((pl.col("time") // _WINDOW_MS + 1) * _WINDOW_MS).alias("window_end"))
    best = bids.filter(pl.col("price") == pl.col("price").max().over("window_end"))
    return best.with_columns(pl.lit(1).alias("rank"))


def _q8(persons: pl.DataFrame, auctions: pl.DataFrame) -> pl.DataFrame:
    window = (pl.col("time") // _WINDOW_MS * _WINDOW_MS).alias("window_start")
    sellers = auctions.select("seller", window).unique()
    joined = persons.with_columns(window).join(
        sellers, left_on=["id", "window_start"], right_on=["seller", "window_start"]
    )
    return joined.select("id", "name", "time", "window_start")


_BID = ("bids", ("auction", "bidder", "price", "channel", "url", "time", "extra"))
_READS = {
    "q0": [_BID],
    "q1": [("bids", ("auction", "bidder", "price", "time", "extra"))],
    "q2": [("bids", ("auction", "price"))],
    "q3": [("auctions", ("id", "seller", "category")), ("persons", ("id", "name", "city", "state"))],
    "q4": [("auctions", ("id", "category", "time", "expires")), ("bids", ("auction", "price", "time"))],
    "q5": [("bids", ("auction", "time"))],
    "q7": [_BID],
    "q8": [("persons", ("id", "name", "time")), ("auctions", ("seller", "time"))],
}
_QUERIES: dict[str, Callable[..., pl.DataFrame]] = {
    "q0": _q0, "q1": _q1, "q2": _q2, "q3": _q3, "q4": _q4, "q5": _q5, "q7": _q7, "q8": _q8,
}  # fmt: skip
