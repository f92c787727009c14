"""The join of two streams by key and distance in event time (as in Apache Flink)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import (
    CoBatchFunction,
    ColumnarState,
    ColumnarTable,
    Columns,
    Context,
    DataStream,
    Field,
    OutputTag,
    Schema,
    TableState,
)
from streamcore.operators.joining import (
    How,
    JoinError,
    JoinFields,
    Key,
    LateTags,
    Rows,
    key_of,
    late_tags,
    time_fields,
)
from streamcore.operators.row_store import RowStore
from streamcore.operators.sorted_runs import SortedRuns
from streamcore.operators.time_chains import TimeChains

_DUE = Schema.of(due=int, row=int)
_LEAST_ROWS = 4096
"""So few rows are not worth being tidied up."""


def interval_join(
    first: DataStream[Any],
    second: DataStream[Any],
    *,
    on: str | tuple[Any, Any],
    lower: float,
    upper: float,
    time: str | tuple[str, str] = "time",
    how: How = "inner",
    include_lower: bool = True,
    include_upper: bool = True,
    suffix: str = "_right",
    result_time: str | None = None,
    late_to: LateTags | None = None,
) -> DataStream[Any]:
    """Every pair of a first and a second record with equal keys and
    `first.time + lower <= second.time <= first.time + upper`, as soon as both have come (Apache Flink's interval join,
    of whose DataStream API this is the inner, of whose SQL the outer form).

    A record is forgotten when the watermark has passed all that it could be joined with. A record that the watermark
    has come to already is late: it is counted, and dropped or sent to a side output. (That of Flink's DataStream API
    still takes one exactly at the watermark, and joins it with what has not been forgotten: its result would be late
    for every window after the join.) With `how` left, right or full,
    a record that has met no partner comes alone when it is forgotten.

    The results have the first's fields, and those of the second that aren't its key.

    Args:
        on: a field that both have, or the first's and the second's: a field or a tuple of fields each. Missing values
            are equal to each other.
        lower, upper: how long after the first record, in seconds of event time, the second one may come; below zero:
            before it. Whole milliseconds.
        time: the field with event time (int64 milliseconds) of both, or the first's and the second's.
        how: "inner", "left", "right" or "full".
        include_lower, include_upper: whether a distance of exactly `lower`, `upper` counts.
        suffix: what is added to the names of those of the second's fields whose names the first has too.
        result_time: the name of one more field, the results' event time, by which windows after the join can go: the
            later of both records' times; of a record without partner when that was known. The watermark has not
            passed it, while it may have passed the other times in a result.
        late_to: two side outputs, for the late records of the first and of the second stream.

    Raises:
        JoinError: the bounds leave no distance, the streams lack such keys or times, two fields would have one name,
            or can't be joined in the way that `how` says.

    Example:
        >>> from streamcore import StreamEnvironment, monotonous, seconds
        >>> env = StreamEnvironment()
        >>> orders = env.from_values([("ann", 1000), ("bob", 2000)], Schema.of(user=str, time=int))
        >>> paid = env.from_values([("bob", 5, 900), ("bob", 7, 4000)], Schema.of(payer=str, sum=int, at=int))
        >>> orders, paid = orders.assign_watermarks(monotonous("time")), paid.assign_watermarks(monotonous("at"))
        >>> joined = interval_join(
        ...     orders, paid, on=("user", "payer"), lower=0, upper=seconds(5), time=("time", "at")
        ... )
        >>> [tuple(record) for record in joined.execute_and_collect()]
        [('bob', 2000, 7, 4000)]
    """
    where = "interval_join"
    if not (math.isfinite(lower) and math.isfinite(upper)):
        raise JoinError(f"{where} from {lower} s to {upper} s", hint="records without bound are stream_join's")
    low, high = round(lower * 1000) + (not include_lower), round(upper * 1000) - (not include_upper)
    if low > high:
        raise JoinError(f"{where}: no distance is from {lower} s to {upper} s", hint="lower must not be above upper")
    if how not in ("inner", "left", "right", "full"):
        raise JoinError(
            f"{where} can't be {how!r}", hint="inner, left, right or full; window_join can be semi and anti"
        )
    added = (Field(result_time, pa.int64()),) if result_time is not None else ()
    fields = JoinFields(where, first, second, on, how=how, suffix=suffix, added=added)
    function = IntervalJoin(fields, time_fields(where, fields, time), (low, high), how, result_time, late_to)
    keyed = first.connect(second).key_by(fields.left_key, fields.right_key)
    stream = keyed.process(function, returns=fields.result, tags=late_tags(late_to), time=result_time)
    return stream.name(f"join from {low} ms to {high} ms")


class IntervalJoin(CoBatchFunction[Any]):
    """Keeps both streams' records in an index by key and time. Keyed by the fields to join on."""

    def __init__(
        self,
        fields: JoinFields,
        times: tuple[str, str],
        bounds: tuple[int, int],
        how: How,
        result_time: str | None,
        late_to: LateTags | None,
    ) -> None:
        self._fields = fields
        self._result_time = result_time
        low, high = bounds
        tags: tuple[OutputTag[Any] | None, ...] = (None, None) if late_to is None else late_to
        self._first = _Side(fields.left, fields.left_key, times[0], (low, high), how in ("left", "full"), tags[0])
        self._second = _Side(fields.right, fields.right_key, times[1], (-high, -low), how in ("right", "full"), tags[1])

    def open(self, ctx: Context[Any]) -> None:
        self._keys = ColumnarTable(ColumnarState("keys", Schema(())))
        for name, side in (("first", self._first), ("second", self._second)):
            ctx.table_state(TableState(name, side.key, side.captured, self._restore(side)))

    def process_first(self, columns: Columns, ctx: Context[Any]) -> None:
        self._process(columns, self._first, self._second, ctx)

    def process_second(self, columns: Columns, ctx: Context[Any]) -> None:
        self._process(columns, self._second, self._first, ctx)

    def on_watermark(self, time_ms: int, ctx: Context[Any]) -> None:
        for side in (self._first, self._second):
            alone = side.forget(time_ms)
            if alone is not None:
                ctx.emit_batch(self._alone(alone, side))
        if len(self._keys) > 2 * (len(self._first) + len(self._second)) + _LEAST_ROWS:
            self._keys = ColumnarTable(ColumnarState("keys", Schema(())))
            for side in (self._first, self._second):
                side.renumber(self._keys)

    def _process(self, columns: Columns, own: _Side, other: _Side, ctx: Context[Any]) -> None:
        columns = own.in_time(columns, ctx)
        if len(columns) == 0:
            return
        slots, times = self._keys.slots(key_of(columns, own.key)), columns[own.time]
        places, rows = other.chains.between(slots, times + own.low, times + own.high)
        if len(rows):
            self._emit_pairs(columns, places, own, other, rows, ctx)
        alone = own.add(columns, slots, times, places, ctx.watermark)
        if alone is not None:
            ctx.emit_batch(self._alone(alone, own))

    def _emit_pairs(
        self, columns: Columns, places: Rows, own: _Side, other: _Side, rows: Rows, ctx: Context[Any]
    ) -> None:
        other.meet(rows)
        order, others = other.store.take(rows)
        own_columns = columns.take(places[order])
        added = {}
        if self._result_time is not None:
            added[self._result_time] = np.maximum(own_columns[own.time], others[other.time])
        left, right = (own_columns, others) if own is self._first else (others, own_columns)
        ctx.emit_batch(self._fields.results(left, right, **added))

    def _alone(self, columns: Columns, side: _Side) -> Columns:
        added = {}
        if self._result_time is not None:
            added[self._result_time] = columns[side.time] + max(side.high, 0)
        fields = self._fields
        return fields.left_alone(columns, **added) if side is self._first else fields.right_alone(columns, **added)

    def _restore(self, side: _Side) -> Any:
        return lambda rows: side.restore(rows, self._keys)


class _Side:
    """One stream's records: those that can still meet others at distances from `low` to `high` after them."""

    def __init__(
        self,
        schema: Schema,
        key: Key,
        time: str,
        bounds: tuple[int, int],
        keeps_alone: bool,
        late_to: OutputTag[Any] | None,
    ) -> None:
        self.key = key
        self.time = time
        self.low, self.high = bounds
        self.store = RowStore(schema)
        self.chains = TimeChains(self.high - self.low)
        self._keeps_alone = keeps_alone
        self._late_to = late_to
        self._met = np.zeros(256, np.bool_)
        self._due = SortedRuns(_DUE)
        self._met_field = "met"
        while self._met_field in schema.by_name:
            self._met_field += "_"

    def __len__(self) -> int:
        return len(self.store)

    def in_time(self, columns: Columns, ctx: Context[Any]) -> Columns:
        """The records that aren't late; the others are counted, and go to their side output."""
        if ctx.watermark is None:
            return columns
        late = columns[self.time] <= ctx.watermark
        if not late.any():
            return columns
        lates = columns.filter(late)
        ctx.count_late(len(lates))
        if self._late_to is not None:
            ctx.side_output_batch(self._late_to, lates)
        return columns.filter(~late)

    def add(self, columns: Columns, slots: Rows, times: Rows, places: Rows, watermark: int | None) -> Columns | None:
        """Keeps the records that others may still come for; `places` says which have met others. Returns those that
        have not and never will, if they are wanted."""
        met = np.zeros(len(columns), np.bool_)
        met[places] = True
        alone = None
        if watermark is not None and self.high < 0:
            is_over = times + self.high <= watermark
            if is_over.any():
                alone = columns.filter(is_over & ~met) if self._keeps_alone else None
                columns, slots, times, met = columns.filter(~is_over), slots[~is_over], times[~is_over], met[~is_over]
        self._keep(columns, slots, times, met)
        return alone if alone is not None and len(alone) else None

    def meet(self, rows: Rows) -> None:
        """Takes note that rows have met others."""
        if self._keeps_alone:
            self._met[rows] = True

    def forget(self, time_ms: int) -> Columns | None:
        """Forgets the records that nothing can come for any more; returns those that have met none, if wanted."""
        due = self._due.take(time_ms)
        if due is None:
            return None
        alone = None
        if self._keeps_alone:
            rows = due["row"]
            rows = rows[~self._met[rows]]
            if len(rows):
                _, alone = self.store.take(rows)
        if len(self.store) > 2 * len(self._due) and (len(self.store) > _LEAST_ROWS or len(self._due) == 0):
            self._tidy()
        return alone

    def renumber(self, keys: ColumnarTable) -> None:
        """Gives the records slots in another table."""
        self._tidy()
        self.chains.replace(keys.slots(key_of(self.store.rows(), self.key)), self.chains.times)

    def captured(self) -> Columns:
        """What is kept, with whether it has met others."""
        live = np.sort(self._due.rows()["row"])
        rows = self.store.rows().take(live)
        return rows.with_columns(**{self._met_field: self._met[live]}) if self._keeps_alone else rows

    def restore(self, saved: Columns, keys: ColumnarTable) -> None:
        """Takes what was captured."""
        met = saved[self._met_field] if self._met_field in saved else np.zeros(len(saved), np.bool_)
        columns = Columns(self.store.schema, saved.arrays)
        self._keep(columns, keys.slots(key_of(columns, self.key)), columns[self.time], met)

    def _keep(self, columns: Columns, slots: Rows, times: Rows, met: Any) -> None:
        first, size = len(self.store), len(self.store) + len(columns)
        self.store.add(columns)
        self.chains.add(slots, times)
        self._await(first, times)
        if self._keeps_alone:
            if size > len(self._met):
                self._met = np.concatenate([self._met[:first], np.zeros(2 * size - first, np.bool_)])
            self._met[first:size] = met

    def _await(self, first: int, times: Rows) -> None:
        due = times + self.high
        self._due.add(Columns(_DUE, {"due": due, "row": np.arange(first, first + len(times))}), due)

    def _tidy(self) -> None:
        """Lets go of what is forgotten: done when that is more than half, so a record is moved about once."""
        live = np.sort(self._due.rows()["row"])
        slots, times = self.chains.slots[live], self.chains.times[live]
        self.store.keep(live)
        self.chains.replace(slots, times)
        self._due = SortedRuns(_DUE)
        self._await(0, times)
        if self._keeps_alone:
            self._met = np.append(self._met[live], np.zeros(256, np.bool_))
