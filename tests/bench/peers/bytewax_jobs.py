"""bytewax, one worker (its workers are threads under one interpreter lock).

Lines are read and taken apart in batches (`flat_map_batch`), which is the fastest way bytewax has.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import collections  # noqa: E402
from collections.abc import Iterable  # noqa: E402
from datetime import UTC, datetime, timedelta  # noqa: E402
from importlib.metadata import version  # noqa: E402
from typing import Any  # noqa: E402

import bytewax.operators as op  # noqa: E402
import bytewax.operators.windowing as win  # noqa: E402
from bytewax.connectors.files import FileSource  # noqa: E402
from bytewax.dataflow import Dataflow  # noqa: E402
from bytewax.outputs import DynamicSink, StatelessSinkPartition  # noqa: E402
from bytewax.testing import run_main  # noqa: E402

from tests.bench.peers.protocol import Run, Task, serve, timed, write_csv  # noqa: E402

LINES_PER_BATCH = 8192
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Collect(DynamicSink[Any]):
    """Gives every batch to a function."""

    def __init__(self, take: Any) -> None:
        self.take = take

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[Any]:
        return _Taker(self.take)


class _Taker(StatelessSinkPartition[Any]):
    def __init__(self, take: Any) -> None:
        self.take = take

    def write_batch(self, items: list[Any]) -> None:
        self.take(items)


def lines(flow: Dataflow, task: Task) -> Any:
    return op.input("lines", flow, FileSource(task.plain_paths[0], batch_size=LINES_PER_BATCH))


def split_readings(batch: list[str]) -> Iterable[tuple[str, float]]:
    fields = [line.split(",") for line in batch]
    return [(sensor, float(value)) for sensor, _, value in fields]


def split_timed(batch: list[str]) -> Iterable[tuple[str, tuple[datetime, float]]]:
    fields = [line.split(",") for line in batch]
    return [(sensor, (EPOCH + timedelta(milliseconds=int(time)), float(value))) for sensor, time, value in fields]


def word_count(task: Task) -> Run:
    counted: list[tuple[str, int]] = []
    flow = Dataflow("words")
    counts = op.count_final("count", lines(flow, task), lambda word: word)
    op.output("out", counts, Collect(counted.extend))

    def run() -> None:
        run_main(flow)
        write_csv(task.output / "result.csv", counted)

    return Run(timed(run))


def windows(task: Task, windower: Any, every_ms: int) -> Run:
    results: list[tuple[str, tuple[int, tuple[float, int]]]] = []
    # its watermarks also move with the machine's clock, which would make records late on a slow machine
    clock = win.EventClock(
        ts_getter=lambda item: item[0], wait_for_system_duration=timedelta(seconds=5), now_getter=lambda: EPOCH
    )
    flow = Dataflow("windows")
    keyed = op.flat_map_batch("split", lines(flow, task), split_timed)
    folded = win.fold_window(
        "mean",
        keyed,
        clock,
        windower,
        builder=lambda: (0.0, 0),
        folder=lambda acc, item: (acc[0] + item[1], acc[1] + 1),
        merger=lambda a, b: (a[0] + b[0], a[1] + b[1]),
    )
    op.output("out", folded.down, Collect(results.extend))

    def run() -> None:
        run_main(flow)
        rows = ((sensor, number * every_ms, total / count, count) for sensor, (number, (total, count)) in results)
        write_csv(task.output / "result.csv", rows)

    return Run(timed(run))


def tumbling(task: Task) -> Run:
    return windows(task, win.TumblingWindower(length=timedelta(seconds=5), align_to=EPOCH), 5_000)


def sliding(task: Task) -> Run:
    windower = win.SlidingWindower(length=timedelta(seconds=5), offset=timedelta(seconds=1), align_to=EPOCH)
    return windows(task, windower, 1_000)


def step(mean: float | None, value: float) -> tuple[float, tuple[float, bool]]:
    mean = value if mean is None else 0.1 * value + 0.9 * mean
    return mean, (mean, abs(value - mean) > 3.0)


def ewma(task: Task) -> Run:
    alerts: dict[str, int] = collections.defaultdict(int)
    totals: dict[str, float] = collections.defaultdict(float)

    def add(items: list[tuple[str, tuple[float, bool]]]) -> None:
        for sensor, (mean, is_alert) in items:
            alerts[sensor] += is_alert
            totals[sensor] += mean

    flow = Dataflow("ewma")
    keyed = op.flat_map_batch("split", lines(flow, task), split_readings)
    op.output("out", op.stateful_map("ewma", keyed, step), Collect(add))

    def run() -> None:
        run_main(flow)
        write_csv(task.output / "result.csv", ((sensor, alerts[sensor], totals[sensor]) for sensor in totals))

    return Run(timed(run))


def to_fahrenheit(celsius: float) -> float:
    return celsius * 9 / 5 + 32


def python_map(task: Task) -> Run:
    parts: list[tuple[int, float, float, float]] = []

    def add(items: list[float]) -> None:
        parts.append((len(items), sum(items), min(items), max(items)))

    flow = Dataflow("map")
    values = op.flat_map_batch("split", lines(flow, task), lambda batch: [float(line.split(",")[2]) for line in batch])
    op.output("out", op.map("fahrenheit", values, to_fahrenheit), Collect(add))

    def run() -> None:
        run_main(flow)
        counts, sums, least, most = zip(*parts, strict=True)
        write_csv(task.output / "result.csv", [(sum(counts), sum(sums), min(least), max(most))])

    return Run(timed(run))


if __name__ == "__main__":
    jobs = {"word-count": word_count, "tumbling": tumbling, "sliding": sliding, "ewma": ewma, "python-map": python_map}
    serve(jobs, version=version("bytewax"), started=STARTED)
