"""Columns in order of time, from which what is due is taken off the front."""

from __future__ import annotations

import heapq

import numpy as np

from streamcore import Columns, Schema
from streamcore.operators.event_time_buffer import no_rows
from streamcore.operators.joining import Rows


class SortedRuns:
    """Keeps each batch as a run in order of time, and the runs in a heap by their first record: records that are due
    are slices of the runs that begin early enough, and the others aren't looked at, however the times lie.

    Args:
        schema: of the records.

    Example:
        >>> runs = SortedRuns(Schema.of(time=int))
        >>> for times in ([5, 2], [3, 9]):
        ...     runs.add(Columns.of(time=np.array(times)), np.array(times))
        >>> runs.take(5)["time"].tolist(), len(runs)
        ([2, 3, 5], 1)
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._heap: list[tuple[int, int, Rows, Columns]] = []
        self._number = 0
        self._size = 0

    def __len__(self) -> int:
        """How many records wait."""
        return self._size

    def add(self, columns: Columns, times: Rows) -> None:
        """Keeps records, in any order; `times` (n,) says when each is due, int64 milliseconds."""
        if len(columns) == 0:
            return
        columns = Columns(self.schema, columns.arrays)
        if (times[1:] < times[:-1]).any():
            order = np.argsort(times, kind="stable")
            columns, times = columns.take(order), times[order]
        self._size += len(columns)
        self._push(times, columns, self._number)
        self._number += 1

    def take(self, time_ms: int) -> Columns | None:
        """Takes the records that are due at `time_ms` or before, in order of time, those of one time in the order of
        their coming; None when there are none."""
        due: list[tuple[int, Rows, Columns]] = []
        while self._heap and self._heap[0][0] <= time_ms:
            _, number, times, columns = heapq.heappop(self._heap)
            stop = int(np.searchsorted(times, time_ms, "right"))
            due.append((number, times[:stop], columns.slice(0, stop)))
            if stop < len(columns):
                self._push(times[stop:], columns.slice(stop, len(columns)), number)
        if not due:
            return None
        due.sort(key=lambda run: run[0])
        taken = Columns.concat([columns for _, _, columns in due])
        self._size -= len(taken)
        if len(due) == 1:
            return taken
        return taken.take(np.argsort(np.concatenate([times for _, times, _ in due]), kind="stable"))

    def rows(self) -> Columns:
        """All records that wait, for a snapshot; those of one time in the order of their coming."""
        runs = sorted(self._heap, key=lambda run: run[1])
        return Columns.concat([columns for _, _, _, columns in runs]) if runs else no_rows(self.schema)

    def _push(self, times: Rows, columns: Columns, number: int) -> None:
        heapq.heappush(self._heap, (int(times[0]), number, times, columns))
