"""What trends: the keywords with the highest counts per window, and with the highest counts that halve with time.

Keywords are hash-partitioned, counted before and after the exchange, ranked where they are counted, and the ranks
merged. Output, as JSON lines or messages: `windows`, `totals`, `decayed`, `late` and `malformed`; README.md has their
fields.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamcore import (
    App,
    DataStream,
    JobResult,
    OutputTag,
    StreamEnvironment,
    Windows,
    count,
    lit,
    seconds,
    sliding,
    tumbling,
)
from streamcore.apps.conventions import MALFORMED, place, where_results_are, write
from streamcore.apps.trending.keywords import is_edits, keywords
from streamcore.apps.trending.report import report
from streamcore.operators.decayed_counts import decayed_counts
from streamcore.operators.top_k import top_k

SHIPPED = Path(__file__).parent / "data" / "wikipedia_edits_2015-09-12.jsonl.gz"


def build(
    env: StreamEnvironment,
    *,
    input: str = str(SHIPPED),  # noqa: A002 - the name of the setting in every app
    source: str = "",
    output: str = "out/trending",
    sink: str = "",
    k: int = 10,
    window: float = 3600.0,
    every: float = 0.0,
    half_life: float = 3600.0,
    period: float = 600.0,
    namespace: str = "",
    out_of_order: float = 0.0,
) -> None:
    """Builds the topology; durations are seconds of event time."""
    write_to = place(sink, output)
    stream, key, malformed = keywords(env, place(source, input), namespace, out_of_order)
    windows = sliding(seconds(window), every=seconds(every)) if every else tumbling(seconds(window))
    late: OutputTag[Any] = OutputTag("late", stream.schema)
    counts = stream.key_by(key).window(windows, time="time").late_to(late).aggregate(count()).uid("counts")
    write(top_k(counts, k, "count").uid("top"), write_to, "windows")
    write(_totals(stream, windows), write_to, "totals")
    decayed = decayed_counts(stream, key, half_life=half_life, every=period, k=k)
    write(decayed.uid("decayed"), write_to, "decayed")
    write(counts.side_output(late), write_to, "late")
    write(malformed, write_to, MALFORMED)


def _totals(stream: DataStream[Any], windows: Windows) -> DataStream[Any]:
    """How many records each window has in all."""
    everything = stream.select("time", all=lit(0)).key_by("all").window(windows, time="time")
    return everything.aggregate(count()).uid("totals").select("window_start", "window_end", "count")


def _report(result: JobResult, **settings: object) -> str:
    if settings["sink"]:
        return where_results_are(str(settings["sink"]))
    return report(str(settings["output"]), is_text=not is_edits(str(settings["source"] or settings["input"])))


APP = App("trending", build, "top keywords per window, and by counts that halve with time", report=_report)
