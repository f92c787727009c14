"""Drops records whose key has been seen: ever, or within a span of event time."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import (
    BatchFunction,
    ColumnarState,
    Columns,
    Context,
    DataStream,
    Schema,
    TableState,
    TopologyError,
    kernel,
)
from streamcore.operators.joining import key_of


class DeduplicateError(TopologyError):
    """The stream has no such fields, or the span can't be."""


def deduplicate(
    stream: DataStream[Any], by: str | tuple[str, ...], *, within: float | None = None, time: str = "time"
) -> DataStream[Any]:
    """The first record of each key, in the order in which they come; later ones with the same key are dropped.

    Args:
        by: the fields that make a record the same as another.
        within: seconds of event time: a record is dropped only if it is less than that away, before or after, from the
            latest one of its key that was let through. A key is forgotten when the watermark has passed it by as much,
            so a repeat that comes later still is let through. Without `within`, keys are kept for ever.
        time: with `within`, the field with the record's time: int64 milliseconds.

    Raises:
        DeduplicateError: a field isn't there, the time isn't whole milliseconds, or the span is not above 0.

    Example:
        >>> from streamcore import Schema, StreamEnvironment, monotonous, seconds
        >>> beats = [("a", 0), ("a", 4_000), ("b", 4_000), ("a", 5_000)]
        >>> stream = StreamEnvironment().from_values(beats, Schema.of(id=str, time=int))
        >>> stream = stream.assign_watermarks(monotonous("time"))
        >>> [tuple(record) for record in deduplicate(stream, "id", within=seconds(5)).execute_and_collect()]
        [('a', 0), ('b', 4000), ('a', 5000)]
    """
    schema, names = stream.schema, by if isinstance(by, tuple) else (by,)
    missing = [name for name in names if schema is None or name not in schema.by_name]
    if schema is None or missing or not names:
        raise DeduplicateError(f"deduplicate needs the fields {names}", hint=f"the stream's type is {schema}")
    if within is None:
        function: BatchFunction[Any] = FirstEver(by)
    else:
        if not 0 < within < math.inf:
            raise DeduplicateError(f"deduplicate within {within} s", hint="the span must be above 0, or left out")
        field = schema.by_name.get(time)
        if field is None or field.dtype is None or not pa.types.is_integer(field.type):
            raise DeduplicateError(f"deduplicate: {time!r} must be whole milliseconds", hint=f"the type is {schema}")
        function = FirstWithin(schema, by, round(within * 1000), time)
    return stream.key_by(by).process(function, returns=schema).name(f"first of each {', '.join(names)}")


class FirstEver(BatchFunction[Any]):
    """Lets the first record of each key through. Compiled; a byte and the key are kept for each key."""

    def __init__(self, by: str | tuple[str, ...]) -> None:
        self._by = by

    def open(self, ctx: Context[Any]) -> None:
        self._seen = ctx.state(ColumnarState("seen", Schema.of(seen=bool)))

    def process(self, columns: Columns, ctx: Context[Any]) -> None:
        slots = self._seen.slots(key_of(columns, self._by))
        ctx.emit_batch(columns.filter(_first(slots, self._seen["seen"])))


class FirstWithin(BatchFunction[Any]):
    """Lets a record through if the latest of its key that was is `within_ms` away. Keeps that one's time until the
    watermark has passed it by as much; keys wait in buckets of time, so that forgetting them needs no search."""

    def __init__(self, schema: Schema, by: str | tuple[str, ...], within_ms: int, time: str) -> None:
        self._by = by if isinstance(by, tuple) else (by,)
        self._schema = schema.select((*self._by, time) if time not in self._by else self._by)
        self._key = by  # as the stream is keyed: a tuple of one field is another key than the field
        self._within_ms = within_ms
        self._time = time
        self._passed: dict[Any, int] = {}
        self._buckets: defaultdict[int, list[Any]] = defaultdict(list)

    def open(self, ctx: Context[Any]) -> None:
        ctx.table_state(TableState("passed", self._key, self._captured, self._restore))

    def process(self, columns: Columns, ctx: Context[Any]) -> None:
        passed, within = self._passed, self._within_ms
        keep = np.zeros(len(columns), np.bool_)
        for i, (key, time) in enumerate(zip(self._keys(columns), columns[self._time].tolist(), strict=True)):
            last = passed.get(key)
            if last is None or abs(time - last) >= within:
                keep[i] = True
                self._remember(key, time if last is None else max(time, last))
        ctx.emit_batch(columns.filter(keep))

    def on_watermark(self, time_ms: int, ctx: Context[Any]) -> None:
        over = sorted(bucket for bucket in self._buckets if (bucket + 2) * self._within_ms - 1 <= time_ms)
        for bucket in over:
            for key in self._buckets.pop(bucket):
                if key in self._passed and self._passed[key] // self._within_ms <= bucket:
                    del self._passed[key]

    def _remember(self, key: Any, time: int) -> None:
        self._passed[key] = time
        self._buckets[time // self._within_ms].append(key)

    def _keys(self, columns: Columns) -> list[Any]:
        lists = [_plain(columns[name]) for name in self._by]
        return lists[0] if len(lists) == 1 else list(zip(*lists, strict=True))

    def _captured(self) -> Columns:
        keys = list(self._passed) if len(self._by) > 1 else [(key,) for key in self._passed]
        rows = [
            dict(zip(self._by, key, strict=True)) | {self._time: time}
            for key, time in zip(keys, self._passed.values(), strict=True)
        ]
        return Columns.from_arrow(pa.RecordBatch.from_pylist(rows, schema=self._schema.arrow), self._schema)

    def _restore(self, rows: Columns) -> None:
        for key, time in zip(self._keys(rows), _plain(rows[self._time]), strict=True):
            self._remember(key, time)


def _plain(array: Any) -> list[Any]:
    values: list[Any] = array.tolist() if isinstance(array, np.ndarray) else array.to_pylist()
    return values


@kernel
def _first(slots: Any, seen: Any) -> Any:
    """Whether each record is the first of its slot; marks them. bool (n,)"""
    first = np.empty(len(slots), np.bool_)
    for i in range(len(slots)):
        first[i] = not seen[slots[i]]
        seen[slots[i]] = True
    return first
