"""What has been trending, for a person to read."""

from __future__ import annotations

import datetime
from typing import Any

from streamcore.apps.conventions import about_malformed
from streamcore.apps.trending.keywords import LINE_MS
from streamcore.connectors.file_sink import read_jsonl

_WINDOWS_SHOWN = 24
_TOP_SHOWN = 3
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_OWN = {"window_start", "window_end", "count", "score", "rank"}


def report(output: str, *, is_text: bool) -> str:
    """The first few of each window (of the last ones, if there are many), and what trended at the end."""
    totals = {(line["window_start"], line["window_end"]): line["count"] for line in read_jsonl(f"{output}/totals")}
    if not totals:
        return "\n".join(["no keywords were found", *about_malformed(output), f"results are in {output}"])
    show = _line_number if is_text else _time
    top: dict[tuple[int, int], list[dict[str, Any]]] = {window: [] for window in totals}
    for line in sorted(read_jsonl(f"{output}/windows"), key=lambda line: line["rank"]):
        top[line["window_start"], line["window_end"]].append(line)
    lines = [f"{len(totals)} windows with {sum(totals.values()):,} counted keywords"]
    if len(totals) > _WINDOWS_SHOWN:
        lines.append(f"  the last {_WINDOWS_SHOWN}:")
    for window in sorted(totals)[-_WINDOWS_SHOWN:]:
        best = "; ".join(f"{_keyword(line)} {line['count']}" for line in top[window][:_TOP_SHOWN])
        lines.append(f"  {show(window[0])} - {show(window[1])} {totals[window]:>7,}  {best}")
    decayed = read_jsonl(f"{output}/decayed")
    end = max(line["window_end"] for line in decayed)
    latest = sorted((line for line in decayed if line["window_end"] == end), key=lambda line: line["rank"])
    lines.append(f"trending at {show(end)}: " + "; ".join(f"{_keyword(line)} {line['score']:.2f}" for line in latest))
    if late := len(read_jsonl(f"{output}/late")):
        lines.append(f"{late:,} came after their window's end and are not counted ({output}/late; see out_of_order)")
    lines += about_malformed(output)
    lines.append(f"results: {output}/windows, {output}/totals, {output}/decayed (JSON lines)")
    return "\n".join(lines)


def _keyword(line: dict[str, Any]) -> str:
    return " ".join(str(value) for name, value in line.items() if name not in _OWN)


def _time(time_ms: int) -> str:
    """As a clock shows it, UTC."""
    return f"{_EPOCH + datetime.timedelta(milliseconds=time_ms):%Y-%m-%d %H:%M}"


def _line_number(time_ms: int) -> str:
    """In a text a line is a second."""
    return f"line {time_ms // LINE_MS:,}"
