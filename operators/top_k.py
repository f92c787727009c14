"""The k highest records of each window: found per subtask, then among all."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamcore import BatchFunction, Columns, Context, DataStream, Field, Schema, StreamcoreError, TableState

RANK = "rank"


class TopKError(StreamcoreError):
    """The stream has no such windows or values."""


def top_k(stream: DataStream[Any], k: int, by: str, *, window: str = "window_end") -> DataStream[Any]:
    """The `k` records with the highest `by` of each window, with their `rank` from 1; among equals, the record whose
    other fields are lower (in the schema's order) comes first.

    Args:
        stream: results of windows; all records of a window have come when the watermark has passed its end.
        by: a field of numbers.
        window: the field with the window's end (exclusive, milliseconds).

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
    if k < 1:
        raise TopKError(f"top_k of {k} records: k must be at least 1")
    ranked = Schema((*schema.fields, Field(RANK, pa.int64())))
    candidates: DataStream[Any] = stream.map_batch(partial(_highest_per_window, k, by, window)).name(f"top {k} here")
    best = candidates.key_by(window).process(TopK(schema, ranked, k, by, window), returns=ranked)
    return best.name(f"top {k} by {by}")


class TopK(BatchFunction[Any]):
    """Keeps the k highest records of each window until the watermark has passed its end. Keyed by window."""

    def __init__(self, schema: Schema, ranked: Schema, k: int, by: str, window: str) -> None:
        self._schema = schema
        self._ranked = ranked
        self._k = k
        self._by = by
        self._window = window
        self._held: dict[int, Columns] = {}

    def open(self, ctx: Context[Any]) -> None:
        ctx.table_state(TableState("top", self._window, self._captured, self._restore))

    def process(self, columns: Columns, ctx: Context[Any]) -> None:
        for end, part in _by_window(columns, self._window):
            held = self._held.get(end)
            both = part if held is None else Columns.concat([held, part])
            self._held[end] = highest(both, self._k, self._by)

    def on_watermark(self, time_ms: int, ctx: Context[Any]) -> None:
        over = sorted(end for end in self._held if end - 1 <= time_ms)
        if over:
            ctx.emit_batch(Columns.concat([self._rank(self._held.pop(end)) for end in over]))

    def _rank(self, columns: Columns) -> Columns:
        ranks = np.arange(1, len(columns) + 1, dtype=np.int64)
        return Columns(self._ranked, {**columns.arrays, RANK: ranks})

    def _captured(self) -> Columns:
        if self._held:
            return Columns.concat(list(self._held.values()))
        return Columns.from_arrow(pa.RecordBatch.from_pylist([], schema=self._schema.arrow), self._schema)

    def _restore(self, rows: Columns) -> None:
        for end, part in _by_window(rows, self._window):
            self._held[end] = highest(Columns(self._schema, part.arrays), self._k, self._by)


def highest(columns: Columns, k: int, by: str) -> Columns:
    """The k records with the highest `by`, highest first; among equals those whose other fields are lower."""
    values = columns[by]
    if len(values) > k:
        threshold = np.partition(values, len(values) - k)[len(values) - k]
        columns = columns.filter(values >= threshold)
    others = [(name, "ascending") for name in columns.schema.names if name != by]
    order = pc.sort_indices(columns.to_arrow(), sort_keys=[(by, "descending"), *others])
    return columns.take(order.to_numpy()[:k])


def _highest_per_window(k: int, by: str, window: str, columns: Columns) -> Columns:
    parts = [highest(part, k, by) for _, part in _by_window(columns, window)]
    return Columns.concat(parts)


def _by_window(columns: Columns, window: str) -> list[tuple[int, Columns]]:
    ends = columns[window]
    distinct = np.unique(ends)
    if len(distinct) == 1:
        return [(int(distinct[0]), columns)]
    return [(int(end), columns.filter(ends == end)) for end in distinct]
