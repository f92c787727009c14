"""What checkpoints cost: 1 M keys x 8 float64 in columnar state, 20 M updates, a checkpoint every second or none.

    python -m tests.bench.run --only "snapshot cost"

One worker, in this process. Rates are of the stream, from its first batch to its last; the stream's stops are seen from
inside of it: the longest time between the end of one batch and the beginning of the next.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numba
import numpy as np

from streamcore import BatchFunction, Checkpointing, ColumnarState, Columns, Context, Schema, StreamEnvironment
from streamcore.connectors.generator_source import GeneratorSource
from tests.bench.workloads import Measured

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


def with_and_without(records: int) -> Measured:
    """One run with a checkpoint every second, and one without, which is the limit."""
    plain, right = run_once(records, None)
    saved, right_with = run_once(records, 1.0)
    return Measured(
        records,
        saved.seconds,
        plain.seconds,
        right and right_with,
        f"{len(saved.pauses_s)} checkpoints",
        {
            "longest_stop_ms": max(saved.pauses_s, default=0.0) * 1e3,
            "longest_gap_ms": saved.longest_gap_s * 1e3,
            "longest_gap_without_ms": plain.longest_gap_s * 1e3,
            "stream_cpu_s": saved.cpu_s,
            "stream_cpu_without_s": plain.cpu_s,
        },
    )


def few_changes(records: int) -> Measured:
    """After a quarter of the records only 1 % of the keys change: how small do checkpoints become?"""
    run, right = run_once(records, 0.3, hot_after=records // 4)
    sizes = [size / 1e6 for size in run.written_bytes if size]  # the last, of a job at its end, writes nothing
    note = f"{min(sizes):.2f} MB of {max(sizes):.0f} MB written a checkpoint"
    facts = {"whole_mb": max(sizes), "smallest_increment_mb": min(sizes)}
    return Measured(records, run.seconds, None, right, note, facts)


def all_workloads(records: int = 20_000_000) -> Iterator[tuple[str, int, Callable[[], Measured]]]:
    """(name, workers, run)."""
    yield "snapshot cost, 1 M keys x 8 float64, checkpoint every second", 1, partial(with_and_without, records)
    yield "snapshot cost, 1 % of the keys changing", 1, partial(few_changes, records)
