"""How the harness talks to an engine's process; only the standard library, since every engine has its own Python.

The process is started once per workload with the options below. It makes itself ready (starts its engine, compiles,
does a run to warm up where `warm_up` says so) and prints, after `@bench `, `{"ready": true, "start_s": …,
"first_run_s": …, "version": …}`. Then for each line `run` on its standard input it does the whole job once and prints
`{"seconds": …, "start_s": …}`, or `{"error": …}`. So engines stay warm while others take their turn. At the end of its
input it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """What a process is to do."""

    workload: str
    kind: str  # csv or parquet
    paths: list[str]
    plain_paths: list[str]  # the same without header, for engines that can't skip one; the same paths for parquet
    rows: int
    workers: int
    output: Path

    @property
    def first(self) -> str:
        return self.paths[0]


@dataclass
class Run:
    """What a run reports: seconds of the whole job, of which its start (None: can't be told apart)."""

    seconds: float
    start_s: float | None = None
    tidy: Callable[[], None] | None = None  # brings the result into the common form; not timed


Job = Callable[[Task], Run]


def parse_task(arguments: Sequence[str] | None = None) -> Task:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", required=True)
    parser.add_argument("--kind", default="csv")
    parser.add_argument("--paths", nargs="+", required=True)
    parser.add_argument("--plain-paths", nargs="+", default=[])
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    options.plain_paths = options.plain_paths or options.paths
    return Task(**vars(options))


def serve(jobs: dict[str, Job], *, version: str, warm_up: bool = False, started: float) -> None:
    """Answers the harness until its input ends. `started`: time.perf_counter() at the script's first line."""
    task = parse_task()
    try:
        job = jobs[task.workload]
        start_s = time.perf_counter() - started
        first_run_s = _run(job, task).seconds if warm_up else None
        say(ready=True, start_s=start_s, first_run_s=first_run_s, version=version)
        for line in sys.stdin:
            if line.strip() == "run":
                run = _run(job, task)
                say(seconds=run.seconds, start_s=run.start_s)
    except Exception as error:  # noqa: BLE001 - whatever an engine throws is a row of the table
        traceback.print_exc()
        say(error=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")
        sys.stdout.flush()
        os._exit(1)  # engines leave threads behind


def _run(job: Job, task: Task) -> Run:
    shutil.rmtree(task.output, ignore_errors=True)
    task.output.mkdir(parents=True)
    run = job(task)
    if run.tidy is not None:
        run.tidy()
    return run


def say(**facts: object) -> None:
    print("@bench " + json.dumps(facts), flush=True)


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Rows as CSV without header; floats so that they read back the same."""
    with path.open("w") as file:
        file.writelines(",".join(map(str, row)) + "\n" for row in rows)
