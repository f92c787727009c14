"""The event time of records in rows, where a stream keeps it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from streamcore.batch import Batch, Columns, Schema, to_columns
from streamcore.runtime.event_time import EventTime


class RecordTimes:
    """Reads event times out of batches of a stream, in either form."""

    def __init__(self, time: EventTime, schema: Schema | None) -> None:
        self._time = time
        self._one = None  # the schema of the field with the time
        if isinstance(time.by, str):
            assert schema is not None, "event time in a field of a stream without type"
            self._one = schema.select([time.by])
            self._place = schema.names.index(time.by)

    def of(self, batch: Batch) -> list[int]:
        """The event time of each record, milliseconds.

        Raises:
            BadRecordError: a record has none.
        """
        if self._one is not None and batch and not isinstance(batch, Columns):
            name, sample = self._one.names[0], batch[0]
            get: Callable[[Any], Any] = operator.itemgetter(name if isinstance(sample, dict) else self._place)
            if hasattr(sample, name):
                get = operator.attrgetter(name)
            batch = to_columns([(get(record),) for record in batch], self._one)
        times: list[int] = self._time.times(batch).tolist() if batch else []
        return times


def times_or_none(time: EventTime | None, schema: Schema | None) -> RecordTimes | None:
    """The times of a stream that may have none."""
    return RecordTimes(time, schema) if time is not None else None
