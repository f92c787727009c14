"""What checkpoints cost: 1 M keys x 8 float64 in columnar state, 20 M updates, a checkpoint every second or none.

    python -m tests.bench.snapshot_cost [--runs 3] [--records 20000000]

One worker, in this process. Rates are of the stream, from its first batch to its last; the stream's stops are seen from
inside of it: the longest time between the end of one batch and the beginning of the next.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np

from streamcore import BatchFunction, Checkpointing, ColumnarState, Columns, Context, Schema, StreamEnvironment
from streamcore.connectors.generator_source import GeneratorSource

KEYS = 1_000_000
FIELDS = tuple(f"f{i}" for i in range(8))
UPDATE = Schema.of(key=np.int64, value=np.float64)
_STATE = ColumnarState("sums", Schema.of(**dict.fromkeys(FIELDS, np.float64)))


@dataclass
class Run:
    """One run of the job; the lists have one entry per checkpoint. `cpu_s`: of the thread that runs the stream."""

    records: int
    seconds: float = 0.0
    cpu_s: float = 0.0
    longest_gap_s: float = 0.0
    pauses_s: list[float] = field(default_factory=list)
    written_bytes: list[int] = field(default_factory=list)


class Updates(BatchFunction[Columns]):
    """Adds each record's value to field i of its key i + 1 times; leaves what it found in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began_at = self._left_at = 0.0
        self._longest_gap_s = 0.0

    def open(self, ctx: Context[Columns]) -> None:
        self._table = ctx.state(_STATE)

    def process(self, columns: Columns, ctx: Context[Columns]) -> None:
        now = time.perf_counter()
        if self._began_at:
            self._longest_gap_s = max(self._longest_gap_s, now - self._left_at)
        else:
            self._began_at, self._cpu_began_at = now, time.thread_time()
        slots = self._table.slots(columns["key"])
        _add(slots, columns["value"], *(self._table[name] for name in FIELDS))
        self._left_at = time.perf_counter()

    def finish(self, ctx: Context[Columns]) -> None:
        seconds, cpu_s = self._left_at - self._began_at, time.thread_time() - self._cpu_began_at
        sums = np.zeros((KEYS, len(FIELDS)))
        for i, name in enumerate(FIELDS):
            sums[self._table.keys, i] = self._table[name]
        np.savez(self._path, sums=sums, times=[seconds, cpu_s, self._longest_gap_s])


@numba.njit(cache=True, nogil=True)
def _add(slots, values, f0, f1, f2, f3, f4, f5, f6, f7):  # type: ignore[no-untyped-def]
    for i in range(len(slots)):
        slot, value = slots[i], values[i]
        f0[slot] += value
        f1[slot] += 2 * value
        f2[slot] += 3 * value
        f3[slot] += 4 * value
        f4[slot] += 5 * value
        f5[slot] += 6 * value
        f6[slot] += 7 * value
        f7[slot] += 8 * value


@cache
def _updates(records: int, hot_after: int, hot_keys: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(7)
    keys = rng.integers(0, KEYS, records)
    hot = rng.choice(KEYS, hot_keys, replace=False)
    keys[hot_after:] = hot[keys[hot_after:] % hot_keys]
    keys[: min(KEYS, hot_after)] = np.arange(min(KEYS, hot_after))  # all keys are there from the beginning
    return keys, rng.integers(0, 16, records).astype(np.float64)


class _Watch(logging.Handler):
    """Reads the pauses and sizes of checkpoints in the job's log."""

    def __init__(self, run: Run, directory: Path) -> None:
        super().__init__()
        self._run = run
        self._directory = directory

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("checkpoint complete"):
            checkpoint = self._directory / f"chk-{record.__dict__['checkpoint']:08d}"
            self._run.pauses_s.append(record.args[-1] / 1e3)  # type: ignore[index,operator,union-attr]
            self._run.written_bytes.append(sum(file.stat().st_size for file in checkpoint.glob("*")))


def run_once(
    records: int, interval_s: float | None, *, hot_after: int | None = None, hot_keys: int = KEYS // 100
) -> tuple[Run, bool]:
    """One run; from record `hot_after` on, only `hot_keys` of the keys are updated (None: always all).

    Returns:
        What was measured, and whether the sums are those that NumPy finds.
    """
    keys, values = _updates(records, records if hot_after is None else hot_after, hot_keys)

    def make(start: int, stop: int) -> Columns:
        return Columns(UPDATE, {"key": keys[start:stop], "value": values[start:stop]})

    run = Run(records)
    logger = logging.getLogger("streamcore.job")
    level = logger.level
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = Checkpointing(directory, interval=interval_s) if interval_s else None
        env = StreamEnvironment("snapshot-cost", checkpoint=checkpoint)
        env.source(GeneratorSource(make, count=records, schema=UPDATE)).key_by("key").process(
            Updates(Path(directory, "found.npz"))
        )
        watch = _Watch(run, Path(directory))
        logger.addHandler(watch)
        logger.setLevel(logging.INFO)
        try:
            env.execute()
            with np.load(Path(directory, "found.npz")) as found:
                sums = found["sums"]
                run.seconds, run.cpu_s, run.longest_gap_s = found["times"].tolist()
        finally:
            logger.removeHandler(watch)
            logger.setLevel(level)
    one = np.bincount(keys, values, KEYS)
    expected = one[:, None] * np.arange(1, len(FIELDS) + 1)
    return run, np.array_equal(sums, expected)


def rows(runs: int = 3, records: int = 20_000_000) -> list[dict[str, Any]]:
    """The workload's rows for build/bench.json; medians of `runs`, with and without checkpoints by turns."""
    run_once(2_000_000, 0.2)  # compiles
    plain, with_checkpoints = [], []
    for _ in range(runs):
        plain.append(run_once(records, None))
        with_checkpoints.append(run_once(records, 1.0))
    quiet, _ = few = run_once(records, 0.3, hot_after=records // 4)
    rate, rate_with = _rate(plain), _rate(with_checkpoints)
    pause_s = max((p for run, _ in with_checkpoints for p in run.pauses_s), default=0.0)
    gaps = [max(run.longest_gap_s for run, _ in group) * 1e3 for group in (plain, with_checkpoints)]
    count = sum(len(run.pauses_s) for run, _ in with_checkpoints) / runs
    cpu = [statistics.median(run.cpu_s for run, _ in group) for group in (plain, with_checkpoints)]
    sizes = [size / 1e6 for size in quiet.written_bytes if size]  # the last ones, of a job at its end, write nothing
    note = (
        f"the stream's thread used {cpu[1]:.2f} s, without checkpoints {cpu[0]:.2f} s; "
        f"{count:.1f} checkpoints a run, longest stop {pause_s * 1e3:.1f} ms, longest gap between batches "
        f"{gaps[1]:.0f} ms (without checkpoints {gaps[0]:.0f} ms); with 1 % of the keys changing: "
        f"{min(sizes):.2f} MB of {max(sizes):.0f} MB a checkpoint"
    )
    right = all(correct for _, correct in (*plain, *with_checkpoints, few))
    return [
        _row("without checkpoints", rate, None, right, ""),
        _row("checkpoints each 1 s", rate_with, rate, right, note),
    ]


def _rate(group: list[tuple[Run, bool]]) -> float:
    return statistics.median(run.records / run.seconds for run, _ in group)


def _row(name: str, rate: float, limit: float | None, right: bool, note: str) -> dict[str, Any]:
    return {
        "workload": f"W7 snapshot cost, {name}",
        "engine": "streamcore",
        "workers": 1,
        "input": "generated",
        "records_per_s": rate,
        "ratio_to_limit": rate / limit if limit else None,
        "correct": right,
        "note": note,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--records", type=int, default=20_000_000)
    options = parser.parse_args()
    for row in rows(options.runs, options.records):
        ratio = f", {row['ratio_to_limit']:.3f} of that without" if row["ratio_to_limit"] else ""
        print(f"{row['workload']}: {row['records_per_s'] / 1e6:.2f} M updates/s{ratio}, right: {row['correct']}")
        print(f"  {row['note']}")


if __name__ == "__main__":
    main()
