"""The join of two streams by key within windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import Columns, Context, DataStream, Field, Windows
from streamcore.operators.joining import How, JoinError, JoinFields, LateTags, late_tags, matches, time_fields
from streamcore.operators.paired_windows import PairedWindows, check_windows, rows_without

WINDOW_START, WINDOW_END = "window_start", "window_end"

_BATCH_ROWS = 8192


def window_join(
    left: DataStream[Any],
    right: DataStream[Any],
    *,
    on: str | tuple[Any, Any],
    windows: Windows,
    time: str | tuple[str, str] = "time",
    how: How = "inner",
    bounds: bool = False,
    suffix: str = "_right",
    late_to: LateTags | None = None,
) -> DataStream[Any]:
    """Every pair of a left and a right record with equal keys and the same window, when the watermark has passed the
    window's end; of overlapping windows, once for each that has both. What comes later is counted, and dropped or
    sent to a side output.

    The results have the left's fields, and those of the right that aren't its key; of semi and anti joins the left's.

    Args:
        on: a field that both have, or the left's and the right's: a field or a tuple of fields each. Missing values
            are equal to each other.
        windows: tumbling or sliding ones.
        time: the field with event time (int64 milliseconds) of both, or the left's and the right's. To join results
            of windows, it is their `window_start`.
        how: "inner"; "left", "right", "full": with the records that have no partner in the window; "semi", "anti": the
            left records that have one, that have none.
        bounds: adds the fields `window_start` and `window_end` (exclusive), in milliseconds.
        suffix: what is added to the names of those of the right's fields whose names the left has too.
        late_to: two side outputs, for the late records of the left and of the right stream.

    Raises:
        JoinError: the streams lack such keys or times, or two fields would have one name, or `how` is unknown.

    Example:
        >>> from streamcore import Schema, StreamEnvironment, monotonous, tumbling, seconds
        >>> env = StreamEnvironment()
        >>> seen = env.from_values([("ann", 1), ("bob", 2)], Schema.of(user=str, time=int))
        >>> paid = env.from_values([("bob", 5, 900), ("bob", 7, 1000)], Schema.of(payer=str, sum=int, at=int))
        >>> seen, paid = seen.assign_watermarks(monotonous("time")), paid.assign_watermarks(monotonous("at"))
        >>> joined = window_join(seen, paid, on=("user", "payer"), windows=tumbling(seconds(1)), time=("time", "at"))
        >>> [tuple(record) for record in joined.execute_and_collect()]
        [('bob', 2, 5, 900)]
    """
    where = "window_join"
    check_windows(where, windows)
    if how not in ("inner", "left", "right", "full", "semi", "anti"):
        raise JoinError(f"{where} can't be {how!r}", hint="inner, left, right, full, semi or anti")
    added = tuple(Field(name, pa.int64()) for name in (WINDOW_START, WINDOW_END)) if bounds else ()
    fields = JoinFields(where, left, right, on, how=how, suffix=suffix, added=added)
    function = WindowJoin(fields, windows, time_fields(where, fields, time), late_to, how, bounds)
    keyed = left.connect(right).key_by(fields.left_key, fields.right_key)
    stream = keyed.process(function, returns=fields.result, tags=late_tags(late_to))
    return stream.name(f"join per {windows}")


class WindowJoin(PairedWindows):
    """Joins a window's records when it is over."""

    def __init__(
        self,
        fields: JoinFields,
        windows: Windows,
        times: tuple[str, str],
        late_to: LateTags | None,
        how: How,
        bounds: bool,
    ) -> None:
        super().__init__(fields, windows, times, late_to)
        self._how = how
        self._bounds = bounds
        self._joined: list[Columns] = []

    def on_watermark(self, time_ms: int, ctx: Context[Any]) -> None:
        super().on_watermark(time_ms, ctx)
        self._send(ctx)

    def complete(self, bounds: tuple[int, int], left: Columns, right: Columns, ctx: Context[Any]) -> None:
        how, fields = self._how, self.fields
        if how == "inner" and not (len(left) and len(right)):
            return
        left_slots, right_slots, keys = self.slots(left, right)
        left_rows, right_rows = matches(left_slots, right_slots, keys)
        if how == "semi":
            kept = np.unique(left_rows)
            self._gather(fields.left_alone(left.take(kept), **self._added(bounds, len(kept))), ctx)
        elif how != "anti":
            added = self._added(bounds, len(left_rows))
            self._gather(fields.results(left.take(left_rows), right.take(right_rows), **added), ctx)
        if how in ("left", "full", "anti"):
            alone = rows_without(left_rows, len(left))
            self._gather(fields.left_alone(left.take(alone), **self._added(bounds, len(alone))), ctx)
        if how in ("right", "full"):
            alone = rows_without(right_rows, len(right))
            self._gather(fields.right_alone(right.take(alone), **self._added(bounds, len(alone))), ctx)

    def _added(self, bounds: tuple[int, int], count: int) -> dict[str, Any]:
        names = (WINDOW_START, WINDOW_END) if self._bounds else ()
        return {name: np.full(count, at, np.int64) for name, at in zip(names, bounds, strict=False)}

    def _gather(self, results: Columns, ctx: Context[Any]) -> None:
        """Small windows go out together."""
        if len(results):
            self._joined.append(results)
            if sum(map(len, self._joined)) >= _BATCH_ROWS:
                self._send(ctx)

    def _send(self, ctx: Context[Any]) -> None:
        if self._joined:
            joined, self._joined = self._joined, []
            ctx.emit_batch(Columns.concat(joined))
