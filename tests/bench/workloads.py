"""streamcore against bare loops: each workload runs a topology and its limit on the same data in one process tree.

Seconds are of the whole job, from `execute` to its end: planning, deploying and closing included; worker processes
are started inside of it too.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np

from streamcore import Checkpointing, Columns, Schema, StreamEnvironment
from streamcore.apps.online_mf.topology import learn
from streamcore.connectors.base import Batch, Sink, SinkContext, SinkWriter
from streamcore.connectors.file_sink import read_jsonl
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.operators.online_mf import Hyperparameters, rating_schema

READING = Schema.of(sensor=np.int64, value=np.float64)


@dataclass
class Measured:
    """One run: `limit_s` is the time of the bare loop over the same records, where there is one."""

    records: int
    seconds: float
    limit_s: float | None
    correct: bool
    note: str = ""
    facts: dict[str, float] = field(default_factory=dict)
    """More columns of the row in bench.json, by name with unit: medians of the runs."""


class TotalSink(Sink[Any]):
    """Counts what comes and adds up one column, and leaves the totals in a file when it is closed."""

    accepts = "any"
    parallelism = 1

    def __init__(self, path: str, column: str | None = None) -> None:
        self.path = path
        self.column = column

    def writer(self, context: SinkContext) -> SinkWriter:
        return _TotalWriter(self)


class _TotalWriter(SinkWriter):
    def __init__(self, sink: TotalSink) -> None:
        self._sink = sink
        self._count, self._sum = 0, 0.0

    def write(self, batch: Batch) -> None:
        self._count += len(batch)
        if self._sink.column is not None and isinstance(batch, Columns):
            self._sum += float(batch[self._sink.column].sum())

    def close(self) -> None:
        Path(self._sink.path).write_text(f"{self._count} {self._sum!r}")


def _read_totals(path: str) -> tuple[int, float]:
    count, total = Path(path).read_text().split()
    return int(count), float(total)


def readings(start: int, stop: int) -> Columns:
    """Records [start, stop) of an endless table of sensor readings: slices of one block, which cost little."""
    block = _block()
    size, begin = len(block), start % len(block)
    return block.slice(begin, begin + stop - start) if begin + stop - start <= size else _wrapped(block, start, stop)


_BLOCKS: list[Columns] = []


def _block() -> Columns:
    if not _BLOCKS:
        chance = np.random.default_rng(1)
        values = {"sensor": chance.integers(0, 1000, 1 << 20), "value": chance.normal(20, 5, 1 << 20)}
        _BLOCKS.append(Columns(READING, values))
    return _BLOCKS[0]


def _wrapped(block: Columns, start: int, stop: int) -> Columns:
    return block.take(np.arange(start, stop) % len(block))


def to_fahrenheit(columns: Columns) -> Columns:
    return columns.with_columns(value=columns["value"] * 1.8 + 32)


def is_warm(columns: Columns) -> Any:
    return columns["value"] > 68


def halve(columns: Columns) -> Columns:
    return columns.with_columns(value=columns["value"] * 0.5)


def columns_chain(records: int = 100_000_000) -> Measured:
    """map_batch → filter_batch → map_batch; the limit is the same NumPy calls in a loop over the same batches."""
    with tempfile.TemporaryDirectory() as scratch:
        env = StreamEnvironment("columns")
        stream = env.source(GeneratorSource(readings, count=records, schema=READING))
        stream.map_batch(to_fahrenheit).filter_batch(is_warm).map_batch(halve).sink(TotalSink(f"{scratch}/t", "value"))
        seconds = _timed(env.execute)
        count, total = _read_totals(f"{scratch}/t")
    started, wanted, wanted_sum = time.perf_counter(), 0, 0.0
    for start in range(0, records, 8192):
        value = readings(start, min(start + 8192, records))["value"] * 1.8 + 32
        value = value[value > 68] * 0.5
        wanted, wanted_sum = wanted + len(value), wanted_sum + float(value.sum())
    limit_s = time.perf_counter() - started
    return Measured(records, seconds, limit_s, count == wanted and abs(total - wanted_sum) < 1e-6 * wanted_sum)


def rows_chain(records: int = 10_000_000) -> Measured:
    """Untyped lambdas: map → filter → map; the limit is the same lambdas in one list comprehension."""
    first, keep, last = (lambda x: x * 3 + 1), (lambda x: x % 5 != 0), (lambda x: x // 2)
    values = list(range(records))
    with tempfile.TemporaryDirectory() as scratch:
        env = StreamEnvironment("rows")
        env.from_values(values).map(first).filter(keep).map(last).sink(TotalSink(f"{scratch}/t"))
        seconds = _timed(env.execute)
        count, _ = _read_totals(f"{scratch}/t")
    started = time.perf_counter()
    bare = [last(y) for x in values if keep(y := first(x))]
    limit_s = time.perf_counter() - started
    return Measured(records, seconds, limit_s, count == len(bare))


def _sensor(record: Any) -> Any:
    return record[0]


def _ewma_step(state: Any, record: Any) -> Any:
    mean = record[1] if state is None else 0.9 * state + 0.1 * record[1]
    return mean, (record[0], mean, abs(record[1] - mean) > 3.0)


def rows_ewma(records: int = 3_000_000) -> Measured:
    """EWMA and alert per key over untyped tuples; the limit is the same function in a loop over a dictionary."""
    block = readings(0, records)
    rows = list(zip(block["sensor"].tolist(), block["value"].tolist(), strict=True))
    with tempfile.TemporaryDirectory() as scratch:
        env = StreamEnvironment("rows ewma")
        env.from_values(rows).key_by(_sensor).scan(None, _ewma_step).sink(TotalSink(f"{scratch}/t"))
        seconds = _timed(env.execute)
        count, _ = _read_totals(f"{scratch}/t")
    started = time.perf_counter()
    states: dict[int, float] = {}
    results = []
    for record in rows:
        key = _sensor(record)
        states[key], result = _ewma_step(states.get(key), record)
        results.append(result)
    limit_s = time.perf_counter() - started
    return Measured(records, seconds, limit_s, count == len(results))


def keyed_count(records: int = 20_000_000) -> Measured:
    """Counts per key over two worker processes, the records crossing between them; the limit is np.bincount."""
    with tempfile.TemporaryDirectory() as scratch:
        env = StreamEnvironment("keyed count", workers=2)
        stream = env.source(GeneratorSource(readings, count=records, splits=2, schema=READING))
        stream.key_by("sensor").count(emit="final").sink(TotalSink(f"{scratch}/t", "count"))
        seconds = _timed(env.execute)
        keys, total = _read_totals(f"{scratch}/t")
    started, counts = time.perf_counter(), np.zeros(1000, np.int64)
    for start in range(0, records, 8192):
        counts += np.bincount(readings(start, min(start + 8192, records))["sensor"], minlength=1000)
    limit_s = time.perf_counter() - started
    return Measured(records, seconds, limit_s, keys == np.count_nonzero(counts) and total == counts.sum())


def ratings(start: int, stop: int) -> Columns:
    """Ratings by index, pure: 70 % follow one of the same user, 6,000 users, 3,700 items with a long tail."""
    index = np.arange(start, stop, dtype=np.uint64)
    visit = index // np.uint64(4)  # four in a row are of one user
    user = ((visit * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) % np.uint64(6000)
    noise = (index * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(11)
    uniform = noise.astype(np.float64) / 2**53
    item = (3700 * uniform**2).astype(np.int64)
    liking = np.sin(user.astype(np.float64)) + np.cos(item.astype(np.float64))
    rating = np.clip(np.round(3.6 + liking / 2), 1, 5)
    values = {"user": user.astype(np.int64), "item": item, "rating": rating.astype(np.float32)}
    return Columns(rating_schema(), values)


def stored_ratings(start: int, stop: int) -> Columns:
    """The ratings of an endless repetition of one block, made once: the loop is measured, not the generator."""
    if not _RATINGS:
        _RATINGS.append(ratings(0, RATINGS_BLOCK))
    begin = start % RATINGS_BLOCK
    return _RATINGS[0].slice(begin, begin + stop - start)  # batches divide the block


RATINGS_BLOCK = 1 << 22
_RATINGS: list[Columns] = []


def online_mf(passes: int = 16, checkpoint_every_s: float | None = None, workers: int = 1) -> Measured:
    """The online MF loop over `passes` repetitions of a block; the limit is plain sequential SGD in numba."""
    records = passes * RATINGS_BLOCK
    users, items, values = (stored_ratings(0, RATINGS_BLOCK)[name] for name in ("user", "item", "rating"))
    _sequential(users[:100], items[:100], values[:100], *_vectors())
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Checkpointing(f"{scratch}/c", interval=checkpoint_every_s) if checkpoint_every_s else None
        env = StreamEnvironment("mf", checkpoint=checkpoint, workers=workers, batch_size=32768)
        source = GeneratorSource(stored_ratings, count=records, schema=rating_schema())
        learn(env, source, Hyperparameters(), f"{scratch}/out", report_every=1_000_000)
        started = time.perf_counter()
        result = env.execute()
        seconds = time.perf_counter() - started
        curve = max(read_jsonl(f"{scratch}/out/rmse"), key=lambda line: line["ratings"])
    started, vectors = time.perf_counter(), _vectors()
    squared = sum(_sequential(users, items, values, *vectors) for _ in range(passes))
    limit_s = time.perf_counter() - started
    wanted = float(np.sqrt(squared / records))
    correct = curve["ratings"] == records and curve["rmse"] < 1.01 * wanted
    note = f"RMSE {curve['rmse']:.4f}, sequential {wanted:.4f}, {result.checkpoints} checkpoints"
    return Measured(records, seconds, limit_s, correct, note)


def _vectors() -> tuple[Any, Any]:
    chance = np.random.default_rng(1)
    return (
        np.append(chance.uniform(-0.1, 0.1, (6000, 10)), np.zeros((6000, 1)), 1).astype(np.float32),
        np.append(chance.uniform(-0.1, 0.1, (3700, 10)), np.zeros((3700, 1)), 1).astype(np.float32),
    )


@numba.njit(cache=True)
def _sequential(users: Any, items: Any, ratings: Any, p: Any, q: Any) -> Any:
    step, l2, mean, squared = np.float32(0.05), np.float32(0.05), np.float32(3.6), 0.0
    k = p.shape[1] - 1
    for n in range(len(users)):
        u, i = users[n], items[n]
        error = ratings[n] - mean - p[u, k] - q[i, k]
        for j in range(k):
            error -= p[u, j] * q[i, j]
        squared += np.float64(error) ** 2
        for j in range(k):
            a, b = p[u, j], q[i, j]
            p[u, j] = a + step * (error * b - l2 * a)
            q[i, j] = b + step * (error * a - l2 * b)
        p[u, k] += step * (error - l2 * p[u, k])
        q[i, k] += step * (error - l2 * q[i, k])
    return squared


def flat_cost(records: int = 50_000_000) -> Measured:
    """Keyed running counts over 50 M records: memory and cost per record at the end against the beginning."""
    marks: list[tuple[int, float, int]] = []
    with tempfile.TemporaryDirectory() as scratch:
        env = StreamEnvironment("flat")
        source = GeneratorSource(partial(_marked, marks), count=records, schema=READING)
        env.source(source).key_by("sensor").count().sink(TotalSink(f"{scratch}/t", "count"))
        seconds = _timed(env.execute)
        count, _ = _read_totals(f"{scratch}/t")
    fifth = records // 5
    at = {part: min((m for m in marks if m[0] >= part * fifth), default=marks[-1]) for part in range(1, 6)}
    early = (at[2][1] - at[1][1]) / (at[2][0] - at[1][0])
    late = (at[5][1] - at[4][1]) / (at[5][0] - at[4][0])
    note = (
        f"ns per record: {early * 1e9:.0f} in the second fifth, {late * 1e9:.0f} in the last; "
        f"resident MiB: {at[1][2] >> 20} after the first fifth, {at[5][2] >> 20} at the end"
    )
    return Measured(records, seconds, None, count == records, note)


def _marked(marks: list[tuple[int, float, int]], start: int, stop: int) -> Columns:
    if not marks or start - marks[-1][0] >= 1_000_000:
        marks.append((start, time.perf_counter(), _resident_bytes()))
    return readings(start, stop)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _timed(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def all_workloads() -> Iterator[tuple[str, int, Callable[[], Measured]]]:
    """(name, workers, run)."""
    yield "columns chain", 1, columns_chain
    yield "rows chain of lambdas", 1, rows_chain
    yield "W3 EWMA on untyped rows", 1, rows_ewma
    yield "keyed count", 2, keyed_count
    yield "online MF loop", 1, online_mf
    yield "online MF loop, checkpoint every second", 1, partial(online_mf, checkpoint_every_s=1.0)
    yield "online MF loop on two workers", 2, partial(online_mf, 2, None, 2)
    yield "50 M records, keyed running count", 1, flat_cost
