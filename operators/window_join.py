"""The inner join of two streams by key within tumbling windows."""

from __future__ import annotations

from typing import Any

from streamcore import (
    CoBatchFunction,
    ColumnarState,
    ColumnarTable,
    Columns,
    Context,
    DataStream,
    Schema,
    TableState,
    Windows,
)
from streamcore.operators.event_time_buffer import EventTimeBuffer
from streamcore.operators.joining import JoinError, JoinFields, key_of, matches


def window_join(
    left: DataStream[Any],
    right: DataStream[Any],
    *,
    on: str | tuple[Any, Any],
    windows: Windows,
    time: str | tuple[str, str] = "time",
) -> DataStream[Any]:
    """Every pair of a left and a right record with equal keys and the same window, when the watermark has passed the
    window's end. What comes later is dropped.

    The results have the left's fields, and those of the right that aren't its key.

    Args:
        on: a field that both have, or the left's and the right's: a field or a tuple of fields each. Missing values
            are equal to each other.
        windows: tumbling ones.
        time: the field with event time (int64 milliseconds) of both, or the left's and the right's. To join results
            of windows, it is their `window_start`.

    Raises:
        JoinError: the windows overlap, or the streams lack such keys, or have other fields of one name.
        StreamcoreError: a stream has no such time.

    Example:
        >>> from streamcore import StreamEnvironment, monotonous, tumbling, seconds
        >>> env = StreamEnvironment()
        >>> seen = env.from_values([("ann", 1), ("bob", 2)], Schema.of(user=str, time=int))
        >>> paid = env.from_values([("bob", 5, 900), ("bob", 7, 1000)], Schema.of(payer=str, sum=int, at=int))
        >>> seen, paid = seen.assign_watermarks(monotonous("time")), paid.assign_watermarks(monotonous("at"))
        >>> joined = window_join(seen, paid, on=("user", "payer"), windows=tumbling(seconds(1)), time=("time", "at"))
        >>> [tuple(record) for record in joined.execute_and_collect()]
        [('bob', 2, 5, 900)]
    """
    if windows.size_ms != windows.every_ms:
        raise JoinError(
            f"window_join over windows of {windows}: they must be side by side", hint="tumbling(seconds(10))"
        )
    fields = JoinFields("window_join", left, right, on)
    times = (time, time) if isinstance(time, str) else time
    function = WindowJoin(fields, windows, times)
    keyed = left.connect(right).key_by(fields.left_key, fields.right_key)
    return keyed.process(function, returns=fields.result).name(f"join per {windows}")


class WindowJoin(CoBatchFunction[Any]):
    """Keeps both streams' records by window and joins a window when it is over."""

    def __init__(self, fields: JoinFields, windows: Windows, times: tuple[str, str]) -> None:
        self._fields = fields
        sides = zip((fields.left, fields.right), times, strict=True)
        self._left, self._right = (
            EventTimeBuffer(schema, time, windows.size_ms, windows.offset_ms) for schema, time in sides
        )

    def open(self, ctx: Context[Any]) -> None:
        fields, left, right = self._fields, self._left, self._right
        if ctx.watermark is not None:
            self.on_watermark(
                ctx.watermark, ctx
            )  # nothing is there yet; what was late before the restore is late again
        ctx.table_state(TableState("left", fields.left_key, left.rows, left.add))
        ctx.table_state(TableState("right", fields.right_key, right.rows, right.add))

    def process_first(self, columns: Columns, ctx: Context[Any]) -> None:
        self._left.add(columns)

    def process_second(self, columns: Columns, ctx: Context[Any]) -> None:
        self._right.add(columns)

    def on_watermark(self, time_ms: int, ctx: Context[Any]) -> None:
        left, right = self._left.take_stretches(time_ms + 1), dict(self._right.take_stretches(time_ms + 1))
        joined = [self._join(part, right[window]) for window, part in left if window in right]
        if joined:
            ctx.emit_batch(Columns.concat(joined))

    def _join(self, left: Columns, right: Columns) -> Columns:
        keys = ColumnarTable(ColumnarState("keys", Schema(())))
        left_slots = keys.slots(key_of(left, self._fields.left_key))
        right_slots = keys.slots(key_of(right, self._fields.right_key))
        left_rows, right_rows = matches(left_slots, right_slots, len(keys))
        return self._fields.results(left.take(left_rows), right.take(right_rows))
