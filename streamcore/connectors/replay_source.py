"""The records of a source at a chosen pace: so many a second, or as their event times say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from streamcore.batch import Batch, slice_batch
from streamcore.connectors.base import ReaderContext, Source, Split, SplitReader
from streamcore.errors import UsageError

_TICK_S = 0.001
_LOOK_AHEAD = 16_384

TimesOf = Callable[[Batch], Any]
"""The event times of a batch, (n,) int64 milliseconds."""


class ReplaySource(Source[Any]):
    """The records of a source with one split, at a pace. What a stall held up comes at once after it.

    Args:
        rate: records per second; None for as many as are taken.
        times: the event times, if the pace is to be theirs; what comes after a later one is due with that.
        speedup: seconds of event time in a second; with `times` alone.
        limit: the number of records after which it ends.
        repeat: whether it begins again when it has come to its end; then it has none but `limit`. A source without
            records isn't repeated.
        convert: makes rows of the records of a batch, as many.

    Raises:
        UsageError: an option is out of range, or both `rate` and `times` are given.
    """

    def __init__(
        self,
        source: Source[Any],
        *,
        rate: float | None = None,
        times: TimesOf | None = None,
        speedup: float = 1.0,
        limit: int | None = None,
        repeat: bool = False,
        convert: Callable[[Batch], Batch] | None = None,
    ) -> None:
        if rate is not None and times is not None:
            raise UsageError("the pace is that of a rate or that of the event times, not both")
        for name, value in (("rate", rate), ("speedup", speedup), ("limit", limit)):
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name}={value:g} can't be: it is above 0")
        self.source = source
        self.rate = rate
        self.times = times
        self.speedup = speedup
        self.limit = limit
        self.repeat = repeat
        self.convert = convert
        self.schema = source.schema if convert is None else None
        self.bounded = limit is not None or not repeat

    def splits(self) -> Sequence[Split]:
        """The split of the source."""
        return self.source.splits()

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader; its offset is `[records handed out, records of this round handed out]`. To go on from there it
        reads what was handed out in that round once more."""
        return _ReplayReader(self, split, offset or [0, 0], context)


class _ReplayReader(SplitReader):
    def __init__(self, replay: ReplaySource, split: Split, offset: Any, context: ReaderContext) -> None:
        self._replay = replay
        self._split = split
        self._context = context
        self._done, self._of_round = int(offset[0]), int(offset[1])
        self._reader = replay.source.reader(split, None, context)
        self._skip = self._of_round
        self._ahead: Batch | None = None
        self._times: Any = None
        """Event times of the records ahead, if the pace is theirs."""
        self._started_at: float | None = None
        self._made = 0
        self._first_ms: int | None = None
        self._latest_ms = 0
        self.offset = [self._done, self._of_round]

    def poll(self, limit: int) -> Batch | None:
        """The next records that are due."""
        if self._replay.limit is not None:
            limit = min(limit, self._replay.limit - self._done)
            self.exhausted = limit == 0
        if self._ahead is None or not len(self._ahead):
            self._ahead = self._next(max(limit, _LOOK_AHEAD))
            if self._ahead is None:
                return None
            self._times = None if self._replay.times is None else self._replay.times(self._ahead)
        due = min(limit, self._due(self._ahead), len(self._ahead))
        if due <= 0:
            return None
        self._times = None if self._times is None else self._times[due:]
        batch, self._ahead = slice_batch(self._ahead, 0, due), slice_batch(self._ahead, due, len(self._ahead))
        self._done, self._of_round, self._made = self._done + due, self._of_round + due, self._made + due
        self.offset = [self._done, self._of_round]
        self.exhausted = self._done == self._replay.limit
        return batch if self._replay.convert is None else self._replay.convert(batch)

    def close(self) -> None:
        """Closes the source's reader."""
        self._reader.close()

    def _next(self, limit: int) -> Batch | None:
        """Records that were not handed out; None when there are none now, or none any more."""
        while True:
            batch = None if self._reader.exhausted else self._reader.poll(limit)
            if batch is None or not len(batch):
                if not self._reader.exhausted:
                    self.wake_at = self._reader.wake_at
                    return None
                if not (self._replay.repeat and self._of_round):
                    self.exhausted = True
                    return None
                self._begin_again()
                continue
            if self._skip:
                skipped = min(self._skip, len(batch))
                self._skip -= skipped
                batch = slice_batch(batch, skipped, len(batch))
            if len(batch):
                return batch

    def _begin_again(self) -> None:
        self._reader.close()
        self._reader = self._replay.source.reader(self._split, None, self._context)
        self._of_round = 0
        self._started_at, self._made, self._first_ms = None, 0, None

    def _due(self, ahead: Batch) -> int:
        """How many of the records ahead are due; sets `wake_at` when none is."""
        replay, self.wake_at = self._replay, None
        if replay.rate is None and replay.times is None:
            return len(ahead)
        now = self._context.now()
        if self._started_at is None:
            self._started_at = now
        passed_s = now - self._started_at
        if replay.rate is not None:
            due, next_s = math.floor(passed_s * replay.rate) + 1 - self._made, self._made / replay.rate
        else:
            times = self._times
            if self._first_ms is None:
                self._first_ms = self._latest_ms = int(times[0])
            reached = np.maximum.accumulate(np.maximum(times, self._latest_ms))
            at_s = (reached - self._first_ms) / (1000.0 * replay.speedup)
            due, next_s = int(np.searchsorted(at_s, passed_s, side="right")), float(at_s[0])
            if due:
                self._latest_ms = int(reached[due - 1])
        if due <= 0:
            self.wake_at = max(self._started_at + next_s, now + _TICK_S)
        return max(due, 0)
