"""Pathway on two threads (PATHWAY_THREADS, set by the harness), static inputs: a run ends when the files do."""

from __future__ import annotations

import os
import time

STARTED = time.perf_counter()
os.environ.setdefault("PATHWAY_PROGRESS_DISABLE", "1")

from collections.abc import Callable  # noqa: E402

import pandas as pd  # noqa: E402
import pathway as pw  # noqa: E402
from pathway.internals.parse_graph import G  # noqa: E402

from tests.bench.peers.protocol import Job, Run, Task, serve  # noqa: E402


class Word(pw.Schema):
    word: str


class Reading(pw.Schema):
    sensor: int
    time: int
    value: float


def job(schema: type[pw.Schema], transform: Callable[[pw.Table], pw.Table]) -> Job:
    def run(task: Task) -> Run:
        G.clear()
        started = time.perf_counter()
        records = pw.io.csv.read(task.first, schema=schema, mode="static")
        result = transform(records)
        raw = task.output / "raw"
        pw.io.csv.write(result, str(raw))
        pw.run(monitoring_level=pw.MonitoringLevel.NONE)
        seconds = time.perf_counter() - started

        def tidy() -> None:
            columns = list(result.column_names())
            frame = pd.read_csv(raw, keep_default_na=False)[columns]
            frame.to_csv(task.output / "result.csv", header=False, index=False)

        return Run(seconds, tidy=tidy)

    return run


def word_count(words: pw.Table) -> pw.Table:
    return words.groupby(words.word).reduce(words.word, count=pw.reducers.count())


def windows(window: pw.temporal.Window) -> Callable[[pw.Table], pw.Table]:
    def transform(readings: pw.Table) -> pw.Table:
        return readings.windowby(readings.time, window=window, instance=readings.sensor).reduce(
            sensor=pw.this._pw_instance,
            start=pw.this._pw_window_start,
            mean=pw.reducers.avg(pw.this.value),
            count=pw.reducers.count(),
        )

    return transform


@pw.udf
def to_fahrenheit(celsius: float) -> float:
    return celsius * 9 / 5 + 32


def python_map(readings: pw.Table) -> pw.Table:
    mapped = readings.select(x=to_fahrenheit(readings.value))
    return mapped.reduce(
        count=pw.reducers.count(),
        total=pw.reducers.sum(mapped.x),
        least=pw.reducers.min(mapped.x),
        most=pw.reducers.max(mapped.x),
    )


if __name__ == "__main__":
    jobs = {
        "word-count": job(Word, word_count),
        "tumbling": job(Reading, windows(pw.temporal.tumbling(duration=5_000, origin=0))),
        "sliding": job(Reading, windows(pw.temporal.sliding(hop=1_000, duration=5_000, origin=0))),
        "python-map": job(Reading, python_map),
    }
    serve(jobs, version=pw.__version__, started=STARTED)
