"""Checkpoints of large state: what they stop, cost and weigh, and how long it takes to start again from one.

    python -m tests.bench.state_snapshots                          # 1 M keys: heap, columnar, RocksDB
    python -m tests.bench.state_snapshots --keys 10000000 --backends columnar

A job in one process fills the state of all keys, then updates them for some seconds without checkpoints; the same again
with checkpoints, while all keys change and while 1 % of them do; then it is started from the last one. A stop is the
longest time between the end of one batch and the beginning of the next, seen from inside of the operator, and beside it
what the engine says. Values: 8 float64 (columnar), or a tuple of three numbers and a text (heap, RocksDB).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from streamcore import (
    BatchFunction,
    Checkpointing,
    ColumnarState,
    Columns,
    Context,
    ProcessFunction,
    Schema,
    StreamEnvironment,
    ValueState,
)
from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.storage import open_storage
from streamcore.connectors.generator_source import GeneratorSource

BACKENDS = ("heap", "columnar", "rocksdb")
FIELDS = 8
UPDATE = Schema.of(key=np.int64, value=np.float64)
_SUMS = ColumnarState("sums", Schema.of(**{f"f{i}": np.float64 for i in range(FIELDS)}))
_VALUE: ValueState[Any] = ValueState("value", None)


@dataclass
class Figures:
    """What is told of one backend. `stops_ms` are the longest, `written_mb` of each checkpoint from the second on."""

    backend: str
    keys: int
    records_per_s: float = 0.0
    ratio_all: float = 0.0
    ratio_few: float = 0.0
    stop_without_ms: float = 0.0
    stop_all_ms: float = 0.0
    stop_few_ms: float = 0.0
    pause_all_ms: float = 0.0
    pause_few_ms: float = 0.0
    full_mb: float = 0.0
    written_all_mb: list[float] = field(default_factory=list)
    written_few_mb: list[float] = field(default_factory=list)
    restore_s: float = 0.0
    state_mb: float = 0.0


class _Stops:
    """The time between batches; left in a file at the end: updates, seconds, longest stop."""

    def __init__(self, path: Path, fill: int) -> None:
        self._path = path
        self._fill = fill
        self._records = self._longest_s = self._began = self._left = 0.0

    def enter(self, count: int) -> None:
        now = time.perf_counter()
        self._records += count
        if self._records > self._fill:
            if not self._began:
                self._began, self._left = now, now
            self._longest_s = max(self._longest_s, now - self._left)

    def leave(self) -> None:
        if self._began:
            self._left = time.perf_counter()

    def save(self) -> None:
        seconds = self._left - self._began
        self._path.write_text(json.dumps([self._records - self._fill, seconds, self._longest_s]))


class ColumnarUpdates(BatchFunction[Any]):
    """Adds to 8 numbers of each key."""

    def __init__(self, path: Path, fill: int) -> None:
        self._stops = _Stops(path, fill)

    def open(self, ctx: Context[Any]) -> None:
        self._table = ctx.state(_SUMS)

    def process(self, columns: Columns, ctx: Context[Any]) -> None:
        self._stops.enter(len(columns))
        slots = self._table.slots(columns["key"])
        for name in _SUMS.schema.names:
            np.add.at(self._table[name], slots, columns["value"])
        self._stops.leave()

    def finish(self, ctx: Context[Any]) -> None:
        self._stops.save()


class ObjectUpdates(ProcessFunction[Any, Any]):
    """Replaces the tuple of each key. Looks at the time where the batches end, which it can't see: every record."""

    def __init__(self, path: Path, fill: int) -> None:
        self._stops = _Stops(path, fill)

    def open(self, ctx: Context[Any]) -> None:
        self._value = ctx.state(_VALUE)

    def process(self, record: Any, ctx: Context[Any]) -> None:
        self._stops.enter(1)
        before = self._value.get()
        count, total = (0, 0.0) if before is None else before[:2]
        self._value.set((count + 1, total + record.value, record.value, "a text of some length"))
        self._stops.leave()

    def finish(self, ctx: Context[Any]) -> None:
        self._stops.save()


class _Watch(logging.Handler):
    """Reads the engine's own figures of checkpoints in the job's log."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self.pauses_ms: list[float] = []
        self.written_mb: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("checkpoint complete"):
            checkpoint = self._directory / f"chk-{record.__dict__['checkpoint']:08d}"
            written = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())
            self.written_mb.append(written / 1e6)
            _, _, pause = record.getMessage().partition("pause ")
            self.pauses_ms.append(float(pause.split()[0]))


def _updates(keys: int, updates: int, few: bool) -> Any:
    """The records by index: first every key once, then any of them, or of 1 % of them."""

    def make(start: int, stop: int) -> Columns:
        index = np.arange(start, stop)
        scattered = (index * 2_654_435_761) % (keys // 100 if few else keys)
        key = np.where(index < keys, index, scattered * (100 if few else 1))
        return Columns(UPDATE, {"key": key, "value": (index & 15).astype(np.float64)})

    return GeneratorSource(make, count=keys + updates, schema=UPDATE)


def _run(
    backend: str, keys: int, updates: int, directory: Path, interval_s: float | None, *, few: bool = False,
    restore: str | None = None,
) -> tuple[list[float], _Watch, float]:  # fmt: skip
    checkpoint = Checkpointing(str(directory), interval=interval_s) if interval_s else None
    options = {"state_backend": "rocksdb"} if backend == "rocksdb" else {}
    env = StreamEnvironment("state-snapshots", checkpoint=checkpoint, restore=restore, **options)  # type: ignore[arg-type]
    found = directory / "found.json"
    function = ColumnarUpdates if backend == "columnar" else ObjectUpdates
    stream = env.source(_updates(keys, updates, few)).uid("updates").key_by("key")
    stream.process(function(found, keys)).uid("state")  # type: ignore[arg-type]
    watch, logger = _Watch(directory), logging.getLogger("streamcore.job")
    logger.addHandler(watch)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        result = env.execute()
    finally:
        logger.removeHandler(watch)
        logger.setLevel(level)
    return json.loads(found.read_text()), watch, result.start_s


def measure(backend: str, keys: int, seconds: float) -> Figures:
    """Every figure of one backend."""
    figures = Figures(backend, keys)
    for few in (False, True):
        with tempfile.TemporaryDirectory() as place:
            (records, spent, stop), _, _ = _run(backend, keys, 2 * keys, Path(place), None, few=few)
        rate = records / spent
        if not few:
            figures.records_per_s, figures.stop_without_ms = rate, stop * 1e3
        with tempfile.TemporaryDirectory() as place:
            (records, spent, stop), watch, _ = _run(backend, keys, round(rate * seconds), Path(place), 1.0, few=few)
            ratio, pause = records / spent / rate, max(watch.pauses_ms, default=0.0)
            written = [round(size, 2) for size in watch.written_mb if size]
            if few:
                figures.ratio_few, figures.stop_few_ms, figures.pause_few_ms = ratio, stop * 1e3, pause
                figures.written_few_mb = written[1:]
            else:
                figures.ratio_all, figures.stop_all_ms, figures.pause_all_ms = ratio, stop * 1e3, pause
                figures.full_mb, figures.written_all_mb = max(written, default=0.0), written[1:]
            entry = CheckpointLog(open_storage(place)).checkpoints()[-1]
            figures.state_mb = entry.size_bytes / 1e6
            updates = round(rate * seconds)
            _, _, figures.restore_s = _run(backend, keys, updates, Path(place), 1000.0, few=few, restore="latest")
    return figures


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    options = parser.parse_args(arguments)
    for backend in options.backends:
        print(json.dumps(asdict(measure(backend, options.keys, options.seconds))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
