"""Runs every discipline twice: as fast as it goes, and at a rate with a kill -9 in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from streamcore import StreamcoreError
from streamcore.apps.guarantees.outcome import Discipline, Outcome, outcome

CHECKPOINT_INTERVAL = "100ms"
_WARM_SHARE = 0.15
_TO_FINISH_S = 0.25
"""The latency before the crash is of payments that were due so long before it: of those, all results were there."""
_UNPACED = {"acks": 20_000, "transactions": 40_000, "micro-batches": 1_000_000, "snapshots": 1_000_000}
"""Payments in the runs without rate: about a second or two of each."""


@dataclass(frozen=True)
class Row:
    """What is told of one discipline; see README.md."""

    discipline: str
    records_per_s: float
    p50_ms: float
    p99_ms: float
    lost: int
    doubled: int
    wrong: int
    replayed: int
    recovery_s: float
    caught_up_s: float


def compare(output: str, rate: float, seconds: float, batch: int, durable: bool) -> str:
    """Measures all four, writes them to `output` and returns them as a table.

    Args:
        seconds: how long payments come in the run with a crash, which is in the middle.

    Raises:
        StreamcoreError: a run ended with an error.
    """
    rows = []
    for discipline in get_args(Discipline):
        settings = {"batch": batch, "durable": durable}
        fast = _without_crash(output, discipline, settings)
        rows.append(with_crash(output, discipline, rate, seconds, settings, fast))
    path = Path(output) / "comparison.jsonl"
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
    return _table(rows, rate) + f"\nresults: {path} (JSON lines)"


def _without_crash(output: str, discipline: str, settings: Mapping[str, object]) -> float:
    records = _UNPACED[discipline]
    with _Run(Path(output) / "fast", discipline, {**settings, "records": records, "rate": 0}) as run:
        run.start(resume=False)
        run.finish()
    found = outcome(run.results, records)
    shutil.rmtree(run.results)
    return found.rate


def with_crash(
    output: str, discipline: str, rate: float, seconds: float, settings: Mapping[str, object], fast: float
) -> Row:
    """One discipline at a rate, killed in the middle and started again; `fast`: its rate without a crash."""
    records = round(rate * seconds)
    with _Run(Path(output) / "crashed", discipline, {**settings, "records": records, "rate": rate}) as run:
        run.start(resume=False)
        began = run.wait_for_clock()
        time.sleep(max(0.0, began + seconds / 2 - time.time()))
        killed = run.kill()
        run.start(resume=True)
        run.finish()
    found = outcome(run.results, records)
    p50, p99 = found.latency_ms(began + _WARM_SHARE * seconds, killed - _TO_FINISH_S)
    return Row(
        discipline,
        fast,
        p50,
        p99,
        found.lost,
        found.doubled,
        found.wrong,
        found.replayed,
        _first_new(found, killed) - killed,
        _caught_up(found, killed, p99) - killed,
    )


def _first_new(found: Outcome, killed: float) -> float:
    """When the first result was visible after the crash that had not been before."""
    new = found.visible[found.visible > killed]
    return float(new.min())


def _caught_up(found: Outcome, killed: float, p99_ms: float) -> float:
    """From when on results were as fresh as before the crash: within twice the 99th percentile."""
    late = (found.visible > killed) & (found.visible - found.due > 2 * p99_ms / 1000)
    return float(found.visible[late].max()) if late.any() else killed


class _Run:
    """Runs the app as a process of its own."""

    def __init__(self, output: Path, discipline: str, settings: Mapping[str, object]) -> None:
        self.results = output / discipline
        shutil.rmtree(self.results, ignore_errors=True)
        self._discipline = discipline
        self._settings = {"output": output, "discipline": discipline, "compare_all": "no", **settings}
        self._log = output / f"{discipline}.log"
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def start(self, *, resume: bool) -> None:
        line = [sys.executable, "-m", "streamcore", "run", "guarantees", "--no-progress", "--buffer-timeout", "1ms"]
        for name, value in {**self._settings, "resume": resume}.items():
            line += ["--set", f"{name}={value}"]
        if self._discipline in ("snapshots", "micro-batches"):
            checkpoints = self._log.with_name(f"{self._discipline}-checkpoints")
            if not resume:
                shutil.rmtree(checkpoints, ignore_errors=True)
            line += ["--checkpoint-dir", str(checkpoints), "--checkpoint-interval", CHECKPOINT_INTERVAL]
            line += ["--restore", "latest"] if resume else []
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(line, stdout=log, stderr=log)

    def wait_for_clock(self) -> float:
        """When payment 0 was due."""
        clock = self.results / "clock"
        while self._process.poll() is None:
            with contextlib.suppress(FileNotFoundError, ValueError):
                return float(clock.read_text(encoding="ascii"))
            time.sleep(0.005)
        raise self._failed()

    def kill(self) -> float:
        """Kills the run; returns when."""
        os.kill(self._process.pid, signal.SIGKILL)
        killed = time.time()
        self._process.wait()
        return killed

    def finish(self) -> None:
        if self._process.wait() != 0:
            raise self._failed()

    def _failed(self) -> StreamcoreError:
        return StreamcoreError(
            f"the run of {self._discipline} ended with exit code {self._process.returncode}", hint=f"see {self._log}"
        )


def _table(rows: list[Row], rate: float) -> str:
    lines = [
        f"{'':14}{'unpaced,':>11}  {f'at {rate:,.0f}/s, ms':>16}  {'after kill -9':^38}  {'recovery, s':^18}",
        f"{'':14}{'records/s':>11}  {'p50':>7} {'p99':>8}  {'lost':>6} {'doubled':>8} {'wrong':>6} {'recognised':>14}"
        f"  {'first':>8} {'caught up':>10}",
    ]
    for row in rows:
        lines.append(
            f"{row.discipline:14}{row.records_per_s:>11,.0f}  {row.p50_ms:>7.1f} {row.p99_ms:>8.1f}  {row.lost:>6,} "
            f"{row.doubled:>8,} {row.wrong:>6,} {row.replayed:>14,}  {row.recovery_s:>8.2f} {row.caught_up_s:>10.2f}"
        )
    return "\n".join(lines)
