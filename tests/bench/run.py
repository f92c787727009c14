"""`make bench`: runs every workload several times in turn and writes medians to build/bench.json.

    python -m tests.bench.run [--runs 3] [--only NAME]

Ratios are to the bare loop of the same run, since machines are noisy: 1.0 is the bare loop's speed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from pathlib import Path
from typing import Any

from tests.bench.workloads import Measured, all_workloads, ratings

RESULTS = Path("build/bench.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    workloads = [entry for entry in all_workloads() if options.only in entry[0]]
    measured: dict[str, list[Measured]] = {name: [] for name, _, _ in workloads}
    for turn in range(options.runs + 1):  # the first turn compiles and warms up
        for name, _, run in workloads:
            result = run()
            if turn:
                measured[name].append(result)
                print(f"  {name}: {result.records / result.seconds / 1e6:.2f} M/s {result.note}", flush=True)
    rows = [_row(name, workers, measured[name]) for name, workers, _ in workloads]
    if not options.only and (river := _river()):
        rows.append(river)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1))
    print(f"\n{'workload':42} {'workers':>7} {'M records/s':>12} {'of the bare loop':>17}  right")
    for row in rows:
        ratio = f"{row['ratio_to_limit']:.3f}" if row["ratio_to_limit"] is not None else ""
        rate = f"{row['records_per_s'] / 1e6:.2f}" if row["correct"] else "wrong"
        print(f"{row['workload']:42} {row['workers']:7} {rate:>12} {ratio:>17}  {row['correct']}  {row['note']}")
    _print_checkpoint_cost(measured)


def _row(name: str, workers: int, runs: list[Measured]) -> dict[str, Any]:
    return {
        "workload": name,
        "engine": "streamcore",
        "workers": workers,
        "input": "generated",
        "records_per_s": statistics.median(run.records / run.seconds for run in runs),
        "ratio_to_limit": _ratio(runs),
        "correct": all(run.correct for run in runs),
        "note": runs[-1].note,
    }


def _ratio(runs: list[Measured]) -> float | None:
    ratios = [run.limit_s / run.seconds for run in runs if run.limit_s is not None]
    return statistics.median(ratios) if ratios else None


def _print_checkpoint_cost(measured: dict[str, list[Measured]]) -> None:
    plain, saved = measured.get("online MF loop"), measured.get("online MF loop, checkpoint every second")
    if plain and saved:
        ratio = statistics.median(a.seconds / b.seconds for a, b in zip(plain, saved, strict=True))
        print(f"online MF throughput with a checkpoint every second: {ratio:.3f} of that without")


def _river() -> dict[str, Any] | None:
    """river's BiasedMF on ratings of the same kind, where river is installed."""
    if importlib.util.find_spec("river") is None:
        return None
    from river import reco

    model = reco.BiasedMF(n_factors=10)
    rows = ratings(0, 100_000).to_rows()
    started = time.perf_counter()
    for row in rows:
        model.predict_one(row.user, row.item)
        model.learn_one(row.user, row.item, row.rating)
    rate = len(rows) / (time.perf_counter() - started)
    return {
        "workload": "online MF, river's BiasedMF", "engine": "river", "workers": 1, "input": "generated",
        "records_per_s": rate, "ratio_to_limit": None, "correct": True, "note": "",
    }  # fmt: skip


if __name__ == "__main__":
    main()
