"""`make bench` and `make bench-quick`: streamcore beside its peers, every result checked.

    python -m tests.bench.run [--only WORD] [--engines A,B] [--runs 3] [--rows 10000000] [--quick]

The processes of a workload are started and warmed up one after the other, and then take turns, so that a noisy moment
of the machine meets all of them. Rates are medians; the ratio to the limit is that of the same round, to polars on the
same kind of input. Rows of build/bench.json whose result is wrong, or whose engine failed, have `correct: false`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import data, report
from tests.bench.engines import ENGINES, POLARS, STREAMCORE, Engine, entries
from tests.bench.environments import NotInstallableError
from tests.bench.expected import difference
from tests.bench.own import RIVER_WORKLOAD, run_own, run_river
from tests.bench.processes import EngineError, EngineProcess
from tests.bench.workload import WORKLOADS, Workload

RESULTS = Path("build/bench.json")
SCRATCH = Path("build/bench-runs")
LIMIT_S = 300.0
ROWS = 10_000_000


@dataclass
class Entry:
    """One engine on one workload and one kind of input: its process, and what its runs have shown."""

    engine: Engine
    workload: Workload
    inputs: data.Inputs
    process: EngineProcess | None = None
    ready: dict[str, Any] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    peak_mib: float = 0.0
    problem: str = ""

    @property
    def kind(self) -> str:
        """csv or parquet."""
        return self.engine.kinds[0]

    @property
    def label(self) -> str:
        """For messages and file names."""
        return f"{self.workload.id}, {self.engine.name}, {self.kind}"

    @property
    def output(self) -> Path:
        """Where its process leaves the result."""
        return SCRATCH / self.label.replace(", ", "-").replace(" ", "-")

    def start(self) -> None:
        """Starts its process and waits until it is warm; a failure becomes the row's problem."""
        try:
            command = [*self.engine.command(), *self._options()]
            log = self.output.with_suffix(".log")
            log.parent.mkdir(parents=True, exist_ok=True)
            self.process = EngineProcess(command, self.engine.variables, log, LIMIT_S)
            self.ready = self.process.ready()
            print(f"  {self.label}: ready", flush=True)
        except (NotInstallableError, EngineError, OSError) as error:
            self._fail(str(error))

    def run(self) -> None:
        """One run, if it has not failed before, and its check."""
        if self.process is None or self.problem:
            return
        try:
            answer = self.process.run()
        except EngineError as error:
            self._fail(str(error))
            return
        start_s = answer["start_s"] or 0.0
        self.rates.append(self.inputs.rows / (answer["seconds"] - start_s))
        self.starts.append(start_s or self.ready["start_s"])
        self.peak_mib = max(self.peak_mib, self.process.peak_mib)
        if wrong := difference(self.workload, self.inputs, self.output):
            self._fail(f"WRONG: {wrong}")
        else:
            print(f"  {self.label}: {self.rates[-1] / 1e6:.3f} M/s", flush=True)

    def close(self) -> None:
        """Ends its process and removes what it wrote."""
        if self.process is not None:
            self.process.close()
        for folder in (self.output, self.output.with_name(f"{self.output.name}-input")):
            shutil.rmtree(folder, ignore_errors=True)

    def row(self, limit: Sequence[float]) -> dict[str, Any]:
        """Its row of bench.json; `limit` has the limit's rates of the same rounds."""
        ratios = [mine / best for mine, best in zip(self.rates, limit, strict=False)]
        is_right = bool(self.rates) and not self.problem
        return {
            "workload": self.workload.title,
            "engine": self.engine.name,
            "workers": self.engine.workers,
            "input": self.kind,
            "rows": self.inputs.rows,
            "records_per_s": statistics.median(self.rates) if is_right else None,
            "ratio_to_limit": statistics.median(ratios) if is_right and ratios else None,
            "correct": is_right,
            "peak_mib": round(self.peak_mib) if is_right else None,
            "start_s": round(statistics.median(self.starts), 3) if is_right else None,
            "first_run_s": self.ready.get("first_run_s"),
            "version": self.ready.get("version"),
            "note": self.problem or self.engine.note,
        }

    def _fail(self, problem: str) -> None:
        self.problem = problem
        print(f"  {self.label}: {problem}", flush=True)

    def _options(self) -> list[str]:
        options = {"--workload": [self.workload.id], "--kind": [self.kind], "--rows": [str(self.inputs.rows)]}
        options |= {"--workers": [str(self.engine.workers)], "--output": [str(self.output.absolute())]}
        for name, header in (("--paths", True), ("--plain-paths", False)):
            files = self.engine.files(self.workload.id)
            paths = self.inputs.paths(self.workload.data_set, self.kind, files=files, header=header)
            options[name] = [str(path.absolute()) for path in paths]
        return [word for name, values in options.items() for word in (name, *values)]


def compare(workload: Workload, engines: Sequence[Engine], rows: int, runs: int) -> Iterator[dict[str, Any]]:
    """The rows of one workload: all engines warm, then in turn."""
    print(f"{workload.title}", flush=True)
    chosen = [entry for engine in engines for entry in entries(engine, workload.id)]
    sizes = [min(rows, engine.workloads[workload.id] or rows) for engine in chosen]
    turn = [Entry(engine, workload, data.make(size)) for engine, size in zip(chosen, sizes, strict=True)]
    try:
        for entry in turn:
            entry.start()
        for _ in range(runs):
            for entry in turn:
                entry.run()
    finally:
        for entry in turn:
            entry.close()
    limits = {entry.kind: entry.rates for entry in turn if entry.engine.name == POLARS and not entry.problem}
    for entry in turn:
        yield entry.row(limits.get(entry.kind, ()))


def main() -> None:
    """Runs what was asked for, prints the table, and writes build/bench.json (and docs/benchmarks.md when all ran)."""
    options = _options()
    engines = [engine for engine in ENGINES if not options.engines or engine.name in options.engines]
    rows: list[dict[str, Any]] = []
    for workload in WORKLOADS:
        if options.only.lower() in f"{workload.id} {workload.title}".lower():
            rows.extend(compare(workload, engines, options.rows, options.runs))
            save(rows)
    if STREAMCORE in (engine.name for engine in engines):
        rows.extend(run_own(options.only, options.runs, quick=options.quick))
        if options.only.lower() in RIVER_WORKLOAD.lower() and not (options.engines or options.quick):
            rows.append(run_river(options.runs, SCRATCH))
        save(rows)
    print("\n" + report.table(rows))
    if not (options.quick or options.only or options.engines):
        report.write_page(rows, options.runs)


def save(rows: Sequence[dict[str, Any]]) -> None:
    """Writes build/bench.json."""
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="workloads with this word in the name")
    names = [engine.name for engine in ENGINES]
    parser.add_argument("--engines", type=lambda text: text.split(","), default=[], help=f"of: {', '.join(names)}")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=None, help="records of the input; peers that are slow get fewer")
    parser.add_argument("--quick", action="store_true", help="streamcore and polars alone")
    options = parser.parse_args()
    options.rows = options.rows or ROWS
    if unknown := [name for name in options.engines if name not in names]:
        parser.error(f"no such engine: {', '.join(unknown)}; there are: {', '.join(names)}")
    if options.quick:
        options.engines = options.engines or [STREAMCORE, POLARS]
    return options


if __name__ == "__main__":
    main()
