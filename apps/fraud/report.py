"""What was found, for a person to read."""

from __future__ import annotations

from collections import Counter
from typing import Any

from streamcore import JobResult
from streamcore.apps.conventions import about_malformed
from streamcore.connectors.file_sink import read_jsonl

HONEST = {"cards": "honest", "intrusion": "normal"}


def report(output: str, kind: str, result: JobResult, *, from_file: bool) -> str:
    """Precision and recall where the data is labelled, what the reasons were, some alerts, and where the rest is."""
    summary = sorted(read_jsonl(f"{output}/summary"), key=lambda line: -line["records"])
    alerts = read_jsonl(f"{output}/alerts")
    malformed = about_malformed(output) if from_file else []
    if from_file and kind == "cards" and (impossible := len(read_jsonl(f"{output}/rejected"))):
        malformed.append(f"{impossible:,} payments can't be ({output}/rejected)")
    records = sum(line["records"] for line in summary)
    if not records:
        return "\n".join(["there were no records", *malformed, f"results are in {output}"])
    flagged = sum(line["alerts"] for line in summary)
    rate = result.records_read / result.run_s
    lines = [f"{records:,} records, {flagged:,} flagged, {len(alerts):,} alerts ({rate:,.0f} records/s)"]
    lines += _quality(summary, HONEST[kind]) if kind in HONEST else _downloads(summary)
    rules = Counter(_rule(reason) for alert in alerts for reason in alert["reasons"])
    if rules:
        lines.append("reasons: " + "; ".join(f"{rule} {times:,}" for rule, times in rules.most_common(6)))
    for alert in sorted(alerts, key=lambda alert: -alert["score"])[:3]:
        lines.append(f"  {alert['score']:.3f}  {'; '.join(alert['reasons'])}")
    lines += malformed
    lines.append(f"results: {output}/alerts, {output}/summary (JSON lines)")
    return "\n".join(lines)


def _quality(summary: list[dict[str, Any]], honest: str) -> list[str]:
    frauds = [line for line in summary if line["class"] not in (honest, "unknown")]
    total, caught = sum(line["records"] for line in frauds), sum(line["alerts"] for line in frauds)
    wrong = sum(line["alerts"] for line in summary if line["class"] == honest)
    good = sum(line["records"] for line in summary if line["class"] == honest)
    if not total or not good:
        return []
    return [
        f"precision {caught / max(caught + wrong, 1):.4f}, recall {caught / total:.4f}, "
        f"false alarms among the {honest}: {wrong / good:.4%}",
        "caught: " + ", ".join(f"{line['class']} {line['alerts']:,}/{line['records']:,}" for line in frauds[:12]),
    ]


def _downloads(summary: list[dict[str, Any]]) -> list[str]:
    flagged = sum(line["alerts"] for line in summary)
    others = sum(line["records"] for line in summary) - flagged
    paid = next((line for line in summary if line["class"] == "download"), {"records": 0, "alerts": 0})
    return [
        f"downloads after {paid['alerts'] / max(flagged, 1):.3%} of the flagged clicks, "
        f"after {(paid['records'] - paid['alerts']) / max(others, 1):.3%} of the others"
    ]


def _rule(reason: str) -> str:
    """A reason without its figures."""
    return reason.split(":", maxsplit=1)[0]
