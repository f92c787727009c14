"""Two streams that meet window by window: what window join and co-group have in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np

from streamcore import (
    MAX_TIME,
    CoBatchFunction,
    ColumnarState,
    ColumnarTable,
    Columns,
    Context,
    OutputTag,
    Schema,
    TableState,
    Windows,
)
from streamcore.operators.event_time_buffer import EventTimeBuffer
from streamcore.operators.joining import JoinError, JoinFields, LateTags, Rows, key_of

_BEFORE_ALL = -(1 << 63)


class PairedWindows(CoBatchFunction[Any]):
    """Keeps both streams' records by slice of event time, and hands over a window's records of both when the watermark
    has passed its end. Keyed by the fields to meet on.

    A record whose windows are all over is late: it is counted, and dropped or sent to a side output. One that lies
    between windows that stand apart belongs to none, and is dropped without a word.
    """

    def __init__(self, fields: JoinFields, windows: Windows, times: tuple[str, str], late_to: LateTags | None) -> None:
        self.fields = fields
        self._windows = windows
        self.times = times
        self._late_to: tuple[OutputTag[Any] | None, ...] = (None, None) if late_to is None else late_to
        sides = zip((fields.left, fields.right), times, strict=True)
        self._stretch_ms = math.gcd(windows.size_ms, windows.every_ms)  # every window begins and ends with one
        self._buffers = [EventTimeBuffer(schema, time, self._stretch_ms, windows.offset_ms) for schema, time in sides]
        self._watermark = _BEFORE_ALL

    def open(self, ctx: Context[Any]) -> None:
        if ctx.watermark is not None:
            self._pass(ctx.watermark)  # nothing is there yet; what was late before the restore is late again
        left, right = self._buffers
        ctx.table_state(TableState("left", self.fields.left_key, left.rows, self._restore(left)))
        ctx.table_state(TableState("right", self.fields.right_key, right.rows, self._restore(right)))

    def process_first(self, columns: Columns, ctx: Context[Any]) -> None:
        self._add(0, columns, ctx)

    def process_second(self, columns: Columns, ctx: Context[Any]) -> None:
        self._add(1, columns, ctx)

    def on_watermark(self, time_ms: int, ctx: Context[Any]) -> None:
        left, right = self._buffers
        windows = self._windows
        starts = np.array([*left.numbers, *right.numbers], np.int64) * self._stretch_ms + windows.offset_ms
        for window in windows.due(self._watermark, time_ms, np.unique(windows.slices_of(starts)).tolist()):
            start, end = windows.bounds(window)
            stretches = range(self._stretch(start), self._stretch(end))
            self.complete((start, end), left.stretches(stretches), right.stretches(stretches), ctx)
        self._pass(time_ms)

    @abstractmethod
    def complete(self, bounds: tuple[int, int], left: Columns, right: Columns, ctx: Context[Any]) -> None:
        """Takes the records of a window [start, end) that is over; one of the sides may have none."""

    def slots(self, left: Columns, right: Columns) -> tuple[Rows, Rows, int]:
        """Numbers the keys: that of each left and of each right record, from 0, and how many keys there are."""
        keys = ColumnarTable(ColumnarState("keys", Schema(())))
        left_slots = keys.slots(key_of(left, self.fields.left_key))
        return left_slots, keys.slots(key_of(right, self.fields.right_key)), len(keys)

    def _add(self, side: int, columns: Columns, ctx: Context[Any]) -> None:
        windows = self._windows
        inside = windows.inside(windows.slices_of(columns[self.times[side]]))
        late = self._buffers[side].add(columns if inside is None else columns.filter(inside))
        if late is not None:
            ctx.count_late(len(late))
            tag = self._late_to[side]
            if tag is not None:
                ctx.side_output_batch(tag, late)

    def _pass(self, time_ms: int) -> None:
        self._watermark = max(self._watermark, time_ms)
        start, _ = self._windows.bounds(self._windows.first_open(self._watermark))
        for buffer in self._buffers:
            buffer.drop(max(_BEFORE_ALL, min(self._stretch(start), MAX_TIME)))

    def _stretch(self, time_ms: int) -> int:
        return (time_ms - self._windows.offset_ms) // self._stretch_ms

    def _restore(self, buffer: EventTimeBuffer) -> Any:
        return buffer.add


def check_windows(where: str, windows: Any) -> None:
    """Refuses windows that aren't stretches of event time of one size.

    Raises:
        JoinError: they are of another kind.
    """
    if not isinstance(windows, Windows) or windows.processing_time:
        raise JoinError(
            f"{where} takes tumbling or sliding windows of event time, not {windows!r}",
            hint="tumbling(seconds(10)), or sliding(...)",
        )


def rows_without(rows: Rows, count: int) -> Rows:
    """The numbers below `count` that aren't among `rows`."""
    alone = np.ones(count, np.bool_)
    alone[rows] = False
    return np.flatnonzero(alone)
