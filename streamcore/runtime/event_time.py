"""Event time: which field of a record says when it happened, and how far a stream's time has come.

Event times are int64 milliseconds; datetime columns are converted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import Batch, Columns, Schema
from streamcore.errors import BadRecordError, TopologyError
from streamcore.kernels.accumulate import floor_divide
from streamcore.time import MIN_TIME, Duration

Times = np.ndarray[Any, np.dtype[np.int64]]
"""Milliseconds of event time; int64 (n,)."""

TimeOf = str | Callable[[Any], int]

_LIMIT_MS = 1 << 62
"""Beyond it, the arithmetic of windows would not fit 64 bits."""

_MILLISECONDS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}
"""A unit of Arrow's timestamps → by what to multiply and divide it."""


@dataclass(frozen=True)
class EventTime:
    """Where a record's event time is: a field of a typed stream, or a function of the record that returns
    milliseconds. `shift_ms` is added to it."""

    by: TimeOf
    shift_ms: int = 0

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
        if not (pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type)) or field.nullable:
            raise TopologyError(
                f"{where}: field {field} can't be event time",
                hint="event time is int milliseconds or a datetime, and never missing (a type with ? may be missing)",
            )

    def times(self, batch: Batch) -> Times:
        """The event times of a batch.

        Raises:
            BadRecordError: a record has none.
        """
        if not isinstance(self.by, str):
            rows = batch.to_rows() if isinstance(batch, Columns) else batch
            times = _whole([self.by(record) for record in rows])
        else:
            assert isinstance(batch, Columns), "rows where event time is a field"
            column = batch[self.by]
            if isinstance(column, np.ndarray):
                times = column.astype(np.int64, copy=False)
            else:
                if column.null_count:
                    raise BadRecordError(f"a record has no event time: its field {self.by!r} is empty")
                ticks = column.cast(pa.int64()).to_numpy()
                multiply, divide = _MILLISECONDS[column.type.unit]
                times = ticks * multiply if divide == 1 else floor_divide(ticks, 0, divide)  # also before 1970
        if len(times) and (times.min() < -_LIMIT_MS or times.max() > _LIMIT_MS):
            far = int(times.max() if times.max() > _LIMIT_MS else times.min())
            raise BadRecordError(f"the event time of a record is {far}", hint="event time is milliseconds since 1970")
        return times + self.shift_ms if self.shift_ms else times


@dataclass(frozen=True)
class WatermarkStrategy:
    """How far a stream's time has come: `bound_ms` behind the latest event time seen (as in Apache Flink)."""

    time: EventTime
    bound_ms: int

    def after(self, latest_ms: int) -> int:
        """The watermark when `latest_ms` is the latest event time seen."""
        return latest_ms - self.bound_ms - 1 if latest_ms != MIN_TIME else MIN_TIME


def bounded_out_of_orderness(time: TimeOf, bound: Duration) -> WatermarkStrategy:
    """Records may come up to `bound` seconds of event time after later ones; what comes later still is late.

    Args:
        time: the field with the event time (int milliseconds, or a datetime), or a function of the record
            that returns milliseconds.

    Raises:
        TopologyError: the bound is below zero.
    """
    if not 0 <= bound < math.inf:
        raise TopologyError(f"records can't be {bound} s out of order", hint="seconds(5), or seconds(0) if they aren't")
    return WatermarkStrategy(EventTime(time), round(bound * 1000))


def monotonous(time: TimeOf) -> WatermarkStrategy:
    """Records come in order of event time."""
    return WatermarkStrategy(EventTime(time), 0)


def _whole(values: list[Any]) -> Times:
    try:
        times = np.array(values)
    except ValueError:  # lists of several lengths
        times = np.empty(0, object)
    if times.dtype.kind != "i" or times.ndim != 1:
        wrong = next((value for value in values if not _is_time(value)), values)
        raise BadRecordError(
            f"the event time of a record is {wrong!r}", hint="it is whole milliseconds, an int of 64 bits"
        )
    return times.astype(np.int64, copy=False)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and abs(int(value)) < 1 << 63
