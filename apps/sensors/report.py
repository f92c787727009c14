"""What the job has found, for a person to read, and a page with the pictures."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streamcore.apps.sensors.chart import page
from streamcore.apps.sensors.readings import to_celsius
from streamcore.connectors.file_sink import read_jsonl

_EPISODE_GAP_MS = 86_400_000
"""Alerts that are less than a day apart are about one thing."""

Span = tuple[int, int]
"""First and last millisecond."""


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
        return f"{len(means):,} means of readings; results: {output}/by_count (JSON lines)"
    marked = read_labels(labels) if labels else {}
    alerts: defaultdict[str, list[int]] = defaultdict(list)
    for line in read_jsonl(f"{output}/alerts"):
        alerts[line["sensor"]].append(line["time"])
    lines = []
    for line in sorted(read_jsonl(f"{output}/means"), key=lambda line: line["sensor"]):
        sensor, mean = line["sensor"], line["mean"]
        about = f"{sensor}: {line['count']:,} good readings, mean {mean:.2f} °F = {to_celsius(mean):.6f} °C"
        lines.append(f"{about}; {_about_alerts(alerts[sensor], marked.get(sensor, []))}")
    bad, malformed = (len(read_jsonl(f"{output}/{name}")) for name in ("rejected", "malformed"))
    lines.append(f"{bad} readings were filtered out as impossible, {malformed} could not be read")
    picture = Path(output) / "sensors.html"
    picture.write_text(page(_series(output), marked, deviations), encoding="utf-8")
    lines.append(f"results: {output}/*/ (JSON lines); the picture: {picture}")
    return "\n".join(lines)


def read_labels(path: str) -> dict[str, list[Span]]:
    """Sensor -> spans, from a CSV file (gzip as it is) with the columns sensor, start, end: ISO times, UTC."""
    spans: defaultdict[str, list[Span]] = defaultdict(list)
    with gzip.open(path, "rt") if path.endswith(".gz") else Path(path).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            spans[row["sensor"]].append((_milliseconds(row["start"]), _milliseconds(row["end"])))
    return dict(spans)


def _milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


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
