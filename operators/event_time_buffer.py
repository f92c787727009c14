"""Records that wait until event time has come to them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import Columns, Schema, TopologyError


class EventTimeBuffer:
    """Keeps columns by stretches of event time, so that those that are due are found without looking at the others.

    Taking records costs time in what is taken, and in the one stretch in which the time asked for lies.

    Args:
        schema: of the records.
        time: the field with event time; int64 milliseconds.
        every_ms: the length of a stretch. Stretch n is [offset_ms + n * every_ms, offset_ms + (n + 1) * every_ms).

    Raises:
        TopologyError: there is no such field, or it holds no integers.

    Example:
        >>> buffer = EventTimeBuffer(Schema.of(time=int), "time", 1000)
        >>> buffer.add(Columns.of(time=np.array([2500, 900, 1700])))
        >>> [(number, part["time"].tolist()) for number, part in buffer.take_stretches(2000)], len(buffer)
        ([(0, [900]), (1, [1700])], 1)
    """

    def __init__(self, schema: Schema, time: str, every_ms: int, offset_ms: int = 0) -> None:
        field = schema.by_name.get(time)
        if field is None or field.type != pa.int64() or field.nullable:
            raise TopologyError(
                f"there is no event time in a field {time!r}",
                hint=f"it holds int64 milliseconds and is never missing; the fields: {schema}",
            )
        self.schema = schema
        self._time = time
        self._every = every_ms
        self._offset = offset_ms
        self._stretches: dict[int, list[Columns]] = {}
        self._numbers: list[int] = []
        self._size = 0
        self._first: int | None = None

    def __len__(self) -> int:
        """How many records wait."""
        return self._size

    def add(self, columns: Columns) -> Columns | None:
        """Keeps records, in any order. Those of stretches that were over at the last call of `take` or `drop` are
        late: they are not kept, but returned."""
        columns = Columns(self.schema, columns.arrays)
        numbers = (columns[self._time] - self._offset) // self._every
        late = None
        if self._first is not None and (numbers < self._first).any():
            in_time = numbers >= self._first
            late = columns.filter(~in_time)
            columns, numbers = columns.filter(in_time), numbers[in_time]
        if len(columns) == 0:
            return late
        self._size += len(columns)
        steps = np.diff(numbers)
        if (steps < 0).any():  # else records out of order would each become a part of their own
            order = np.argsort(numbers, kind="stable")
            columns, numbers = columns.take(order), numbers[order]
            steps = np.diff(numbers)
        bounds = [0, *(np.flatnonzero(steps) + 1).tolist(), len(columns)]
        for start, stop in itertools.pairwise(bounds):
            self._keep(int(numbers[start]), columns.slice(start, stop))
        return late

    @property
    def numbers(self) -> list[int]:
        """The stretches that have records, in no order."""
        return self._numbers

    def stretches(self, numbers: Iterable[int]) -> Columns:
        """The records of some stretches, which stay."""
        parts = [part for number in numbers for part in self._stretches.get(number, ())]
        return Columns.concat(parts) if parts else no_rows(self.schema)

    def drop(self, first: int) -> None:
        """Forgets all stretches before `first`; what comes for them is late."""
        self._first = first if self._first is None else max(first, self._first)
        while self._numbers and self._numbers[0] < first:
            self._size -= sum(map(len, self._stretches.pop(heapq.heappop(self._numbers))))

    def take_stretches(self, end_ms: int) -> list[tuple[int, Columns]]:
        """Takes the stretches that end at `end_ms` or before: their numbers, in order, and their records, in each
        in the order of their coming."""
        first = (end_ms - self._offset) // self._every
        self._first = first if self._first is None else max(first, self._first)
        taken = []
        while self._numbers and self._numbers[0] < first:
            number = heapq.heappop(self._numbers)
            part = Columns.concat(self._stretches.pop(number))
            self._size -= len(part)
            taken.append((number, part))
        return taken

    def take(self, time_ms: int) -> Columns | None:
        """Takes the records whose time is `time_ms` or before; None when there are none."""
        due = [part for _, part in self.take_stretches(time_ms + 1)]
        if self._numbers and self._offset + self._numbers[0] * self._every <= time_ms:
            number = heapq.heappop(self._numbers)
            border = Columns.concat(self._stretches.pop(number))
            self._size -= len(border)
            is_due = border[self._time] <= time_ms
            if is_due.any():
                due.append(border.filter(is_due))
            if not is_due.all():
                rest = border.filter(~is_due)
                self._keep(number, rest)
                self._size += len(rest)
        return Columns.concat(due) if due else None

    def rows(self) -> Columns:
        """All records that wait, for a snapshot."""
        parts = [part for stretch in self._stretches.values() for part in stretch]
        return Columns.concat(parts) if parts else no_rows(self.schema)

    def _keep(self, number: int, columns: Columns) -> None:
        if number not in self._stretches:
            heapq.heappush(self._numbers, number)
            self._stretches[number] = []
        self._stretches[number].append(columns)


def no_rows(schema: Schema) -> Columns:
    """Columns of a schema without records."""
    arrays: dict[str, Any] = {}
    for field in schema.fields:
        shape = (0, field.width) if field.width else (0,)
        arrays[field.name] = pa.array([], field.type) if field.dtype is None else np.empty(shape, field.dtype)
    return Columns(schema, arrays)
