"""streamcore alone against bare loops in the same process tree, and river beside the online MF loop.

Workloads plug in here: into SOURCES as a function that yields (name, workers, run), where `run` returns `Measured`
(figures besides the rate go into `Measured.facts`), or, with a harness of their own, into SUITES as one that gives
rows of bench.json.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench import card_rate, exchange, latency, sessions, sliding, snapshot_cost, workloads
from tests.bench.data import FOLDER
from tests.bench.environments import NotInstallableError, python_of
from tests.bench.nexmark.run import rows as nexmark_rows
from tests.bench.processes import EngineError, EngineProcess
from tests.bench.workloads import Measured, ratings

SOURCES: Sequence[Callable[[], Iterator[tuple[str, int, Callable[[], Measured]]]]] = (
    workloads.all_workloads,
    exchange.all_workloads,
    snapshot_cost.all_workloads,
    sessions.all_workloads,
    sliding.all_workloads,
)
QUICK = (sliding.all_workloads,)
"""Those of `make bench-quick`: each takes seconds."""
SUITES: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "latency": lambda _: latency.measure(),
    "fraud": lambda _: card_rate.measure(),
    "Nexmark": lambda runs: nexmark_rows(runs=runs),
}
RIVER_WORKLOAD = "online MF loop"
RIVER_RATINGS = 100_000


def run_own(only: str, runs: int, *, quick: bool = False) -> Iterator[dict[str, Any]]:
    """The rows of bench.json, workloads in turn, `runs` times after one turn that compiles and warms up."""
    chosen = [
        entry for source in (QUICK if quick else SOURCES) for entry in source() if only.lower() in entry[0].lower()
    ]
    measured: dict[str, list[Measured]] = {name: [] for name, _, _ in chosen}
    for turn in range(runs + 1):
        for name, _, run in chosen:
            result = run()
            if turn:
                measured[name].append(result)
                print(f"  {name}: {result.records / result.seconds / 1e6:.2f} M/s {result.note}", flush=True)
    for name, workers, _ in chosen:
        yield row(name, workers, measured[name])
    if cost := checkpoint_cost(measured):
        print(cost)
    for name, suite in SUITES.items() if not quick else ():
        if only.lower() in name.lower():
            print(f"  {name}", flush=True)
            yield from suite(runs)


def row(name: str, workers: int, runs: list[Measured]) -> dict[str, Any]:
    """One row of bench.json: medians of the runs."""
    ratios = [run.limit_s / run.seconds for run in runs if run.limit_s is not None]
    return {
        "workload": name,
        "engine": "streamcore",
        "workers": workers,
        "input": "generated",
        "rows": runs[-1].records,
        "records_per_s": statistics.median(run.records / run.seconds for run in runs),
        "ratio_to_limit": statistics.median(ratios) if ratios else None,
        "correct": all(run.correct for run in runs),
        "peak_mib": None,
        "start_s": None,
        "note": runs[-1].note,
        **{fact: statistics.median(run.facts[fact] for run in runs) for fact in runs[-1].facts},
    }


def checkpoint_cost(measured: dict[str, list[Measured]]) -> str:
    """What a checkpoint every second leaves of the online MF loop's throughput."""
    plain, saved = measured.get("online MF loop"), measured.get("online MF loop, checkpoint every second")
    if not plain or not saved:
        return ""
    ratio = statistics.median(a.seconds / b.seconds for a, b in zip(plain, saved, strict=True))
    return f"online MF throughput with a checkpoint every second: {ratio:.3f} of that without"


def run_river(runs: int, scratch: Path) -> dict[str, Any]:
    """river's BiasedMF on ratings of the same kind; right is who predicts better than their mean does."""
    result: dict[str, Any] = {
        "workload": RIVER_WORKLOAD, "engine": "river", "workers": 1, "input": "generated", "rows": RIVER_RATINGS,
        "records_per_s": None, "ratio_to_limit": None, "correct": False, "peak_mib": None, "start_s": None, "note": "",
    }  # fmt: skip
    path, output = FOLDER / f"ratings-{RIVER_RATINGS}.csv", scratch / "river"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = ratings(0, RIVER_RATINGS)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows((r.user, r.item, r.rating) for r in data.to_rows())
    try:
        python = str(python_of("river"))
    except NotInstallableError as error:
        return result | {"note": str(error)}
    options = ["--workload", "online-mf", "--paths", str(path), "--rows", str(RIVER_RATINGS), "--output", str(output)]
    process = EngineProcess([python, "-m", "tests.bench.peers.river_jobs", *options], {}, scratch / "river.log", 300)
    try:
        ready = process.ready()
        seconds = statistics.median(process.run()["seconds"] for _ in range(runs))
        rmse = float((output / "result.csv").read_text())
        facts = {"records_per_s": RIVER_RATINGS / seconds, "peak_mib": process.peak_mib, "start_s": ready["start_s"]}
        return result | facts | {"correct": rmse < float(data["rating"].std()), "note": f"BiasedMF, RMSE {rmse:.4f}"}
    except EngineError as error:
        return result | {"note": str(error)}
    finally:
        process.close()
