"""streamcore's side of the compared workloads; the protocol is that of the peers."""

from __future__ import annotations

import time

STARTED = time.perf_counter()

from collections.abc import Callable, Sequence  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

import numpy as np  # noqa: E402

from streamcore import (  # noqa: E402
    Columns,
    DataStream,
    StreamEnvironment,
    Windows,
    bounded_out_of_orderness,
    col,
    count,
    mean,
    milliseconds,
    seconds,
    sliding,
    tumbling,
)
from streamcore.connectors.base import Batch, Sink, SinkContext, SinkWriter  # noqa: E402
from streamcore.connectors.csv_source import CsvSource  # noqa: E402
from streamcore.connectors.file_sink import FileSink  # noqa: E402
from streamcore.connectors.parquet_source import ParquetSource  # noqa: E402
from streamcore.operators.top_k import top_k  # noqa: E402
from tests.bench.data import SENSOR_DISORDER_MS, SENSORS, WORD_DISORDER_MS  # noqa: E402
from tests.bench.peers.protocol import Job, Run, Task, serve, write_csv  # noqa: E402


@dataclass
class Word:
    """A line of `words`."""

    word: str


@dataclass
class TimedWord:
    """A line of `timed-words`; event time in ms."""

    time: int
    word: str


@dataclass
class Reading:
    """A line of `sensors`; event time in ms."""

    sensor: int
    time: int
    value: float


@dataclass
class Alert:
    """A reading's sensor, the mean after it, and whether it was far from that."""

    sensor: int
    mean: float
    alert: bool


@dataclass
class Fahrenheit:
    """A reading, converted."""

    value: float


class Ewma(NamedTuple):
    """A sensor's state."""

    mean: float
    seen: int


def step(state: Ewma, reading: Reading) -> tuple[Ewma, Alert]:
    """One record of the EWMA, as a user writes it."""
    mean = 0.1 * reading.value + 0.9 * state.mean if state.seen else reading.value
    return Ewma(mean, 1), Alert(reading.sensor, mean, abs(reading.value - mean) > 3.0)


def to_fahrenheit(reading: Reading) -> Fahrenheit:
    """One record of the map, as a user writes it."""
    return Fahrenheit(reading.value * 9 / 5 + 32)


def source(task: Task, schema: type) -> Any:
    """The task's files as a source; one file is read in parts."""
    splits = task.workers if len(task.paths) == 1 else 1
    if task.kind == "parquet":
        return ParquetSource(task.paths, schema, splits=splits)
    return CsvSource(task.paths, schema, splits=splits)


def environment(task: Task) -> StreamEnvironment:
    """The environment of a run."""
    return StreamEnvironment(task.workload, workers=task.workers)


def word_count(task: Task) -> Run:
    """Counts per word, once at the end."""
    env = environment(task)
    env.source(source(task, Word)).key_by("word").count(emit="final").sink(parquet(task))
    return execute(env)


def windowed(task: Task, windows: Windows) -> Run:
    """Mean and count per sensor and window of event time."""
    env = environment(task)
    disorder = bounded_out_of_orderness("time", milliseconds(SENSOR_DISORDER_MS))
    readings = env.source(source(task, Reading), watermarks=disorder)
    means = readings.key_by("sensor").window(windows).aggregate(mean=mean("value"), count=count())
    renamed(means, "sensor", start="window_start", mean="mean", count="count").sink(parquet(task))
    return execute(env)


def trending(task: Task) -> Run:
    """The ten most frequent words of each 10 s of event time."""
    env = environment(task)
    disorder = bounded_out_of_orderness("time", milliseconds(WORD_DISORDER_MS))
    words = env.source(source(task, TimedWord), watermarks=disorder)
    counts = words.key_by("word").window(tumbling(seconds(10))).aggregate(count())
    renamed(top_k(counts, 10, "count"), "word", start="window_start", count="count").sink(parquet(task))
    return execute(env)


def renamed(stream: DataStream[Any], *same: str, **others: str) -> DataStream[Any]:
    """The fields of the common form."""
    return stream.select(*same, **{name: col(field) for name, field in others.items()})


def parquet(task: Task) -> FileSink:
    """The result as Parquet files."""
    return FileSink(task.output, "parquet", "replace")


def ewma(task: Task) -> Run:
    """A running computation per key by a Python function of state and record; two gateways, so keys keep order."""
    env = environment(task)
    alerts = env.source(source(task, Reading)).key_by("sensor").scan(Ewma(0.0, 0), step, returns=Alert)
    alerts.sink(AlertTotals(str(task.output)))
    return execute(env)


def python_map(task: Task) -> Run:
    """A Python function of one record."""
    env = environment(task)
    values = env.source(source(task, Reading)).map(to_fahrenheit, returns=Fahrenheit)
    values.sink(ValueTotals(str(task.output / "parts")))
    return execute(env, lambda: merge_values(task.output))


def execute(env: StreamEnvironment, tidy: Callable[[], None] | None = None) -> Run:
    """Runs the job. Planning (which looks for the parts of a file) counts; starting and stopping workers does not."""
    started = time.perf_counter()
    result = env.execute()
    planning_s = time.perf_counter() - started - result.duration_s
    return Run(planning_s + result.start_s + result.run_s, result.start_s, tidy)


class AlertTotals(Sink[Alert]):
    """Number of alerts and sum of means per sensor, one CSV file per subtask."""

    accepts = "columns"

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def writer(self, context: SinkContext) -> SinkWriter:
        return _AlertTotalsWriter(Path(self.folder, f"{context.subtask}.csv"))


class _AlertTotalsWriter(SinkWriter):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = np.zeros(SENSORS, np.bool_)
        self._alerts, self._totals = np.zeros(SENSORS, np.int64), np.zeros(SENSORS)

    def write(self, batch: Batch) -> None:
        assert isinstance(batch, Columns), "this sink accepts columns"
        sensor = batch["sensor"]
        self._seen[sensor] = True
        self._alerts += np.bincount(sensor[batch["alert"]], minlength=SENSORS)
        self._totals += np.bincount(sensor, batch["mean"], SENSORS)

    def close(self) -> None:
        seen = np.flatnonzero(self._seen)
        write_csv(self._path, zip(seen.tolist(), self._alerts[seen].tolist(), self._totals[seen].tolist(), strict=True))


class ValueTotals(Sink[Fahrenheit]):
    """Count, sum, least and most of a column, one file per subtask."""

    accepts = "columns"

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def writer(self, context: SinkContext) -> SinkWriter:
        return _ValueTotalsWriter(Path(self.folder, str(context.subtask)))


class _ValueTotalsWriter(SinkWriter):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: list[Sequence[float]] = []

    def write(self, batch: Batch) -> None:
        assert isinstance(batch, Columns), "this sink accepts columns"
        value = batch["value"]
        self._parts.append((len(value), float(value.sum()), float(value.min()), float(value.max())))

    def close(self) -> None:
        self._path.parent.mkdir(exist_ok=True)
        write_csv(self._path, self._parts)


def merge_values(output: Path) -> None:
    """The files of all subtasks as one line."""
    lines = [line.split(",") for path in (output / "parts").iterdir() for line in path.read_text().splitlines()]
    counts, sums, least, most = zip(*(map(float, line) for line in lines), strict=True)
    write_csv(output / "result.csv", [(int(sum(counts)), sum(sums), min(least), max(most))])


JOBS: dict[str, Job] = {
    "word-count": word_count,
    "tumbling": lambda task: windowed(task, tumbling(seconds(5))),
    "sliding": lambda task: windowed(task, sliding(seconds(5), every=seconds(1))),
    "ewma": ewma,
    "trending": trending,
    "python-map": python_map,
}

if __name__ == "__main__":
    serve(JOBS, version=version("streamcore"), started=STARTED, warm_up=True)
