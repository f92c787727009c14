"""polars over the whole file at once: the limit that a stream processor is measured by. Two threads, read included.

For the EWMA the limit is a numba loop over columns that polars has read. `python-map` has two rivals here: the
expression (the limit) under `polars`, and `map_elements` under `polars map_elements` (PER_ELEMENT=1).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

STARTED = time.perf_counter()

import polars as pl  # noqa: E402

from tests.bench.expected import ANSWERS, scan  # noqa: E402
from tests.bench.peers.protocol import Job, Run, Task, serve  # noqa: E402


def answer(task: Task) -> Run:
    started = time.perf_counter()
    frame = ANSWERS[task.workload](scan([Path(path) for path in task.paths]))
    frame.write_parquet(task.output / "result.parquet")
    return Run(time.perf_counter() - started)


def to_fahrenheit(celsius: float) -> float:
    return celsius * 9 / 5 + 32


def map_elements(task: Task) -> Run:
    started = time.perf_counter()
    values = scan([Path(path) for path in task.paths]).select("value").collect()["value"]
    value = values.map_elements(to_fahrenheit, return_dtype=pl.Float64)
    result = {"count": [len(value)], "total": [value.sum()], "least": [value.min()], "most": [value.max()]}
    pl.DataFrame(result).write_parquet(task.output / "result.parquet")
    return Run(time.perf_counter() - started)


if __name__ == "__main__":
    jobs: dict[str, Job] = dict.fromkeys(ANSWERS, answer)
    if os.environ.get("PER_ELEMENT"):
        jobs = {"python-map": map_elements}
    serve(jobs, version=pl.__version__, started=STARTED, warm_up=True)
