"""Time series as one HTML page with SVG in it: no library, no script, no network."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

_WIDTH, _HEIGHT = 1120, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 14, 30
_GAP = 50
"""So many times the usual time between two readings is a gap."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #24292f; background: #fff; max-width: 1120px; margin: 2em auto; }
h1 { font-size: 1.5em; } h2 { font-size: 1.1em; margin: 1.6em 0 .2em; } p { margin: .2em 0 .6em; color: #57606a; }
svg { width: 100%; height: auto; display: block; }
text { font: 12px system-ui, sans-serif; fill: #57606a; }
.grid { stroke: #e4e7eb; } .axis { stroke: #8c959f; } .label { fill: #fde68a; fill-opacity: .65; }
.series { stroke: #94a3b8; stroke-width: 1; fill: none; } .band { fill: #3b82f6; fill-opacity: .16; }
.ewma { stroke: #1d4ed8; stroke-width: 1.6; fill: none; } .alert { fill: #dc2626; fill-opacity: .75; }
.legend { display: flex; gap: 1.6em; margin: .6em 0; } .legend svg { width: 26px; height: 14px; display: inline-block; }
"""
_LEGEND = (
    ("reading", '<path class="series" style="stroke-width:2" d="M0 7H26"/>'),
    ("moving average", '<path class="ewma" style="stroke-width:2" d="M0 7H26"/>'),
    ("band", '<rect class="band" width="26" height="14"/>'),
    ("alert", '<circle class="alert" cx="13" cy="7" r="3.5"/>'),
    ("labelled anomaly", '<rect class="label" width="26" height="14"/>'),
)

Array = np.ndarray[Any, np.dtype[np.float64]]


def page(
    series: Mapping[str, Sequence[Mapping[str, Any]]], spans: Mapping[str, Iterable[tuple[int, int]]], deviations: float
) -> str:
    """One picture per sensor.

    Args:
        series: sensor -> records with `time` (milliseconds), `fahrenheit`, `expected`, `spread` (None where unknown).
        spans: sensor -> (start, end) in milliseconds, to be shaded.
        deviations: half the width of the band, in spreads.
    """
    keys = "".join(f'<span><svg viewBox="0 0 26 14">{mark}</svg> {text}</span>' for text, mark in _LEGEND)
    parts = [_picture(name, records, list(spans.get(name, ())), deviations) for name, records in series.items()]
    body = f'<h1>Sensors</h1><div class="legend">{keys}</div>{"".join(parts)}'
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Sensors</title><style>{_STYLE}</style>'
        f"<body>{body}</body></html>\n"
    )


def _picture(name: str, records: Sequence[Mapping[str, Any]], spans: list[tuple[int, int]], deviations: float) -> str:
    times, values, expected, spread = (
        np.array([record[field] for record in records], np.float64)
        for field in ("time", "fahrenheit", "expected", "spread")
    )
    order = np.argsort(times, kind="stable")
    times, values, expected, spread = times[order], values[order], expected[order], spread[order]
    low, high = expected - deviations * spread, expected + deviations * spread
    alerts = np.abs(values - expected) > deviations * spread  # False where the spread is unknown
    bottom, top = _range(values, low, high)
    x = _Scale(times[0], times[-1], _LEFT, _WIDTH - _RIGHT)
    y = _Scale(bottom, top, _HEIGHT - _BOTTOM, _TOP)
    shades = [
        f'<rect class="label" x="{x(max(start, times[0])):.1f}" y="{_TOP}" height="{_HEIGHT - _TOP - _BOTTOM}" '
        f'width="{max(x(min(end, times[-1])) - x(max(start, times[0])), 1.0):.1f}"/>'
        for start, end in spans
        if end >= times[0] and start <= times[-1]
    ]
    column = x(times).astype(np.int64)
    pieces = [(column[piece], piece) for piece in _pieces(times)]
    drawn = [
        *shades,
        *_axes(x, y),
        f'<path class="band" d="{"".join(_band(at, y, low[piece], high[piece]) for at, piece in pieces)}"/>',
        f'<path class="series" d="{"".join(_line(at, y, values[piece]) for at, piece in pieces)}"/>',
        f'<path class="ewma" d="{"".join(_average(at, y, expected[piece]) for at, piece in pieces)}"/>',
        *(
            f'<circle class="alert" cx="{cx:.1f}" cy="{cy:.1f}" r="2.6">'
            f"<title>{_moment(time)}: {value:.1f} °F</title></circle>"
            for cx, cy, time, value in _dots(x(times[alerts]), y(values[alerts]), times[alerts], values[alerts])
        ),
    ]
    about = f"{len(times):,} readings, {_moment(times[0])} to {_moment(times[-1])}, °F; {int(alerts.sum())} alerts"
    return (
        f"<h2>{html.escape(name)}</h2><p>{about}</p>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(name)}">{"".join(drawn)}</svg>'
    )


class _Scale:
    """Values to places on the picture."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        self.low, self.high = float(low), float(high if high > low else low + 1)
        self._start, self._per = start, (stop - start) / (self.high - self.low)

    def __call__(self, value: Any) -> Any:
        return self._start + (value - self.low) * self._per


def _range(values: Array, low: Array, high: Array) -> tuple[float, float]:
    """What is shown: all readings, and the band as far as it isn't much wider than they are."""
    least, most = float(values.min()), float(values.max())
    room = 0.25 * (most - least) + 1e-9
    known = ~np.isnan(low)
    if known.any():
        least = max(least - room, min(least, float(low[known].min())))
        most = min(most + room, max(most, float(high[known].max())))
    return least - 0.1 * room, most + 0.1 * room


def _pieces(times: Array) -> list[slice]:
    """Stretches without a gap: nothing is drawn over the times from which there are no readings."""
    steps = np.diff(times)
    usual = float(np.median(steps)) if len(steps) else 0.0
    cuts = [0, *(np.flatnonzero(steps > _GAP * usual) + 1).tolist(), len(times)]
    return [slice(start, stop) for start, stop in itertools.pairwise(cuts)]


def _line(column: Any, y: _Scale, values: Array) -> str:
    """Lowest and highest reading of every pixel column, so that no peak is lost."""
    points = []
    for at, group in _by_column(column):
        part = values[group]
        first, second = (part.min(), part.max()) if part.argmin() <= part.argmax() else (part.max(), part.min())
        points.append(f"{at} {y(first):.1f}" if first == second else f"{at} {y(first):.1f}L{at} {y(second):.1f}")
    return "M" + "L".join(points)


def _average(column: Any, y: _Scale, values: Array) -> str:
    points = [(at, float(np.nanmean(values[group]))) for at, group in _by_column(column) if not _all_nan(values[group])]
    return "M" + "L".join(f"{at} {y(value):.1f}" for at, value in points) if points else ""


def _band(column: Any, y: _Scale, low: Array, high: Array) -> str:
    groups = [(at, group) for at, group in _by_column(column) if not _all_nan(low[group])]
    if not groups:
        return ""
    upper = [f"{at} {y(min(float(np.nanmean(high[group])), y.high)):.1f}" for at, group in groups]
    lower = [f"{at} {y(max(float(np.nanmean(low[group])), y.low)):.1f}" for at, group in reversed(groups)]
    return "M" + "L".join(upper + lower) + "Z"


def _by_column(column: Any) -> list[tuple[int, slice]]:
    """(pixel column, its records), of records in order of time."""
    starts = np.flatnonzero(np.concatenate([[True], column[1:] != column[:-1]]))
    edges = [*starts.tolist(), len(column)]
    return [(int(column[start]), slice(start, stop)) for start, stop in itertools.pairwise(edges)]


def _all_nan(values: Array) -> bool:
    return bool(np.isnan(values).all())


def _dots(xs: Array, ys: Array, times: Array, values: Array) -> list[tuple[float, float, float, float]]:
    """One dot for alerts that would lie on each other."""
    seen: dict[tuple[int, int], tuple[float, float, float, float]] = {}
    for dot in zip(xs.tolist(), ys.tolist(), times.tolist(), values.tolist(), strict=True):
        seen.setdefault((int(dot[0] / 2), int(dot[1] / 2)), dot)
    return list(seen.values())


def _axes(x: _Scale, y: _Scale) -> list[str]:
    floor = _HEIGHT - _BOTTOM
    drawn = []
    for value in _steps(y.low, y.high):
        at = f"{y(value):.1f}"
        drawn.append(f'<path class="grid" d="M{_LEFT} {at}H{_WIDTH - _RIGHT}"/>')
        drawn.append(f'<text x="{_LEFT - 8}" y="{at}" dy="4" text-anchor="end">{value:g}</text>')
    for moment, text in _dates(x.low, x.high):
        at = f"{x(moment):.1f}"
        drawn.append(f'<path class="grid" d="M{at} {_TOP}V{floor}"/>')
        drawn.append(f'<text x="{at}" y="{floor + 18}" text-anchor="middle">{text}</text>')
    drawn.append(f'<path class="axis" fill="none" d="M{_LEFT} {_TOP}V{floor}H{_WIDTH - _RIGHT}"/>')
    return drawn


def _steps(low: float, high: float) -> list[float]:
    """Round numbers from low to high, about five."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    first = math.ceil(low / step)
    return [round(index * step, 10) for index in range(first, math.floor(high / step) + 1)]


def _dates(low: float, high: float) -> list[tuple[float, str]]:
    """Starts of years, months, days, hours, minutes or seconds, about eight, with what to write there."""
    start, span = _utc(low), (high - low) / 1000
    days = span / 86_400
    if days > 150:
        months = next((step for step in (1, 2, 3, 6, 12) if days / 30.4 / step <= 12), 12 * math.ceil(days / 365 / 12))
        at, found = datetime(start.year, 1, 1, tzinfo=UTC), []
        while at.timestamp() * 1000 <= high:
            found.append((at.timestamp() * 1000, f"{at:%Y}" if at.month == 1 else f"{at:%b %Y}"))
            month = at.month - 1 + months
            at = datetime(at.year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    else:
        sizes = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600)
        step = next((size for size in sizes if span / size <= 10), sizes[-1])
        shown = "%d %b" if step >= 86_400 else "%d %b %H:%M" if step >= 3600 else "%H:%M" if step >= 60 else "%H:%M:%S"
        first = math.ceil(low / 1000 / step)
        found = [
            (n * step * 1000, f"{_utc(n * step * 1000):{shown}}") for n in range(first, int(high / 1000 / step) + 1)
        ]
    return [(moment, text) for moment, text in found if low <= moment <= high]


def _moment(milliseconds: float) -> str:
    return f"{_utc(milliseconds):%Y-%m-%d %H:%M}"


def _utc(milliseconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=float(milliseconds))
