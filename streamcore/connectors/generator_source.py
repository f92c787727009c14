"""Records made by index: for load, tests and examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from streamcore.batch import Batch, schema_of
from streamcore.connectors.base import ReaderContext, Source, Split, SplitReader
from streamcore.errors import ConnectorError, UsageError

_BLOCK = 1024
_TICK_S = 0.001


class GeneratorSource(Source[Any]):
    """The records that `make(start, stop)` returns for the indices from `start` up to, not including, `stop`.

    With `count`, split i of n makes the indices from `count * i // n` up to `count * (i + 1) // n`. Without,
    the source never ends, and split i makes the blocks i, i + n, i + 2n, … of 1024 indices each; so all
    indices are made once, and each split makes its own in order.

    Args:
        make: a pure function of its arguments that returns a list of rows or `Columns`.
        count: the number of records, None for a source without end.
        rate: records per second over all splits, or None for as many as are taken. Record k of a split is
            due k * splits / rate seconds after its first poll; what a stall held up comes at once after it.
        splits: the number of splits, so the most subtasks that can share the work.
        schema: the columns of the stream, if it is to be typed.

    Raises:
        UsageError: a number is out of range.
    """

    def __init__(
        self,
        make: Callable[[int, int], Batch],
        count: int | None = None,
        rate: float | None = None,
        splits: int = 1,
        schema: Any = None,
    ) -> None:
        if splits < 1 or (count is not None and count < 0) or (rate is not None and not 0 < rate < math.inf):
            raise UsageError(
                f"count={count}, rate={rate}, splits={splits} can't be: count ≥ 0, rate > 0 and splits ≥ 1"
            )
        self.make = make
        self.count = count
        self.rate = rate
        self.split_count = splits
        self.schema = schema_of(schema)
        self.bounded = count is not None

    def splits(self) -> Sequence[Split]:
        """The splits; `info` is the split's number."""
        return [Split(str(i), i) for i in range(self.split_count)]

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader of one split; its offset is the index of the next record."""
        number = int(split.info)
        if self.count is None:
            start, stop = number * _BLOCK, None
        else:
            start = self.count * number // self.split_count
            stop = self.count * (number + 1) // self.split_count
        return _GeneratorReader(self, start if offset is None else int(offset), stop, context)


class _GeneratorReader(SplitReader):
    def __init__(self, source: GeneratorSource, start: int, stop: int | None, context: ReaderContext) -> None:
        self._make = source.make
        self._splits = source.split_count
        self._rate = None if source.rate is None else source.rate / source.split_count
        self._stop = stop
        self._context = context
        self._started_at: float | None = None
        self._made = 0
        self.offset = start

    def poll(self, limit: int) -> Batch | None:
        """The next records that are due.

        Raises:
            ConnectorError: `make` returned another number of records than it was asked for.
        """
        due = self._due()
        if due == 0:
            return None
        start = self.offset
        end = self._stop if self._stop is not None else (start // _BLOCK + 1) * _BLOCK
        stop = min(start + limit, start + due, end)
        batch = self._make(start, stop) if stop > start else []
        if len(batch) != stop - start:
            raise ConnectorError(f"make({start}, {stop}) returned {len(batch)} records, not {stop - start}")
        self._made += stop - start
        self.exhausted = stop == self._stop
        # the end of an unbounded split's block: its next block comes after those of the other splits
        self.offset = stop + (self._splits - 1) * _BLOCK if self._stop is None and stop == end else stop
        return batch

    def _due(self) -> int:
        """How many records may be made now; sets `wake_at` when none."""
        if self._rate is None:
            return _BLOCK if self._stop is None else max(self._stop - self.offset, 1)
        now = self._context.now()
        if self._started_at is None:
            self._started_at = now
        due = math.floor((now - self._started_at) * self._rate) + 1 - self._made
        if self.wake_at is not None and now >= self.wake_at:
            # rounding must not let the time that was promised come without a record
            due = max(due, 1)
        self.wake_at = None
        if due <= 0:
            self.wake_at = max(self._started_at + self._made / self._rate, now + _TICK_S)
        return max(due, 0)
