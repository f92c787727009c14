"""Plain Python with the csv module: what a user would write without an engine, in one thread."""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import collections  # noqa: E402
import csv  # noqa: E402
import platform  # noqa: E402
from collections.abc import Iterator  # noqa: E402

from tests.bench.peers.protocol import Run, Task, serve, write_csv  # noqa: E402


def records(task: Task) -> Iterator[list[str]]:
    for path in task.plain_paths:
        with open(path, newline="") as file:  # noqa: PTH123
            yield from csv.reader(file)


def to_fahrenheit(celsius: float) -> float:
    return celsius * 9 / 5 + 32


def word_count(task: Task) -> Run:
    started = time.perf_counter()
    counts = collections.Counter(word for (word,) in records(task))
    write_csv(task.output / "result.csv", counts.items())
    return Run(time.perf_counter() - started)


def ewma(task: Task) -> Run:
    started = time.perf_counter()
    means: dict[str, float] = {}
    alerts: dict[str, int] = collections.defaultdict(int)
    totals: dict[str, float] = collections.defaultdict(float)
    for sensor, _, text in records(task):
        value = float(text)
        means[sensor] = mean = 0.1 * value + 0.9 * means[sensor] if sensor in means else value
        alerts[sensor] += abs(value - mean) > 3.0
        totals[sensor] += mean
    write_csv(task.output / "result.csv", ((sensor, alerts[sensor], totals[sensor]) for sensor in means))
    return Run(time.perf_counter() - started)


def python_map(task: Task) -> Run:
    started = time.perf_counter()
    values = [to_fahrenheit(float(text)) for _, _, text in records(task)]
    write_csv(task.output / "result.csv", [(len(values), sum(values), min(values), max(values))])
    return Run(time.perf_counter() - started)


if __name__ == "__main__":
    serve(
        {"word-count": word_count, "ewma": ewma, "python-map": python_map},
        version=platform.python_version(),
        started=STARTED,
    )
