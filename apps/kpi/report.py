"""The key figures, for a person to read."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from streamcore.apps.conventions import about_malformed
from streamcore.apps.kpi.peeking import peek
from streamcore.connectors.file_sink import read_jsonl

Line = dict[str, Any]

_SHOWN = 5


def final(lines: Iterable[Line], *key: str) -> dict[tuple[Any, ...], Line]:
    """The line with the highest revision of each key."""
    found: dict[tuple[Any, ...], Line] = {}
    for line in lines:
        place = tuple(line[name] for name in key)
        if place not in found or line["revision"] > found[place]["revision"]:
            found[place] = line
    return found


def report(settings: Mapping[str, Any]) -> str:
    """All figures by their last revisions, and what peeking does to a p-value."""
    output = str(settings["output"])
    read = {
        name: read_jsonl(f"{output}/{name}") for name in ("active", "keys", "funnel", "experiment", "click_through")
    }
    active = final(read["active"], "period", "channel", "period_start").values()
    if not active:
        return "\n".join(["nobody was active", *about_malformed(output), f"results are in {output}"])
    lines = [_active(active, period) for period in ("day", "week", "month")]
    lines += _keys(final(read["keys"], *_key_fields(read["keys"][0]), "period_start").values())
    lines += _funnel(final(read["funnel"], "cohort_start", "step").values())
    lines += [_tested(line) for line in final(read["experiment"], "cohort_start").values()]
    lines += _clicked(final(read["click_through"], "ad", "cohort_start").values())
    lines += _peeking(settings)
    lines.append(f"revisions: {sum(map(len, read.values())):,} lines; too late: {len(read_jsonl(f'{output}/late'))}")
    lines += about_malformed(output)
    lines.append(f"results: {', '.join(f'{output}/{name}' for name in (*read, 'late'))} (JSON lines)")
    return "\n".join(lines)


def _active(lines: Iterable[Line], period: str) -> str:
    """The last few periods overall, and the channels with the most users in the last."""
    these = [line for line in lines if line["period"] == period]
    overall = sorted((line for line in these if line["channel"] == "*"), key=lambda line: line["period_start"])[-3:]
    last = overall[-1]["period_start"]
    top = sorted(
        (line for line in these if line["channel"] != "*" and line["period_start"] == last),
        key=lambda line: (-line["users"], line["channel"]),
    )
    shown = "; ".join(
        f"{_date(line['period_start'])} {line['users']:,} users, {line['events']:,} events" for line in overall
    )
    channels = ", ".join(f"{line['channel']} {line['users']:,}" for line in top[:_SHOWN])
    return f"active per {period}: {shown}  (last: {channels})"


def _key_fields(line: Line) -> list[str]:
    own = {"period", "period_start", "period_end", "events", "users", "revision"}
    return [name for name in line if name not in own]


def _keys(lines: Iterable[Line]) -> list[str]:
    best = sorted(lines, key=lambda line: -line["events"])[:_SHOWN]
    names = _key_fields(best[0])
    shown = [
        f"  {_date(line['period_start'])}  {line['events']:>6,} events {line['users']:>6,} users  "
        + " ".join(str(line[name]) or "-" for name in names)
        for line in best
    ]
    return [f"most events per day by {', '.join(names)}:", *shown]


def _funnel(lines: Iterable[Line]) -> list[str]:
    cohorts: dict[int, list[Line]] = {}
    for line in sorted(lines, key=lambda line: (line["cohort_start"], line["number"])):
        cohorts.setdefault(line["cohort_start"], []).append(line)
    return [
        f"funnel of {_date(start)}: "
        + " -> ".join(f"{line['step']} {line['users']:,} ({line['of_first']:.0%})" for line in steps)
        for start, steps in list(cohorts.items())[-3:]
    ]


def _tested(line: Line) -> str:
    rates = [line[f"conversions_{variant}"] / max(line[f"users_{variant}"], 1) for variant in "ab"]
    return (
        f"A/B test of {_date(line['cohort_start'])}: a {rates[0]:.2%} of {line['users_a']:,}, b {rates[1]:.2%} of "
        f"{line['users_b']:,}; difference {line['difference']:+.2%}\n"
        f"  one look:   [{line['low']:+.2%}, {line['high']:+.2%}], p = {line['p_value']:.2g}\n"
        f"  sequential: [{line['sequential_low']:+.2%}, {line['sequential_high']:+.2%}], "
        f"p = {line['sequential_p_value']:.2g}"
    )


def _clicked(lines: Iterable[Line]) -> list[str]:
    shown = [
        f"{line['ad']} {line['rate']:.2%} [{line['low']:.2%}, {line['high']:.2%}]"
        for line in sorted(lines, key=lambda line: (line["cohort_start"], line["ad"]))
    ]
    return [f"click-through: {'; '.join(shown[-_SHOWN:])}"] if shown else []


def _peeking(settings: Mapping[str, Any]) -> list[str]:
    runs, rate, effect = settings["peeking_runs"], settings["rate"], settings["effect"]
    if not runs:
        return []
    none, some = (
        peek(rate, shown, runs=runs, scale=settings["scale"], seed=settings["seed"]) for shown in (0.0, effect)
    )
    found = f"found in {some.sequential:.1%}"
    return [
        f"peeking: {none.runs:,} experiments without effect, looked at {none.looks} times; called significant (5 %) by "
        f"the p-value for one look: {none.naive:.1%}, by the sequential one: {none.sequential:.1%}",
        f"  an effect of {effect:+.2%}: {found} by the sequential one"
        + (f", half of them by {some.users:,} users a variant" if some.users else ""),
    ]


def _date(time_ms: int) -> str:
    return datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC).strftime("%Y-%m-%d")
