"""Bad time: which event times can't be believed, and what becomes of their records.

A clock that was wrong once must not be believed: a single record from the year 2100 would take the watermark there,
and all records after it would be late. So event times are checked before the watermark learns of them, a whole batch
at once; records are looked at one by one only where something is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from streamcore.batch import Batch, Columns
from streamcore.errors import BadRecordError, TopologyError
from streamcore.kernels.times import refuse_jumps
from streamcore.runtime.event_time import LIMIT_MS, EventTime, Mask, Times
from streamcore.time import MIN_TIME

Policy = Literal["fail", "skip", "side_output"]

_FEW = 32

YEAR_S = 365 * 86_400.0

_HINT = (
    "event time is milliseconds since 1970; strategy.with_bad_times('skip') drops and counts such records, "
    "'side_output' sends them to stream.bad_records(), and its max_ahead= and min_time= say what is too far"
)


@dataclass(slots=True)
class Checked:
    """A batch without the records whose time is bad. `latest_ms` is the latest good time so far."""

    batch: Batch
    times: Times
    latest_ms: int
    bad: tuple[tuple[str, str], ...] = ()
    """What is wrong, if it is to be told: (the record's text, the reason) of each record that was taken out."""
    bad_count: int = 0


@dataclass(frozen=True)
class BadTimes:
    """What is a bad time, and what becomes of the record. Bad is what is missing or no whole number of milliseconds,
    what is before `min_time_ms`, what is more than `max_ahead_s` ahead of the clock, and what is more than
    `max_jump_s` ahead of the latest good time of the same split. None: no such limit."""

    policy: Policy = "fail"
    min_time_ms: int | None = None
    max_ahead_s: float | None = YEAR_S
    max_jump_s: float | None = None

    def validate(self) -> None:
        """Refuses what can't be meant.

        Raises:
            TopologyError: there is no such policy, or a limit isn't above zero.
        """
        if self.policy not in get_args(Policy):
            raise TopologyError(
                f"there is no policy {self.policy!r} for bad times", hint=f"use one of {', '.join(get_args(Policy))}"
            )
        for name, limit_s in (("max_ahead", self.max_ahead_s), ("max_jump", self.max_jump_s)):
            if limit_s is not None and not 0 < limit_s < LIMIT_MS / 2000:
                raise TopologyError(
                    f"with_bad_times: {name}={limit_s!r} is no limit", hint=f"{name}=minutes(60), or None"
                )

    def check(self, time: EventTime, batch: Batch, latest_ms: int, now_ms: int, where: str) -> Checked:
        """Takes the records with bad times out of a batch. How the stream is cut into batches doesn't matter.

        Args:
            latest_ms: the latest good time before the batch; MIN_TIME: none.
            now_ms: the clock.
            where: whose batch it is, for messages.

        Raises:
            BadRecordError: a time is bad, and the policy is to fail; names the record.
        """
        times, missing = time.read(batch)
        floor, ceiling = self._bounds(now_ms)
        if missing is None:
            low, high = _extremes(times)
            if low >= floor and high <= min(ceiling, self._jump_limit(latest_ms)):
                return Checked(batch, times, max(latest_ms, high))
        return self._sort_out(time, batch, times, missing, latest_ms, now_ms, where)

    def _sort_out(
        self, time: EventTime, batch: Batch, times: Times, missing: Mask | None, latest_ms: int, now_ms: int, where: str
    ) -> Checked:
        floor, ceiling = self._bounds(now_ms)
        good = (times >= floor) & (times <= ceiling)
        if missing is not None:
            good &= ~missing
        if self.max_jump_s is not None:
            latest_after = int(refuse_jumps(times, good, latest_ms, round(self.max_jump_s * 1000)))
        else:
            latest_after = max(latest_ms, int(times[good].max())) if good.any() else latest_ms
        bad = np.flatnonzero(~good)
        if len(bad) == 0:
            return Checked(batch, times, latest_after)

        def reason(at: int) -> str:
            if missing is not None and missing[at]:
                return time.fault(batch, at)
            return self._fault(int(times[at]), now_ms)

        field = f"event time {time.by!r}" if isinstance(time.by, str) else "event time"
        if self.policy == "fail":
            first = int(bad[0])
            raise BadRecordError(f"{where}: the {field} of record {_text(batch, first)} {reason(first)}", hint=_HINT)
        told = self.policy == "side_output"
        return Checked(
            batch.filter(good) if isinstance(batch, Columns) else [batch[i] for i in np.flatnonzero(good)],
            times[good],
            latest_after,
            tuple((_text(batch, at), f"{field} {reason(at)}") for at in bad.tolist()) if told else (),
            len(bad),
        )

    def _bounds(self, now_ms: int) -> tuple[int, int]:
        return self._floor_ms, min(now_ms + self._ahead_ms, LIMIT_MS)

    @cached_property
    def _floor_ms(self) -> int:
        return -LIMIT_MS if self.min_time_ms is None else max(self.min_time_ms, -LIMIT_MS)

    @cached_property
    def _ahead_ms(self) -> int:
        return LIMIT_MS if self.max_ahead_s is None else round(self.max_ahead_s * 1000)

    def _jump_limit(self, latest_ms: int) -> int:
        """Up to where no record of a batch can be a jump, whatever their order."""
        if self.max_jump_s is None:
            return LIMIT_MS
        return latest_ms + round(self.max_jump_s * 1000) if latest_ms != MIN_TIME else MIN_TIME

    def _fault(self, time_ms: int, now_ms: int) -> str:
        floor, ceiling = self._bounds(now_ms)
        shown = f"is {time_ms} ({np.datetime64(time_ms, 'ms')})"
        if time_ms < floor:
            return f"{shown}, before {floor} ({np.datetime64(floor, 'ms')})"
        if time_ms > ceiling:
            return f"{shown}, {_span(time_ms - now_ms)} ahead of the clock{_other_unit(time_ms, now_ms)}"
        assert self.max_jump_s is not None, "a time was refused that keeps within all limits"
        return f"{shown}, more than {_span(round(self.max_jump_s * 1000))} ahead of the records before it"


def _extremes(times: Times) -> tuple[int, int]:
    if len(times) <= _FEW:  # numpy's two calls would take longer than the rest of a small batch's check
        values = times.tolist()
        return min(values), max(values)
    return int(times.min()), int(times.max())


def _text(batch: Batch, at: int) -> str:
    try:
        text = repr(batch.slice(at, at + 1).to_rows()[0] if isinstance(batch, Columns) else batch[at])
    except (OverflowError, ValueError):
        assert isinstance(batch, Columns), "a record that can't be shown"
        text = _fields_text(batch.slice(at, at + 1))
    return text if len(text) <= 200 else text[:199] + "…"


def _fields_text(one: Columns) -> str:
    """A record with a timestamp that no datetime can be: beyond the year 9999, or between two microseconds."""
    arrays = {field.name: one.to_arrow().column(field.name) for field in one.schema.fields}
    values = [array.cast(pa.string()) if pa.types.is_timestamp(array.type) else array for array in arrays.values()]
    return ", ".join(f"{name}={value[0].as_py()!r}" for name, value in zip(arrays, values, strict=True))


def _other_unit(time_ms: int, now_ms: int) -> str:
    """A question, where the time would be one of our days in another unit."""
    for unit, per_ms in (("microseconds", 1000), ("nanoseconds", 1_000_000)):
        if now_ms // 2 < time_ms // per_ms < 2 * now_ms:
            return f": is it {unit}?"
    return ""


def _span(length_ms: int) -> str:
    days = length_ms / 86_400_000
    return f"{days / 365:.1f} years" if days >= 365 else f"{days:.1f} days" if days >= 1 else f"{length_ms / 1000:g} s"
