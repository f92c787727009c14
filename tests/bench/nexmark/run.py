"""Measures Nexmark on one worker: `python -m tests.bench.nexmark.run [--events 5] [--only q5]`.

A rate is of the events of the kinds that a query reads, from `execute` to the job's end, making them included. The
limit is to make the same events without an engine, and polars' query over them, once they are in memory.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from streamcore import StreamEnvironment
from tests.bench.nexmark.digest import Digest, DigestSink
from tests.bench.nexmark.expected import expected, load
from tests.bench.nexmark.generator import EVERY, Nexmark
from tests.bench.nexmark.queries import QUERIES, build

BATCH = 8192
MILLIONS = 5
"""Events of the kinds that a query reads."""


def rows(millions: float = MILLIONS, runs: int = 3, only: str = "") -> list[dict[str, Any]]:
    """One object per query, as in build/bench.json: the median of some runs, after a short one that compiles."""
    return [row(name, millions, runs) for name in QUERIES if only in name]


def row(name: str, millions: float = MILLIONS, runs: int = 3) -> dict[str, Any]:
    """The object of one query."""
    query = QUERIES[name]
    share = sum(map(Nexmark(EVERY).count_of, query.reads))
    events = Nexmark(round(millions * 1e6 / share) * EVERY)
    measure(name, Nexmark(50_000))
    limit_s, right = limit(name, events)
    measured = [measure(name, events) for _ in range(runs)]
    seconds = statistics.median(seconds for seconds, _ in measured)
    count = sum(map(events.count_of, query.reads))
    return {
        "workload": f"Nexmark {name}",
        "engine": "streamcore",
        "workers": 1,
        "input": "generated",
        "rows": count,
        "records_per_s": count / seconds,
        "ratio_to_limit": limit_s / seconds,
        "correct": all(digest == right for _, digest in measured),
        "peak_mib": None,
        "start_s": None,
        "note": f"{query.title}; {count / 1e6:.1f} M {' and '.join(query.reads)}",
    }


def measure(name: str, events: Nexmark) -> tuple[float, str]:
    """The seconds of a whole job, and the digest of its results."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "digest")
        env = StreamEnvironment(f"nexmark-{name}")
        build(name, env, events).sink(DigestSink(str(path)))
        started = time.perf_counter()
        env.execute()
        return time.perf_counter() - started, path.read_text()


def limit(name: str, events: Nexmark) -> tuple[float, str]:
    """The seconds that the same takes without an engine, and the digest of the right results."""
    frames = load(name, events)
    started = time.perf_counter()
    for kind in QUERIES[name].reads:
        make_all(events, kind)
    results = expected(name, frames)
    seconds = time.perf_counter() - started
    digest = Digest()
    digest.add({column.name: _array(column) for column in results})
    return seconds, str(digest)


def make_all(events: Nexmark, kind: str) -> None:
    """Makes all events of a kind in batches of the engine's size, and forgets them."""
    make, count = getattr(events, kind), events.count_of(kind)
    for start in range(0, count, BATCH):
        make(start, min(start + BATCH, count))


def _array(column: pl.Series) -> Any:
    if column.dtype.is_numeric():
        return column.to_numpy()
    array = column.cast(pl.String).to_arrow()
    return array.cast(pa.large_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=float, default=MILLIONS, help="millions of events")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print(f"{'workload':12} {'M events/s':>10} {'of the limit':>12}  right")
    for name in (name for name in QUERIES if options.only in name):
        made = row(name, options.events, options.runs)
        rate, ratio = f"{made['records_per_s'] / 1e6:.2f}", f"{made['ratio_to_limit']:.2f}"
        print(f"{made['workload']:12} {rate:>10} {ratio:>12}  {made['correct']}  {made['note']}", flush=True)


if __name__ == "__main__":
    main()
