"""How far a stream's time has come: watermark strategies, and generators of the user's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from streamcore.batch import Batch, to_rows
from streamcore.errors import TopologyError
from streamcore.runtime.bad_times import YEAR_S, BadTimes, Policy
from streamcore.runtime.event_time import EventTime, TimeOf, Times
from streamcore.time import MIN_TIME, Duration

_BY_DEFAULT = BadTimes()
_YEAR, _SECOND = Duration(YEAR_S), Duration(1.0)


class WatermarkGenerator:
    """Says how far the time of one split has come, by its records. Every split has its own (a stream that gets its
    watermarks by `assign_watermarks`: every subtask), whose state is part of the snapshot.

    Implement `on_record`, or `on_batch` for whole batches. A watermark t promises that no record with time t or before
    follows; those that do are late. It goes out behind the batch, so how the stream is cut into batches only decides
    how soon. Watermarks that go back are ignored.

    Example:
        >>> class Punctuated(WatermarkGenerator):
        ...     '''The stream says itself when a second is over.'''
        ...     def on_record(self, record, time_ms):
        ...         return time_ms if record.is_mark else None
    """

    def on_record(self, record: Any, time_ms: int) -> int | None:
        """Takes a record and its event time; the watermark behind it, or None where it says nothing new."""
        raise NotImplementedError(f"{type(self).__name__} needs on_record or on_batch")

    def on_batch(self, batch: Batch, times: Times) -> int | None:
        """Takes some records, at least one, as a list of rows or as `Columns`, and their event times, int64 (n,).

        Returns:
            The watermark behind them, milliseconds; None if they say nothing new.
        """
        marks = [self.on_record(record, time) for record, time in zip(to_rows(batch), times.tolist(), strict=True)]
        return max((mark for mark in marks if mark is not None), default=None)

    def capture(self) -> Any:
        """What belongs in the snapshot; plain data that doesn't change afterwards."""
        return None

    def restore(self, state: Any) -> None:
        """Goes on from what `capture` gave."""


@dataclass(frozen=True)
class Alignment:
    """A group of splits, of one source or several, that are kept together in event time."""

    group: str
    max_drift_ms: int
    every_s: float


@dataclass(frozen=True)
class WatermarkStrategy:
    """How far a stream's time has come: `bound_ms` behind the latest event time seen (as in Apache Flink), or what a
    generator of the user's says; which splits it doesn't wait for, and which times it doesn't believe. Immutable: the
    `with_` methods give a new one."""

    time: EventTime
    bound_ms: int = 0
    make_generator: Callable[[], WatermarkGenerator] | None = None
    bad_times: BadTimes = _BY_DEFAULT
    idle_after_s: float | None = None
    alignment: Alignment | None = None

    def with_idleness(self, timeout: Duration) -> WatermarkStrategy:
        """A split that has had no records for `timeout` seconds of the clock doesn't hold back time until its next one.

        Only time counts in which the split was polled and had nothing: neither waiting for room downstream nor
        being held by alignment. What comes after such a silence may be late.

        Raises:
            TopologyError: the time-out isn't above zero.
        """
        if not 0 < timeout < math.inf:
            raise TopologyError(f"with_idleness: {timeout!r} s is no time-out", hint="with_idleness(seconds(30))")
        return replace(self, idle_after_s=float(timeout))

    def with_alignment(self, group: str, *, max_drift: Duration, every: Duration = _SECOND) -> WatermarkStrategy:
        """Splits whose watermark is more than `max_drift` seconds of event time ahead of the group's furthest behind
        are not read until the others have caught up, so that what joins and windows must keep stays small.

        Sources are in a group by its name. Splits that are idle or have ended, and those that had no record yet, are
        not waited for. A split that falls silent stops the others, unless `with_idleness` says for how long.

        Args:
            every: seconds between two looks at the group.

        Raises:
            TopologyError: a duration isn't above zero.
        """
        if not (0 < max_drift < math.inf and 0 < every < math.inf):
            raise TopologyError(
                f"with_alignment: max_drift={max_drift!r}, every={every!r} can't be",
                hint="with_alignment('group', max_drift=seconds(30))",
            )
        return replace(self, alignment=Alignment(group, round(max_drift * 1000), float(every)))

    def with_bad_times(
        self,
        policy: Policy,
        *,
        min_time: int | None = 0,
        max_ahead: Duration | None = _YEAR,
        max_jump: Duration | None = None,
    ) -> WatermarkStrategy:
        """What becomes of records whose event time is missing, no whole number, or out of the limits. The watermark
        never learns of their times, and they are counted (`streamcore_bad_times_total`).

        Without this the job fails at the first such record, with the limits here, but times before 1970 are taken; a
        field that may be missing is refused.

        Args:
            policy: `"fail"`: the job fails and names the record; `"skip"`: the record is dropped; `"side_output"`:
                the stream's `bad_records()` has it, as `BadRecord`.
            min_time: milliseconds since 1970 before which no record can be; None: any.
            max_ahead: how far a record may be ahead of the clock, seconds; None: any. A year by default, which
                shows when microseconds are taken for milliseconds.
            max_jump: how far a record may be ahead of the latest one before it of the same split, seconds; None: any.
                For old data, for which the clock is no measure. Choose more than the longest silence in the data:
                all that comes after a longer one is bad.

        Raises:
            TopologyError: there is no such policy, or a limit isn't above zero.
        """
        bad_times = BadTimes(policy, min_time, max_ahead, max_jump)
        bad_times.validate()
        return replace(self, time=replace(self.time, may_miss=True), bad_times=bad_times)

    def generator(self) -> WatermarkGenerator | None:
        """A new generator for one split, if the strategy has any."""
        return self.make_generator() if self.make_generator is not None else None

    def after(self, latest_ms: int) -> int:
        """The watermark when `latest_ms` is the latest event time seen, where no generator says."""
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
    return WatermarkStrategy(EventTime(time))


def custom_watermarks(time: TimeOf, make_generator: Callable[[], WatermarkGenerator]) -> WatermarkStrategy:
    """Watermarks of the user's own: `make_generator` is called once for each split.

    Args:
        time: as in `bounded_out_of_orderness`.
        make_generator: a `WatermarkGenerator` class, or a function that makes one.
    """
    return WatermarkStrategy(EventTime(time), make_generator=make_generator)
