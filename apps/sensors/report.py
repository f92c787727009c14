"""What the job has found, for a person to read, and a page with the pictures."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamcore.apps.conventions import about_malformed
from streamcore.apps.sensors.chart import page
from streamcore.apps.sensors.readings import Span, read_labels, to_celsius
from streamcore.connectors.file_sink import read_jsonl

_EPISODE_GAP_MS = 86_400_000
"""Alerts that are less than a day apart are about one thing."""


@dataclass(frozen=True)
class Judgement:
    """The alerts of one sensor beside what people have marked.

    Attributes:
        labelled, caught: spans that were marked, and those of them with an alert inside.
        inside, outside: alerts in any of the spans, and in none.
        episodes: alerts of which none is more than a day from the next, taken together.
        false_episodes: those that touch no span.
    """

    labelled: int
    caught: int
    inside: int
    outside: int
    episodes: int
    false_episodes: int


def judge(alerts: list[int], spans: list[Span]) -> Judgement:
    """Compares the times of alerts with the spans that were marked."""
    alerts = sorted(alerts)
    inside = [any(start <= time <= end for start, end in spans) for time in alerts]
    caught = sum(any(start <= time <= end for time in alerts) for start, end in spans)
    episodes: list[bool] = []
    for index, time in enumerate(alerts):
        if index == 0 or time - alerts[index - 1] > _EPISODE_GAP_MS:
            episodes.append(False)
        episodes[-1] |= inside[index]
    return Judgement(len(spans), caught, sum(inside), len(alerts) - sum(inside), len(episodes), episodes.count(False))


def report(output: str, form: str, labels: str, deviations: float) -> str:
    """The means per sensor, how the alerts compare with the labels, and where the results and the picture are."""
    if form == "chain":
        means = read_jsonl(f"{output}/by_count")
        lines = [f"{len(means):,} means of readings", *about_malformed(output)]
        return "\n".join([*lines, f"results: {output}/by_count (JSON lines)"])
    marked = read_labels(labels) if labels else {}
    alerts: defaultdict[str, list[int]] = defaultdict(list)
    for line in read_jsonl(f"{output}/alerts"):
        alerts[line["sensor"]].append(line["time"])
    lines = []
    for line in sorted(read_jsonl(f"{output}/means"), key=lambda line: line["sensor"]):
        sensor, mean = line["sensor"], line["mean"]
        about = f"{sensor}: {line['count']:,} good readings, mean {mean:.2f} °F = {to_celsius(mean):.6f} °C"
        lines.append(f"{about}; {_about_alerts(alerts[sensor], marked.get(sensor, []))}")
    lines.append(f"{len(read_jsonl(f'{output}/rejected')):,} readings were filtered out as impossible")
    lines += about_malformed(output)
    picture = Path(output) / "sensors.html"
    picture.write_text(page(_series(output), marked, deviations), encoding="utf-8")
    lines.append(f"results: {output}/*/ (JSON lines); the picture: {picture}")
    return "\n".join(lines)


def _about_alerts(alerts: list[int], spans: list[Span]) -> str:
    found = judge(alerts, spans)
    if not spans:
        return f"{len(alerts)} alerts in {found.episodes} episodes"
    return (
        f"{found.caught} of {found.labelled} labelled anomalies caught, {found.inside} alerts inside of them and "
        f"{found.outside} outside; {found.episodes} episodes, {found.false_episodes} of them false"
    )


def _series(output: str) -> dict[str, list[dict[str, Any]]]:
    series: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in read_jsonl(f"{output}/readings"):
        series[line["sensor"]].append(line)
    return dict(sorted(series.items()))
