"""Periods of the calendar: days, weeks and months of event time, in UTC."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from streamcore import TopologyError

Period = Literal["day", "week", "month"]

_PERIODS: dict[str, Period] = {"day": "day", "week": "week", "month": "month"}

Times = np.ndarray[Any, np.dtype[np.int64]]
"""Milliseconds since 1970; int64 (n,)."""

_WEEK_BEGINS_MS = 4 * 86_400_000
"""The first Monday of 1970 is the fifth of January."""

_WEEK_MS = 7 * 86_400_000


def checked_period(period: str) -> Period:
    """The period of that name.

    Raises:
        TopologyError: there is none.
    """
    if period not in _PERIODS:
        raise TopologyError(f"there is no period {period!r}", hint=f"the periods are: {', '.join(_PERIODS)}")
    return _PERIODS[period]


def period_start(times: Times, period: Period) -> Times:
    """The first millisecond of the period in which each time lies; int64 (n,).

    Example:
        >>> when = np.array(["2015-09-12T13:00"], "datetime64[ms]").astype(np.int64)
        >>> [str(period_start(when, period).astype("datetime64[ms]")[0])[:10] for period in ("day", "week", "month")]
        ['2015-09-12', '2015-09-07', '2015-09-01']
    """
    if period == "week":
        return (times - _WEEK_BEGINS_MS) // _WEEK_MS * _WEEK_MS + _WEEK_BEGINS_MS
    return _milliseconds(_cut(times, period))


def period_end(starts: Times, period: Period) -> Times:
    """The first millisecond after each period, from its start; int64 (n,)."""
    if period == "week":
        return starts + _WEEK_MS
    return _milliseconds(_cut(starts, period) + 1)


def _cut(times: Times, period: Period) -> Any:
    return times.astype("datetime64[ms]").astype("datetime64[M]" if period == "month" else "datetime64[D]")


def _milliseconds(dates: Any) -> Times:
    found: Times = dates.astype("datetime64[ms]").astype(np.int64)
    return found
