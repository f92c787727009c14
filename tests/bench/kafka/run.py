"""Speeds with a real broker on the same machine, as ratios to bare client loops in the same run.

    python -m tests.bench.kafka.run source sink typed      # seconds each
    python -m tests.bench.kafka.run mf --ratings 30000000  # minutes: fills a topic of 12 partitions first

`mf` is the reference's experiment: the time that the main job takes for X ratings, X growing, beside the same app run
as mini-batches of five seconds, which start, take up the model, learn, save it and end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kafka"))

from broker import Broker

PARTITIONS = 12
RECORDS = 2_000_000
POINTS = 10


class Bench:
    """A broker, and the jobs measured on it, each in a process of its own."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._topics = 0
        self.broker = Broker(scratch / "broker").start()

    def topic(self) -> str:
        """A new topic."""
        self._topics += 1
        return self.broker.create_topic(f"bench-{self._topics}", PARTITIONS)

    def run(self, job: str, topic: str, *options: object, directory: str = "") -> dict[str, Any]:
        """One run of one of `tests.bench.kafka.jobs`."""
        line = [sys.executable, "-m", "tests.bench.kafka.jobs", job, self.broker.servers, topic]
        line += [directory or tempfile.mkdtemp(dir=self._scratch), *map(str, options)]
        done = subprocess.run(line, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{job} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def compare(bench: Bench, name: str, job: str, bare: str, topics: tuple[str, str], runs: int, *options: object) -> None:
    """The job and the bare loop by turns; the first turn only warms up."""
    found: dict[str, list[dict[str, Any]]] = {job: [], bare: []}
    for _ in range(runs + 1):
        for which, topic in zip((bare, job), topics, strict=True):
            found[which].append(bench.run(which, topic, *options))
    (ours, ours_us), (theirs, theirs_us) = _summary(found[job][1:]), _summary(found[bare][1:])
    print(f"{name}: {ours:.2f} M/s, {ours_us:.2f} us of CPU a message", flush=True)
    print(f"  {bare}: {theirs:.2f} M/s, {theirs_us:.2f} us; ratio {ours / theirs:.2f}", flush=True)


def _summary(runs: list[dict[str, Any]]) -> tuple[float, float]:
    """Medians: million messages a second, microseconds of CPU a message."""
    rate = median(run["records"] / run["seconds"] for run in runs) / 1e6
    return rate, median(run["cpu_s"] / run["records"] for run in runs) * 1e6


def experiment(bench: Bench, ratings: int, workers: int, topic: str) -> None:
    """Time to process X ratings: long-running operators, and mini-batches."""
    found = bench.run("mf", topic, workers)
    rate = found["records"] / found["seconds"]
    print(f"online MF, {workers} workers: {ratings:,} ratings, {rate / 1e6:.2f} M/s after {found['start_s']:.1f} s")
    marks = [ratings * point // POINTS for point in range(1, POINTS + 1)]
    streaming = [_when(found["samples"], mark, found["seconds"]) for mark in marks]
    directory, spent, read = tempfile.mkdtemp(), 0.0, 0
    curve: list[tuple[float, int]] = []
    while read < ratings:
        batch = bench.run("mf_batch", topic, workers, directory=directory)
        spent, read = spent + batch["seconds"], read + batch["records"]
        curve.append((spent, read))
        if batch["ended"]:
            break
    batches = [_when(curve, mark, spent) for mark in marks]
    print(f"  all {ratings:,} learned after {found['seconds']:.1f} s; mini-batches: {len(curve)}, {spent:.1f} s")
    print("ratings read   streaming, s   of the last tenth, M/s   mini-batches, s")
    for mark, mine, theirs, before in zip(marks, streaming, batches, [0.0, *streaming], strict=False):
        last = ratings / POINTS / max(mine - before, 1e-9) / 1e6
        print(f"{mark:>12,}  {mine:>12.1f}   {last:>21.2f}   {theirs:>15.1f}")


def _when(curve: Iterable[tuple[float, int]], mark: int, end_s: float) -> float:
    """When so many ratings had been processed."""
    return next((seconds for seconds, read in curve if read >= mark), end_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="+", choices=("source", "typed", "sink", "mf"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ratings", type=int, default=30_000_000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-kafka-") as scratch:
        bench = Bench(Path(scratch))
        try:
            if "source" in options.what:
                topic = bench.topic()
                bench.run("bare_send_batch", topic, RECORDS)
                compare(bench, "source", "source", "bare_getmany", (topic, topic), options.runs)
            if "sink" in options.what:
                topics = (bench.topic(), bench.topic())
                compare(bench, "sink, exactly once", "sink", "bare_send_batch", topics, options.runs, RECORDS)
            if "typed" in options.what:
                topic = bench.topic()
                bench.run("fill_ratings", topic, RECORDS)
                compare(bench, "ratings into columns", "typed_source", "bare_getmany", (topic, topic), options.runs)
            if "mf" in options.what:
                topic = bench.topic()
                filled = bench.run("fill_ratings", topic, options.ratings)
                print(f"{options.ratings:,} ratings written in {filled['seconds']:.0f} s", flush=True)
                experiment(bench, options.ratings, options.workers, topic)
        finally:
            bench.broker.kill9()


if __name__ == "__main__":
    main()
