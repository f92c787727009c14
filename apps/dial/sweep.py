"""The whole dial, from one record at a time to large batches, as a table."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from streamcore import StreamEnvironment
from streamcore.apps.dial.measure import latency_ms, throughput

BATCH_SIZES = (1, 16, 256, 4096, 16_384)
TIMEOUTS_MS = (0, 1, 5, 20, 100)


def sweep(output: str, rate: float, seconds: float) -> str:
    """Measures every position, writes them to `output` and returns them as a table.

    Args:
        rate: records per second at which latency is measured.
        seconds: how long each measurement takes.
    """
    lines, rows = [], []
    for batch_size in BATCH_SIZES:
        most = throughput(partial(_environment, batch_size, 5), seconds)
        cells = [f"{batch_size:>6,}", f"{most:>12,.0f}"]
        for timeout_ms in TIMEOUTS_MS:
            p50, p99 = latency_ms(partial(_environment, batch_size, timeout_ms), rate, seconds)
            cells.append(f"{p50:>6.1f} /{p99:>6.1f}")
            place = {"batch_size": batch_size, "buffer_timeout_ms": timeout_ms}
            rows.append({**place, "p50_ms": p50, "p99_ms": p99, "records_per_s": most})
        lines.append("  ".join(cells))
    path = Path(output) / "dial.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    timeouts = "  ".join(f"{f'{timeout} ms':>14}" for timeout in TIMEOUTS_MS)
    about = f"latency p50 / p99 in ms at {rate:,.0f} records/s, by --buffer-timeout"
    return "\n".join(
        [
            f"{'--batch':>6}  {'unpaced,':>12}  {about}",
            f"{'-size':>6}  {'records/s':>12}  {timeouts}",
            *lines,
            f"results: {path} (JSON lines)",
        ]
    )


def _environment(batch_size: int, timeout_ms: float) -> StreamEnvironment:
    return StreamEnvironment("dial", batch_size=batch_size, buffer_timeout=timeout_ms / 1000)
