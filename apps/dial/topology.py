"""One dial: latency against throughput, from tuple-by-tuple to micro-batch.

The job is measured where `--batch-size` and `--buffer-timeout` have put it; the report then turns the dial.
Output, as JSON lines: `position/` (`{"records", "p50_ms", "p99_ms", "seconds"}`) and `dial.jsonl` (`{"batch_size",
"buffer_timeout_ms", "p50_ms", "p99_ms", "records_per_s"}`, a line for each position).
"""

from __future__ import annotations

from typing import Any

from streamcore import App, JobResult, StreamEnvironment
from streamcore.apps.conventions import check_setting, write
from streamcore.apps.dial.measure import measured
from streamcore.apps.dial.sweep import sweep
from streamcore.connectors.file_sink import read_jsonl


def build(
    env: StreamEnvironment,
    *,
    output: str = "out/dial",
    rate: float = 2_000.0,
    seconds: float = 0.7,
    turn: bool = True,
) -> None:
    """Builds the job that is measured; `turn=false` leaves out the other positions."""
    check_setting("rate", rate, 1)
    check_setting("seconds", seconds, 0.01)
    found = measured(env, max(round(rate * seconds), 1), rate)
    write(found, output, "position")


def _report(result: JobResult, **settings: Any) -> str:
    here = read_jsonl(f"{settings['output']}/position")[0]
    text = f"at this position: p50 {here['p50_ms']:.2f} ms, p99 {here['p99_ms']:.2f} ms of {here['records']:,} records"
    if settings["turn"]:
        text += "\n\n" + sweep(settings["output"], settings["rate"], settings["seconds"])
    return text


APP = App("dial", build, "latency and throughput from tuple-by-tuple to micro-batch", report=_report)
