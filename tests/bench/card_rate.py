"""The fraud app at the peak of a card network, 47,000 payments/s, each timed from when it was due to when it was told.

    python -m tests.bench.card_rate [--seconds 20]

A million cards, one worker, a checkpoint a second. A payment is due when the rate says so, not when the source comes to
it, so a stall counts against every payment that it held up. The first second is left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from streamcore import Checkpointing, Columns, StreamEnvironment
from streamcore.apps.fraud.cards import Card, Judged, judge
from streamcore.apps.fraud.planted import TRANSACTION, PlantedTransactions
from streamcore.connectors.base import Batch, Sink, SinkContext, SinkWriter
from streamcore.connectors.generator_source import GeneratorSource

RATE = 47_000
CARDS = 1_000_000
WARM_UP_S = 1.0
GOAL_MS = 100.0


class Offered:
    """Planted payments; the moment of the first one is left in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._planted = PlantedTransactions(CARDS)

    def __call__(self, start: int, stop: int) -> Columns:
        if start == 0:
            self._file.write_text(str(time.time()))
        return self._planted(start, stop)


def index_of(times: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Which payments were at some times, (n,): there is more than a millisecond between two."""
    planted = PlantedTransactions(CARDS)
    return np.ceil((times - planted(0, 1)["time"][0]) / planted.spacing_ms)


class JudgedSink(Sink[Any]):
    """Keeps when which payments came, and saves that when it is closed."""

    accepts = "columns"

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def writer(self, context: SinkContext) -> SinkWriter:
        return _JudgedWriter(f"{self.directory}/{context.subtask}.npy")


class _JudgedWriter(SinkWriter):
    def __init__(self, path: str) -> None:
        self._path = path
        self._batches: list[tuple[float, Any]] = []

    def write(self, batch: Batch) -> None:
        assert isinstance(batch, Columns), "a columnar sink got rows"
        self._batches.append((time.time(), batch["time"].copy()))

    def close(self) -> None:
        parts = [np.column_stack([times.astype(float), np.full(len(times), now)]) for now, times in self._batches]
        np.save(self._path, np.concatenate(parts) if parts else np.zeros((0, 2)))


def measure(seconds: float = 20.0) -> list[dict[str, Any]]:
    """A row of build/bench.json."""
    count = round(RATE * (seconds + WARM_UP_S))
    with tempfile.TemporaryDirectory() as scratch:
        env = StreamEnvironment(
            "cards", buffer_timeout=0.0, checkpoint=Checkpointing(f"{scratch}/checkpoints", interval=1.0)
        )
        offered = Offered(Path(scratch) / "first")
        payments = env.source(GeneratorSource(offered, count, RATE, schema=TRANSACTION))
        payments.key_by("card").scan(Card(), judge, returns=Judged, compiled=True).sink(JudgedSink(scratch))
        result = env.execute()
        first_s = float((Path(scratch) / "first").read_text())
        table = np.concatenate([np.load(path) for path in Path(scratch).glob("*.npy")])
    index = index_of(table[:, 0])
    latency_ms = (table[:, 1] - first_s - index / RATE)[index >= RATE * WARM_UP_S] * 1e3
    p50, p99, p999 = (round(float(p), 3) for p in np.percentile(latency_ms, [50, 99, 99.9]))
    return [
        {
            "workload": f"fraud app at {RATE:,} payments/s",
            "engine": "streamcore",
            "workers": 1,
            "input": "generated",
            "records_per_s": count / (table[:, 1].max() - first_s),
            "ratio_to_limit": None,
            "correct": bool((np.sort(index) == np.arange(count)).all()) if len(index) == count else False,
            "note": f"p50 / p99 / p99.9 / max {p50:.2f} / {p99:.2f} / {p999:.2f} / {latency_ms.max():.1f} ms of "
            f"{len(latency_ms):,} payments of {CARDS:,} cards, {result.checkpoints} checkpoints",
            "p50_ms": p50,
            "p99_ms": p99,
            "p999_ms": p999,
        }
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    for row in measure(parser.parse_args().seconds):
        goal = "within the goal" if row["p99_ms"] < GOAL_MS else f"p99 is over {GOAL_MS:g} ms"
        print(f"{row['workload']}: {row['note']}; {goal}{'' if row['correct'] else ' WRONG RESULT'}")


if __name__ == "__main__":
    main()
