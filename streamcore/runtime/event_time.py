"""Event time: which field of a record says when it happened.

Event times are int64 milliseconds; datetime columns are converted. How far a stream's time has come is
`runtime.watermark_strategy`, which of these times can be believed `runtime.bad_times`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import Array, Batch, Columns, Schema
from streamcore.errors import BadRecordError, TopologyError
from streamcore.kernels.accumulate import floor_divide

Times = np.ndarray[Any, np.dtype[np.int64]]
"""Milliseconds of event time; int64 (n,)."""

Mask = np.ndarray[Any, np.dtype[np.bool_]]
"""One truth a record; bool (n,)."""

TimeOf = str | Callable[[Any], int]

LIMIT_MS = 1 << 62
"""Beyond it, before or after 1970, the arithmetic of windows would not fit 64 bits."""

_MILLISECONDS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}
"""A unit of Arrow's timestamps → by what to multiply and divide it."""


@dataclass(frozen=True)
class EventTime:
    """Where a record's event time is: a field of a typed stream, or a function of the record that returns
    milliseconds. `shift_ms` is added to it. `may_miss`: records without one are taken out where the stream gets its
    watermarks, so that the field may be an optional one."""

    by: TimeOf
    shift_ms: int = 0
    may_miss: bool = False

    @property
    def in_columns(self) -> bool:
        """Whether it is read from columns."""
        return isinstance(self.by, str)

    def check(self, schema: Schema | None, where: str) -> None:
        """Refuses a field that isn't there or has no time in it.

        Raises:
            TopologyError: says which and where.
        """
        if not isinstance(self.by, str):
            return
        if schema is None:
            raise TopologyError(
                f"{where}: the stream has no type, so it has no field {self.by!r}",
                hint="give the stream a type, or a function from record to milliseconds",
            )
        field = schema.by_name.get(self.by)
        if field is None:
            raise TopologyError(f"{where}: there is no field {self.by!r}", hint=f"the fields are {schema}")
        if not (pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type)):
            raise TopologyError(
                f"{where}: field {field} can't be event time", hint="event time is int milliseconds or a datetime"
            )
        if field.nullable and not self.may_miss:
            raise TopologyError(
                f"{where}: field {field} can't be event time, since it may be missing (a type with ?)",
                hint="say what becomes of records without: strategy.with_bad_times('skip'), 'side_output' or 'fail'",
            )

    def times(self, batch: Batch) -> Times:
        """The event times of a batch, every one of which has one.

        Raises:
            BadRecordError: a record has none.
        """
        times, missing = self.read(batch)
        if missing is not None:
            raise BadRecordError(
                f"the event time of a record {self.fault(batch, int(np.argmax(missing)))}",
                hint="event time is whole milliseconds, an int of 64 bits; with_bad_times('skip') drops others",
            )
        if len(times) and (times.min() < -LIMIT_MS or times.max() > LIMIT_MS):
            far = int(times.max() if times.max() > LIMIT_MS else times.min())
            raise BadRecordError(f"the event time of a record is {far}", hint="event time is milliseconds since 1970")
        return times + self.shift_ms if self.shift_ms else times

    def read(self, batch: Batch) -> tuple[Times, Mask | None]:
        """The event times as the records have them, not shifted, and which records have none: null, or what isn't
        whole milliseconds (their time here is 0); None: all have one."""
        if not isinstance(self.by, str):
            rows = batch.to_rows() if isinstance(batch, Columns) else batch
            return _whole([self.by(record) for record in rows])
        assert isinstance(batch, Columns), "rows where event time is a field"
        column = batch[self.by]
        missing = None
        if not isinstance(column, np.ndarray):
            if column.null_count:
                missing = column.is_null().to_numpy(zero_copy_only=False)
                column = column.fill_null(0 if pa.types.is_integer(column.type) else pa.scalar(0, column.type))
            return _of_arrow(column), missing
        return _of_numbers(column), None

    def fault(self, batch: Batch, at: int) -> str:
        """What is wrong with the event time of record `at` of a batch, which `read` has found missing."""
        if isinstance(self.by, str):
            return f"is missing: its field {self.by!r} is empty"
        rows = batch.slice(at, at + 1).to_rows() if isinstance(batch, Columns) else [batch[at]]
        value = self.by(rows[0])
        return "is missing: the function gave None" if value is None else f"is {value!r}, not whole milliseconds"


def _of_numbers(column: Array) -> Times:
    if column.dtype == np.uint64:  # what is too large must not come round as a small number
        column = np.minimum(column, np.uint64(LIMIT_MS + 1))
    times: Times = column.astype(np.int64, copy=False)
    return times


def _of_arrow(column: pa.Array) -> Times:
    if pa.types.is_integer(column.type):
        return _of_numbers(column.to_numpy(zero_copy_only=False))
    ticks: Times = column.cast(pa.int64()).to_numpy()
    multiply, divide = _MILLISECONDS[column.type.unit]
    if multiply > 1:
        bound = LIMIT_MS // multiply + 1
        return np.clip(ticks, -bound, bound) * multiply
    if divide == 1:
        return ticks
    times: Times = floor_divide(ticks, 0, divide)  # also before 1970
    return times


def _whole(values: list[Any]) -> tuple[Times, Mask | None]:
    try:
        times = np.array(values)
    except ValueError:  # lists of several lengths
        times = np.empty(0, object)
    if times.dtype.kind == "i" and times.ndim == 1:
        return times.astype(np.int64, copy=False), None
    known = np.array([_is_time(value) for value in values], bool)
    times = np.array([int(value) if ok else 0 for value, ok in zip(values, known, strict=True)], np.int64)
    return times, None if known.all() else ~known


def _is_time(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and abs(int(value)) < 1 << 63
