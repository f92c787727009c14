"""The key figures, each as a stream of revisions."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import Columns, Context, DataStream, OutputTag, ProcessFunction, Schema, col, lit, when
from streamcore.apps.kpi.activity import Activity
from streamcore.apps.kpi.experiment import CLICK, CONVERSION, IMPRESSION, LIMIT_S
from streamcore.operators.ab_test import TwoRates, wilson_interval
from streamcore.operators.periods import Period
from streamcore.operators.revised_sums import revised_sums
from streamcore.operators.session_funnel import COHORT, COHORT_END, STEPS, Step, funnel_changes
from streamcore.operators.unique_by_sorted import unique_by_sorted

OVERALL = "*"
PERIODS: tuple[Period, ...] = ("day", "week", "month")

ARMS = Schema.of(cohort_start=int, cohort_end=int, users_a=int, conversions_a=int, users_b=int, conversions_b=int)
TESTED = Schema.of(
    **{field.name: int for field in ARMS.fields},
    revision=int,
    difference=float,
    low=float,
    high=float,
    p_value=float,
    sequential_low=float,
    sequential_high=float,
    sequential_p_value=float,
)
CLICKED = Schema.of(
    ad=str, cohort_start=int, cohort_end=int, shown=int, clicked=int, revision=int, rate=float, low=float, high=float
)


class Metrics:
    """Makes key figures that are revised alike, and gathers what came too late for each.

    Args:
        every: seconds of event time between two revisions.
        lateness: for how many seconds after a period's end late records still correct it.
    """

    def __init__(self, every: float, lateness: float) -> None:
        self._every = every
        self._lateness = lateness
        self._late: list[DataStream[Any]] = []

    def active_users(self, activity: Activity) -> DataStream[Any]:
        """Events and active users per day, week and month, of each channel and (`*`) of all."""
        users = activity.stream.select("time", "user", "channel")
        both: DataStream[Any] = users.map_batch(_with_overall).name("each and all")
        streams = [self._unique(both, ("channel",), period, f"active_{period}") for period in PERIODS]
        return reduce(lambda a, b: a.union(b), streams)

    def unique_users(self, activity: Activity) -> DataStream[Any]:
        """Events and unique users per day of the key with most fields."""
        return self._unique(activity.stream, activity.key, "day", "keys")

    def funnel(self, activity: Activity) -> DataStream[Any]:
        """A line per step and cohort: its users, and which part they are of the step before and of the first."""
        names = tuple(step.name for step in activity.steps)
        tag: OutputTag[Any] = OutputTag("late", Schema.of(user=int, time=int, **{STEPS: int}))
        changes = funnel_changes(
            activity.stream,
            "user",
            activity.steps,
            within=activity.within_s,
            every=self._every,
            period=activity.cohort,
            lateness=self._lateness,
            late=tag,
        )
        self._gather(changes.uid("funnel-steps").side_output(tag), "funnel")
        counts = revised_sums(changes, (COHORT, COHORT_END), names, every=self._every).uid("funnel-counts")
        return counts.process(StepLines(names)).name("step lines")

    def experiment(self, events: DataStream[Any], scale: float) -> DataStream[Any]:
        """The A/B test: users who were shown a variant, those of them who converted, and what follows."""
        steps = {"users": IMPRESSION, "conversions": CONVERSION}
        changes = self._steps(events, steps, "variant", "month", "experiment")
        arms: dict[str, Any] = {
            f"{step}_{variant}": when(col("variant") == variant).then(col(step)).otherwise(0)
            for variant in "ab"
            for step in steps
        }
        by_arm = changes.select(COHORT, COHORT_END, "time", **arms)
        sums = revised_sums(by_arm, (COHORT, COHORT_END), tuple(arms), every=self._every).uid("experiment-counts")
        return sums.map_batch(_Tested(scale), returns=TESTED).name("A/B test")

    def click_through(self, events: DataStream[Any]) -> DataStream[Any]:
        """Users who were shown an ad in a day, those of them who clicked on it, and the rate with Wilson's interval."""
        steps = {"shown": IMPRESSION, "clicked": CLICK}
        changes = self._steps(events, steps, "ad", "day", "click_through")
        key = ("ad", COHORT, COHORT_END)
        sums = revised_sums(changes, key, tuple(steps), every=self._every).uid("click-through-counts")
        return sums.map_batch(_clicked, returns=CLICKED).name("click-through rates")

    def _steps(
        self, events: DataStream[Any], steps: dict[str, str], by: str, period: Period, metric: str
    ) -> DataStream[Any]:
        """The changes of a funnel of events, by one field."""
        tag: OutputTag[Any] = OutputTag("late", Schema.of(**{"user": int, by: str, "time": int, STEPS: int}))
        changes = funnel_changes(
            events,
            "user",
            [Step(name, col("event") == event) for name, event in steps.items()],
            within=LIMIT_S,
            every=self._every,
            by=(by,),
            period=period,
            lateness=self._lateness,
            late=tag,
        ).uid(f"{metric}-steps")
        self._gather(changes.side_output(tag), metric)
        return changes

    def late(self) -> DataStream[Any]:
        """What came too late to be counted: the metric and the record's time."""
        return reduce(lambda a, b: a.union(b), self._late)

    def _unique(self, stream: DataStream[Any], key: tuple[str, ...], period: Period, metric: str) -> DataStream[Any]:
        schema = stream.schema
        assert schema is not None, "activity has a type"
        tag: OutputTag[Any] = OutputTag("late", schema.select((*key, "user", "time")))
        results = unique_by_sorted(
            stream, key, "user", period=period, every=self._every, lateness=self._lateness, late=tag
        ).uid(metric)
        self._gather(results.side_output(tag), metric)
        return results.with_columns(period=lit(period))

    def _gather(self, late: DataStream[Any], metric: str) -> None:
        self._late.append(late.select("time", metric=lit(metric)))


class StepLines(ProcessFunction[Any, dict[str, Any]]):
    """A line per step of a cohort's counts."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def process(self, record: Any, ctx: Context[dict[str, Any]]) -> None:
        users = [getattr(record, name) for name in self._names]
        for place, name in enumerate(self._names):
            ctx.emit(
                {
                    "cohort_start": record.cohort_start,
                    "cohort_end": record.cohort_end,
                    "step": name,
                    "number": place + 1,
                    "users": users[place],
                    "of_previous": users[place] / (users[max(place - 1, 0)] or 1),
                    "of_first": users[place] / users[0],
                    "revision": record.revision,
                }
            )


class _Tested:
    def __init__(self, scale: float) -> None:
        self._scale = scale

    def __call__(self, columns: Columns) -> Columns:
        seen = TwoRates(
            columns["conversions_a"],
            columns["users_a"],
            columns["conversions_b"],
            columns["users_b"],
            self._scale,
        )
        (low, high), (sequential_low, sequential_high) = seen.interval(), seen.sequential_interval()
        results = {
            "difference": seen.difference,
            "low": low,
            "high": high,
            "p_value": seen.p_value(),
            "sequential_low": sequential_low,
            "sequential_high": sequential_high,
            "sequential_p_value": seen.sequential_p_value(),
        }
        return Columns(TESTED, {**columns.arrays, **results})


def _clicked(columns: Columns) -> Columns:
    shown, clicked = columns["shown"], columns["clicked"]
    low, high = wilson_interval(clicked, shown)
    return Columns(CLICKED, {**columns.arrays, "rate": clicked / shown, "low": low, "high": high})


def _with_overall(columns: Columns) -> Columns:
    """Every record twice: for its channel, and for all channels together."""
    overall = pa.array([OVERALL]).take(pa.array(np.zeros(len(columns), np.int64)))
    return Columns.concat([columns, Columns(columns.schema, {**columns.arrays, "channel": overall})])
