"""The join of a stream with the version of another that is valid at each record's event time: as-of join."""

from __future__ import annotations

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
    OutputTag,
    Schema,
    TableState,
    kernel,
)
from streamcore.operators.joining import How, JoinError, JoinFields, Rows, key_of, time_fields
from streamcore.operators.row_store import RowStore
from streamcore.operators.sorted_runs import SortedRuns

_LEAST_ROWS = 4096
"""So few rows are not worth being tidied up."""

NO_VERSION = -1
_NEVER = -(1 << 63)
_NONE: Rows = np.empty(0, np.int64)
_NO_FLAGS = np.empty(0, np.bool_)


def temporal_join(
    left: DataStream[Any],
    right: DataStream[Any],
    *,
    on: str | tuple[Any, Any],
    time: str | tuple[str, str] = "time",
    how: How = "inner",
    deleted: str | None = None,
    suffix: str = "_right",
    late_to: OutputTag[Any] | None = None,
) -> DataStream[Any]:
    """Each left record with the right record of its key that was valid at its time: the one with the latest time that
    is not after the left's; of several at one time, the one that came last (SQL's `FOR SYSTEM_TIME AS OF`).

    A left record waits until the watermark has passed its time on both streams. So do versions; then a key's last one
    is kept, however old it is, and the others are forgotten.

    A left record that the watermark has passed already is late: it is counted, and dropped or sent to a side output.
    A late version is counted, and holds for the left records that come after it, if it is its key's latest.

    The results have the left's fields, and those of the right that aren't its key.

    Args:
        on: a field that both have, or the left's and the right's: a field or a tuple of fields each. Missing values
            are equal to each other.
        time: the field with event time (int64 milliseconds) of both, or the left's and the right's.
        how: "inner", or "left": with the left records for which there is no version.
        deleted: a field of booleans of the right: a version in which it is true ends the one before, and is none.
        suffix: what is added to the names of those of the right's fields whose names the left has too.
        late_to: a side output for late left records.

    Raises:
        JoinError: the streams lack such keys, times or field, two fields would have one name, or can't be joined in the
            way that `how` says.

    Example:
        >>> from streamcore import StreamEnvironment, monotonous
        >>> env = StreamEnvironment()
        >>> orders = env.from_values([("usd", 5, 1000), ("usd", 7, 3000)], Schema.of(coin=str, sum=int, time=int))
        >>> rates = env.from_values([("usd", 0.9, 0), ("usd", 0.8, 2000)], Schema.of(coin=str, rate=float, at=int))
        >>> orders, rates = orders.assign_watermarks(monotonous("time")), rates.assign_watermarks(monotonous("at"))
        >>> joined = temporal_join(orders, rates, on="coin", time=("time", "at"))
        >>> [(record.sum, record.rate) for record in joined.execute_and_collect()]
        [(5, 0.9), (7, 0.8)]
    """
    where = "temporal_join"
    if how not in ("inner", "left"):
        raise JoinError(f"{where} can't be {how!r}", hint="inner or left")
    fields = JoinFields(where, left, right, on, how=how, suffix=suffix)
    times = time_fields(where, fields, time)
    if deleted is not None and (deleted not in fields.right.by_name or not _is_flag(fields.right, deleted)):
        raise JoinError(f"{where}: there is no field {deleted!r} of booleans", hint=f"the fields: {fields.right}")
    function = TemporalJoin(fields, times, how, deleted, late_to)
    keyed = left.connect(right).key_by(fields.left_key, fields.right_key)
    tags = () if late_to is None else (late_to,)
    return keyed.process(function, returns=fields.result, tags=tags, time=times[0]).name("as-of join")


class TemporalJoin(CoBatchFunction[Any]):
    """Keeps left records and versions until the watermark has passed them, and every key's last version. Keyed by the
    fields to join on."""

    def __init__(
        self,
        fields: JoinFields,
        times: tuple[str, str],
        how: How,
        deleted: str | None,
        late_to: OutputTag[Any] | None,
    ) -> None:
        self._fields = fields
        self._left_time, self._right_time = times
        self._keeps_alone = how == "left"
        self._deleted = deleted
        self._late_to = late_to
        self._lefts = SortedRuns(fields.left)
        self._rights = SortedRuns(fields.right)
        self._versions = RowStore(fields.right)  # all that have been a key's last one since the last tidying up
        self._forget_keys()

    def _forget_keys(self) -> None:
        self._keys = ColumnarTable(ColumnarState("keys", Schema(())))
        self._last: Rows = np.full(256, NO_VERSION, np.int64)  # the number of each slot's last version
        self._since: Rows = np.full(256, _NEVER, np.int64)  # and its time
        self._tidy_at = _LEAST_ROWS

    def open(self, ctx: Context[Any]) -> None:
        fields = self._fields
        ctx.table_state(TableState("left", fields.left_key, self._lefts.rows, self._add_left))
        ctx.table_state(TableState("right", fields.right_key, self._rights.rows, self._add_right))
        ctx.table_state(TableState("versions", fields.right_key, self._last_versions, self._set_versions))

    def process_first(self, columns: Columns, ctx: Context[Any]) -> None:
        late = self._late(columns[self._left_time], ctx)
        if late is not None:
            if self._late_to is not None:
                ctx.side_output_batch(self._late_to, columns.filter(late))
            columns = columns.filter(~late)
        self._add_left(columns)

    def process_second(self, columns: Columns, ctx: Context[Any]) -> None:
        self._late(columns[self._right_time], ctx)
        self._add_right(columns)

    def on_watermark(self, time_ms: int, ctx: Context[Any]) -> None:
        lefts, rights = self._lefts.take(time_ms), self._rights.take(time_ms)
        if rights is None and lefts is None:
            return
        fields, first = self._fields, len(self._versions)
        right_slots, right_times, ends = _NONE, _NONE, _NO_FLAGS
        if rights is not None:
            right_slots, right_times = self._slots(key_of(rights, fields.right_key)), rights[self._right_time]
            ends = rights[self._deleted] if self._deleted is not None else np.zeros(len(rights), np.bool_)
            self._versions.add(rights)
        left_slots, left_times = _NONE, _NONE
        if lefts is not None:
            left_slots, left_times = self._slots(key_of(lefts, fields.left_key)), lefts[self._left_time]
        found = sweep(left_slots, left_times, right_slots, right_times, ends, first, self._last, self._since)
        if lefts is not None:
            self._emit(lefts, found, ctx)
        if max(len(self._versions), len(self._keys)) > self._tidy_at:
            self._tidy()

    def _emit(self, lefts: Columns, found: Rows, ctx: Context[Any]) -> None:
        has_version = found >= 0
        if has_version.any():
            order, versions = self._versions.take(found[has_version])
            ctx.emit_batch(self._fields.results(lefts.filter(has_version).take(order), versions))
        if self._keeps_alone and not has_version.all():
            ctx.emit_batch(self._fields.left_alone(lefts.filter(~has_version)))

    def _late(self, times: Rows, ctx: Context[Any]) -> Any:
        """Which records are late, bool (n,); None where none is."""
        if ctx.watermark is None or len(times) == 0 or times.min() > ctx.watermark:
            return None
        late = times <= ctx.watermark
        ctx.count_late(int(np.count_nonzero(late)))
        return late

    def _add_left(self, columns: Columns) -> None:
        self._lefts.add(columns, columns[self._left_time])

    def _add_right(self, columns: Columns) -> None:
        self._rights.add(columns, columns[self._right_time])

    def _slots(self, keys: Any) -> Rows:
        slots: Rows = self._keys.slots(keys)
        missing = len(self._keys) - len(self._last)
        if missing > 0:
            missing += len(self._keys)
            self._last = np.append(self._last, np.full(missing, NO_VERSION))
            self._since = np.append(self._since, np.full(missing, _NEVER))
        return slots

    def _last_versions(self) -> Columns:
        last = self._last[self._last >= 0]
        return self._versions.rows().take(np.sort(last))

    def _set_versions(self, rows: Columns) -> None:
        """Takes the last version of each key, and forgets all others."""
        self._versions = RowStore(self._fields.right)
        self._versions.add(rows)
        self._forget_keys()
        slots = self._slots(key_of(rows, self._fields.right_key))
        self._last[slots] = np.arange(len(rows))
        self._since[slots] = rows[self._right_time]
        self._tidy_at = 2 * len(rows) + _LEAST_ROWS

    def _tidy(self) -> None:
        """Lets go of versions that aren't the last and of keys that have none: done when these may be more than half,
        so a version is moved about once."""
        self._set_versions(self._last_versions())


@kernel
def sweep(
    left_slots: Rows,
    left_times: Rows,
    right_slots: Rows,
    right_times: Rows,
    ends: Any,
    first: int,
    last: Rows,
    since: Rows,
) -> Rows:
    """Goes through both sides in order of time, versions first, and finds the version of each left record.

    Args:
        left_slots, left_times: the left records, in order of time; int64 (n,).
        right_slots, right_times, ends: the versions, in order of time, and whether they are the end of one; (m,).
        first: the number of the first of these versions; those that follow have the next ones.
        last, since: the number and the time of each slot's last version; changed in place.

    Returns:
        The number of each left record's version, or NO_VERSION; int64 (n,).
    """
    found = np.empty(len(left_slots), np.int64)
    right = 0
    for left in range(len(left_slots) + 1):
        while right < len(right_slots) and (left == len(left_slots) or right_times[right] <= left_times[left]):
            slot = right_slots[right]
            if right_times[right] >= since[slot]:  # else it came late, and there is a newer one
                since[slot] = right_times[right]
                last[slot] = NO_VERSION if ends[right] else first + right
            right += 1
        if left < len(left_slots):
            found[left] = last[left_slots[left]]
    return found


def _is_flag(schema: Schema, name: str) -> bool:
    field = schema.by_name[name]
    return bool(pa.types.is_boolean(field.type)) and not field.nullable
