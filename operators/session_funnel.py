"""Funnels: how many users take each of several steps in order, within a limit of time."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import (
    BatchFunction,
    Columns,
    Context,
    DataStream,
    Expression,
    Field,
    OutputTag,
    Schema,
    TableState,
    TopologyError,
    col,
    lit,
    when,
)
from streamcore.operators.event_time_buffer import no_rows
from streamcore.operators.periods import Period, checked_period, period_end, period_start
from streamcore.operators.revised_sums import revised_sums
from streamcore.operators.revisions import END, REVISION, START, UpdateSlices

STEPS, COHORT, COHORT_END = "funnel_steps", "cohort_start", "cohort_end"

_FAR_MS = 1 << 61


@dataclass(frozen=True)
class Step:
    """A step of a funnel.

    Attributes:
        name: also the field with how many users took it.
        where: what a record must be to be this step; None: the step field has the step's name.
        after: by how many seconds it must come after the step before, at least. 0: the same record may be both.
    """

    name: str
    where: Expression | None = None
    after: float = 0.0


@dataclass(frozen=True)
class Limits:
    """The times of a funnel in milliseconds: of the whole of it, and of each step after the one before."""

    within: int
    after: tuple[int, ...]


def session_funnel(
    stream: DataStream[Any],
    user: str,
    steps: Sequence[Step | str],
    *,
    within: float,
    every: float,
    by: tuple[str, ...] = (),
    period: Period = "day",
    lateness: float | None = None,
    step: str | None = None,
    time: str = "time",
) -> DataStream[Any]:
    """How many users take each step, by the period in which they take the first one; as revisions (see `revisions.py`).

    A user who takes the first step at a time t is counted in its period for each further step that follows, in order,
    until t + `within`; once per step and period, by the chain that gets furthest. Steps at one time are in no order.

    The results: the fields of `by`, `cohort_start`, `cohort_end` (exclusive; milliseconds), the number of users under
    each step's name, `revision` from 1.

    Args:
        steps: two or more, in order; a name stands for `Step(name)`.
        within: seconds from the first step to the last.
        every: seconds of event time between two revisions.
        by: fields by which users are counted apart; a user with two values of them counts twice.
        lateness: for how many seconds after a period and `within` the users' steps are kept; None: for good. What comes
            later still is not counted.
        step: the field that has the names of steps.

    Raises:
        TopologyError: a step, a field or a number can't be.

    Example:
        >>> from streamcore import StreamEnvironment, monotonous
        >>> seen = [("ann", "visit", 0), ("bob", "visit", 10), ("ann", "order", 500), ("cy", "order", 600)]
        >>> stream = StreamEnvironment().from_values(seen, Schema.of(user=str, event=str, time=int))
        >>> stream = stream.assign_watermarks(monotonous("time"))
        >>> counts = session_funnel(stream, "user", ["visit", "order"], step="event", within=60, every=3600)
        >>> [(r.visit, r.order, r.revision) for r in counts.execute_and_collect()]
        [(2, 1, 1)]
    """
    changes = funnel_changes(
        stream,
        user,
        steps,
        within=within,
        every=every,
        by=by,
        period=period,
        lateness=lateness,
        step=step,
        time=time,
    )
    names = tuple(found.name for found in _steps(steps, step))
    return revised_sums(changes, (*by, COHORT, COHORT_END), names, every=every).name("funnel")


def funnel_changes(
    stream: DataStream[Any],
    user: str,
    steps: Sequence[Step | str],
    *,
    within: float,
    every: float,
    by: tuple[str, ...] = (),
    period: Period = "day",
    lateness: float | None = None,
    step: str | None = None,
    time: str = "time",
    late: OutputTag[Any] | None = None,
) -> DataStream[Any]:
    """By how much the counts of `session_funnel` change: a record per user and period that gets further, with 1 at the
    steps that are new, and `time`, the last millisecond of the slice of event time in which it is known. Its arguments
    are those of `session_funnel`; `late` is the side output for steps that come too late to be counted."""
    found = _steps(steps, step)
    schema = stream.schema
    key = (user, *by)
    if schema is None or any(name not in schema.by_name for name in (*key, time)):
        raise TopologyError(f"the funnel needs the fields {', '.join((*key, time))}", hint=f"there are {schema}")
    times = (within, every, *([] if lateness is None else [lateness]), *(step.after for step in found))
    if not all(map(math.isfinite, times)) or min(times) < 0 or within <= 0 or every < 0.001:
        raise TopologyError(
            "the times of a funnel can't be",
            hint="within and every are above 0, after and lateness not below; seconds",
        )
    names = [one.name for one in found]
    if len({*names, *by, time, START, END, COHORT, COHORT_END, REVISION, STEPS}) < len(names) + len(by) + 7:
        raise TopologyError("two fields of the funnel have one name", hint=f"its steps are {', '.join(names)}")
    taken = sum((when(_condition(one, step)).then(1 << i).otherwise(0) for i, one in enumerate(found)), lit(0))
    limits = Limits(round(within * 1000), tuple(round(one.after * 1000) for one in found))
    function = SessionFunnel(
        schema.select((*key, time)),
        key,
        names,
        limits,
        round(every * 1000),
        period,
        None if lateness is None else round(lateness * 1000),
        late,
    )
    marked = stream.select(*key, time, **{STEPS: taken.cast(int)}).filter_batch(col(STEPS) > 0)
    tags = [] if late is None else [late]
    return marked.key_by(key).process(function, returns=function.changes, tags=tags).name("funnel steps")


class SessionFunnel(BatchFunction[Any]):
    """Keeps each user's steps, and tells when a user gets further in a period's funnel. Keyed by user and group."""

    def __init__(
        self,
        schema: Schema,
        key: tuple[str, ...],
        names: Sequence[str],
        limits: Limits,
        every_ms: int,
        period: Period,
        lateness_ms: int | None,
        late: OutputTag[Any] | None,
    ) -> None:
        self._time = schema.fields[-1].name
        self._key = key
        self._names = names
        self._limits = limits
        self._every_ms = every_ms
        self._period = checked_period(period)
        self._lateness_ms = lateness_ms
        self._late = late
        self._schema = Schema((*schema.fields, Field(STEPS, pa.int64())))
        numbers = (Field(name, pa.int64()) for name in (COHORT, COHORT_END, "time", *names))
        self.changes = Schema((*(schema.by_name[name] for name in key[1:]), *numbers))
        """The type of the results."""
        self._taken: dict[tuple[Any, ...], dict[int, int]] = {}
        self._open_from = -_FAR_MS  # periods that begin before can't change any more

    def open(self, ctx: Context[Any]) -> None:
        self._slices = UpdateSlices(self._schema, self._time, self._every_ms)
        if ctx.watermark is not None:
            self._slices.take(ctx.watermark)  # nothing is there yet; what was late before the restore is late again
            self._close_periods(ctx.watermark)
        ctx.table_state(TableState("waiting", self._key, self._slices.rows, self._restore_waiting))
        ctx.table_state(TableState("taken", self._key, self._rows, self._restore_taken))

    def process(self, columns: Columns, ctx: Context[Any]) -> None:
        late = self._slices.add(columns)
        if late is None:
            return
        is_open = late[self._time] >= self._open_from
        if is_open.any():
            self._update(self._slices.over_ms, late.filter(is_open), ctx)
        if not is_open.all() and self._late is not None:
            ctx.side_output_batch(self._late, late.filter(~is_open))

    def on_watermark(self, time_ms: int, ctx: Context[Any]) -> None:
        for end, part in self._slices.take(time_ms):
            self._update(end, part, ctx)
        self._close_periods(time_ms)  # not before: one watermark may be far after the one before it

    def _close_periods(self, watermark_ms: int) -> None:
        if self._lateness_ms is None or not -_FAR_MS < watermark_ms < _FAR_MS:
            return
        horizon = self._slices.over_ms - self._limits.within - self._lateness_ms
        open_from = int(period_start(np.array([horizon]), self._period)[0])
        if open_from > self._open_from:
            self._open_from = open_from
            self._forget()

    def _update(self, end_ms: int, columns: Columns, ctx: Context[Any]) -> None:
        fresh: defaultdict[tuple[Any, ...], dict[int, int]] = defaultdict(dict)
        for *key, time, mask in columns.to_rows():
            steps = fresh[tuple(key)]
            steps[time] = steps.get(time, 0) | mask
        changes: list[tuple[Any, ...]] = []
        known_ms = end_ms - 1
        for user, steps in fresh.items():
            before = self._taken.get(user, {})
            taken = {**before, **{time: mask | before.get(time, 0) for time, mask in steps.items()}}
            self._taken[user] = taken
            times_before, times = sorted(before), sorted(taken)
            for start, end in self._periods(times, taken, min(steps) - self._limits.within, max(steps)):
                old = depth_in(times_before, before, start, end, self._limits)
                new = depth_in(times, taken, start, end, self._limits)
                if new > old:
                    flags = [int(old <= i < new) for i in range(len(self._names))]
                    changes.append((*user[1:], start, end, known_ms, *flags))
        if changes:
            ctx.emit_batch(_columns(self.changes, changes))

    def _periods(self, times: list[int], taken: dict[int, int], first: int, last: int) -> list[tuple[int, int]]:
        """The start and end of the open periods in which the user takes a first step from `first` to `last`."""
        begun = [time for time in times[bisect_left(times, first) : bisect_right(times, last)] if taken[time] & 1]
        starts = np.unique(period_start(np.array(begun, np.int64), self._period))
        starts = starts[starts >= self._open_from]
        return list(zip(starts.tolist(), period_end(starts, self._period).tolist(), strict=True))

    def _forget(self) -> None:
        for user in list(self._taken):
            kept = {time: mask for time, mask in self._taken[user].items() if time >= self._open_from}
            if kept:
                self._taken[user] = kept
            else:
                del self._taken[user]

    def _rows(self) -> Columns:
        rows = [(*user, time, mask) for user, taken in self._taken.items() for time, mask in taken.items()]
        return _columns(self._schema, rows)

    def _restore_waiting(self, rows: Columns) -> None:
        self._slices.add(rows)

    def _restore_taken(self, rows: Columns) -> None:
        for *key, time, mask in rows.to_rows():
            self._taken.setdefault(tuple(key), {})[time] = mask


def depth_in(times: list[int], taken: dict[int, int], start: int, end: int, limits: Limits) -> int:
    """How many steps the furthest chain has that begins from `start` up to, not including, `end`.

    Args:
        times: of a user's steps, in order.
        taken: which steps are taken at a time, as bits.

    Of all chains that have come to a step by some time, the one that began last has the most time left, and no other
    can get further; so for each step only those are kept.
    """
    count = len(limits.after)
    reached: list[list[int]] = [[] for _ in range(count)]  # when each step was taken by a chain that began later
    begun: list[list[int]] = [[] for _ in range(count)]  # than those before, and when that chain began
    for time in times[bisect_left(times, start) :]:
        if time >= end + limits.within:
            break
        mask = taken[time]
        for i in range(count):
            if not mask >> i & 1:
                continue
            if i == 0:
                first = time if time < end else None
            else:
                at = bisect_right(reached[i - 1], time - limits.after[i]) - 1
                first = begun[i - 1][at] if at >= 0 else None
            if first is not None and time - first <= limits.within and (not begun[i] or first > begun[i][-1]):
                reached[i].append(time)
                begun[i].append(first)
        if begun[-1]:
            return count
    return sum(1 for chains in begun if chains)


def _columns(schema: Schema, rows: list[tuple[Any, ...]]) -> Columns:
    if not rows:
        return no_rows(schema)
    values = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for field, column in zip(schema.fields, values, strict=True)]
    return Columns(schema, dict(zip(schema.names, arrays, strict=True)))


def _steps(steps: Sequence[Step | str], field: str | None) -> list[Step]:
    found = [Step(step) if isinstance(step, str) else step for step in steps]
    if not 2 <= len(found) <= 60:
        raise TopologyError(f"a funnel of {len(found)} steps", hint="it has from 2 to 60")
    if field is None and (without := [step.name for step in found if step.where is None]):
        raise TopologyError(f"nothing says which records are the step {without[0]!r}", hint="Step(where=) or step=")
    return found


def _condition(step: Step, field: str | None) -> Expression:
    if step.where is not None:
        return step.where
    assert field is not None, "a step without condition"
    return col(field) == step.name
