"""The k highest records of each window: found per subtask, then among all."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamcore import BatchFunction, Columns, Context, DataStream, Field, Schema, TableState, TopologyError

RANK = "rank"


class TopKError(TopologyError):
    """The stream has no such windows or values."""


def top_k(
    stream: DataStream[Any], k: int, by: str, *, window: str = "window_end", with_ties: bool = False
) -> DataStream[Any]:
    """The `k` records with the highest `by` of each window, with their `rank` from 1; among equals, the record whose
    other fields are lower (in the schema's order) comes first. What comes after its window's end is dropped.

    Args:
        stream: results of windows; all records of a window have come when the watermark has passed its end.
        by: a field of numbers.
        window: the field with the window's end (exclusive, milliseconds).
        with_ties: gives also the records that are equal to the k-th, and equal records equal ranks (SQL's RANK).

    Raises:
        TopKError: a field isn't there, or k is below 1.

    Example:
        >>> from streamcore import StreamEnvironment, Schema, monotonous, count, tumbling, seconds
        >>> env = StreamEnvironment()
        >>> words = [("a", 1), ("b", 2), ("b", 3), ("c", 1500)]
        >>> source = env.from_values(words, Schema.of(word=str, time=int)).assign_watermarks(monotonous("time"))
        >>> counts = source.key_by("word").window(tumbling(seconds(1))).aggregate(count())
        >>> sorted((r.window_end, r.rank, r.word, r.count) for r in top_k(counts, 1, "count").execute_and_collect())
        [(1000, 1, 'b', 2), (2000, 1, 'c', 1)]
    """
    schema = stream.schema
    if schema is None or by not in schema.by_name or window not in schema.by_name:
        raise TopKError(f"top_k needs the fields {by!r} and {window!r}", hint=f"the stream's type is {schema}")
    if schema.by_name[by].dtype is None or schema.by_name[window].dtype is None:
        raise TopKError(f"top_k: {by!r} and {window!r} must be plain numbers", hint=f"the stream's type is {schema}")
    if RANK in schema.by_name:
        raise TopKError(f"top_k adds a field {RANK!r}, and there is one already", hint=f"the stream's type is {schema}")
    if k < 1:
        raise TopKError(f"top_k of {k} records: k must be at least 1")
    ranked = Schema((*schema.fields, Field(RANK, pa.int64())))
    candidates: DataStream[Any] = stream.map_batch(partial(_highest_per_window, k, by, window, with_ties)).name(
        f"top {k} here"
    )
    best = candidates.key_by(window).process(TopK(schema, ranked, k, by, window, with_ties), returns=ranked)
    return best.name(f"top {k} by {by}")


class TopK(BatchFunction[Any]):
    """Keeps the k highest records of each window until the watermark has passed its end. Keyed by window."""

    def __init__(self, schema: Schema, ranked: Schema, k: int, by: str, window: str, with_ties: bool) -> None:
        self._schema = schema
        self._ranked = ranked
        self._k = k
        self._by = by
        self._window = window
        self._with_ties = with_ties
        self._held: dict[int, Columns] = {}

    def open(self, ctx: Context[Any]) -> None:
        ctx.table_state(TableState("top", self._window, self._captured, self._restore))

    def process(self, columns: Columns, ctx: Context[Any]) -> None:
        for end, part in by_window(columns, self._window):
            if ctx.watermark is not None and end - 1 <= ctx.watermark:
                continue
            held = self._held.get(end)
            both = part if held is None else Columns.concat([held, part])
            self._held[end] = highest(both, self._k, self._by, with_ties=self._with_ties)

    def on_watermark(self, time_ms: int, ctx: Context[Any]) -> None:
        over = sorted(end for end in self._held if end - 1 <= time_ms)
        if over:
            ctx.emit_batch(Columns.concat([self._rank(self._held.pop(end)) for end in over]))

    def _rank(self, columns: Columns) -> Columns:
        ranks = np.arange(1, len(columns) + 1, dtype=np.int64)
        if self._with_ties:
            values = columns[self._by]
            starts = np.concatenate([[True], values[1:] != values[:-1]])
            ranks = np.maximum.accumulate(np.where(starts, ranks, 1))
        return Columns(self._ranked, {**columns.arrays, RANK: ranks})

    def _captured(self) -> Columns:
        if self._held:
            return Columns.concat(list(self._held.values()))
        return Columns.from_arrow(pa.RecordBatch.from_pylist([], schema=self._schema.arrow), self._schema)

    def _restore(self, rows: Columns) -> None:
        for end, part in by_window(Columns(self._schema, rows.arrays), self._window):
            self._held[end] = highest(part, self._k, self._by, with_ties=self._with_ties)


def highest(columns: Columns, k: int, by: str, *, with_ties: bool = False) -> Columns:
    """The k records with the highest `by`, highest first, and with ties those equal to the last of them; among equals
    those whose other fields are lower."""
    if len(columns) > k:
        values = columns[by]
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), -np.inf, values)  # what is no number comes last
        threshold = values.max() if k == 1 else np.partition(values, len(values) - k)[len(values) - k]
        columns = columns.filter(values >= threshold)
    if len(columns) < 2:
        return columns
    others = [(f.name, "ascending") for f in columns.schema.fields if f.name != by and not pa.types.is_nested(f.type)]
    order = pc.sort_indices(columns.to_arrow(), sort_keys=[(by, "descending"), *others]).to_numpy()
    if with_ties and len(order) > k:
        values = columns[by][order]
        k += int(np.count_nonzero(values[k:] == values[k - 1]))
    return columns.take(order[:k])


def _highest_per_window(k: int, by: str, window: str, with_ties: bool, columns: Columns) -> Columns:
    parts = [highest(part, k, by, with_ties=with_ties) for _, part in by_window(columns, window)]
    return Columns.concat(parts)


def by_window(columns: Columns, window: str) -> list[tuple[int, Columns]]:
    """The records of each window, by the field with its end, in order."""
    ends = columns[window]
    if len(ends) == 0:
        return []
    if (ends == ends[0]).all():
        return [(int(ends[0]), columns)]
    return [(int(end), columns.filter(ends == end)) for end in np.unique(ends)]
