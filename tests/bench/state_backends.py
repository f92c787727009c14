"""Object state in memory and in RocksDB: updates a second in a job, what snapshots cost, memory beyond the budget.

    python -m tests.bench.state_backends [--keys 1000000] [--records 2000000] [--large-gb 2]

The job runs in this process with one subtask: its rate is of the whole stream, from a generator of tuples over `key_by`
to a sink that drops what it gets. Snapshots are of one store with `--keys` keys: `pause` is how long the stream stands
still in one piece for the capture (for the heap also while it is encoded in steps), `write` is until it is on the
disk, beside the stream. `--large-gb` writes so much state with 256 MiB for RocksDB and reads a part of it back.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from streamcore import Context, ListState, MapState, ProcessFunction, RocksDB, StreamEnvironment, ValueState
from streamcore.checkpoint.images import KnownTables, write_images
from streamcore.checkpoint.log import SubtaskEntry
from streamcore.checkpoint.parts import read_part, write_part
from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.checkpoint.storage import open_storage
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.state.backends import open_backend
from streamcore.state.object_table import ObjectTable
from streamcore.state.store import KeyedStore

GROUPS = 128
BATCH = 16_384
Record = tuple[int, int]


class Value(ProcessFunction[Record, int]):
    """A sum per key in value state."""

    def open(self, ctx: Context[int]) -> None:
        self._sum = ctx.state(ValueState("sum", 0))

    def process(self, record: Record, ctx: Context[int]) -> None:
        self._sum.set(self._sum.get() + record[1])


class Lists(ProcessFunction[Record, int]):
    """All values of a key in list state."""

    def open(self, ctx: Context[int]) -> None:
        self._all = ctx.state(ListState("all"))

    def process(self, record: Record, ctx: Context[int]) -> None:
        self._all.add(record[1])


class Maps(ProcessFunction[Record, int]):
    """Counts of a key's values in map state."""

    def open(self, ctx: Context[int]) -> None:
        self._counts = ctx.state(MapState("counts"))

    def process(self, record: Record, ctx: Context[int]) -> None:
        item = record[1] % 10
        self._counts.put(item, (self._counts.get(item) or 0) + 1)


def records_of(keys: int, *, skewed: bool) -> Callable[[int, int], list[Record]]:
    """Records with keys that are equally frequent, or of which one in a thousand has nine of ten records."""

    def make(start: int, stop: int) -> list[Record]:
        chance = np.random.default_rng(start)
        drawn = chance.integers(0, keys, stop - start)
        if skewed:
            drawn = np.where(chance.random(stop - start) < 0.9, drawn % (keys // 1000), drawn)
        return list(zip(drawn.tolist(), range(start, stop), strict=True))

    return make


def rate(backend: Any, operator: str, records: int, keys: int, *, skewed: bool) -> float:
    """Records a second."""
    env = StreamEnvironment(state_backend=backend)
    stream = env.source(GeneratorSource(records_of(keys, skewed=skewed), count=records)).key_by(lambda r: r[0])
    match operator:
        case "scan":
            stream.scan(0, lambda total, record: (total + record[1], None), compiled=False)
        case "count":
            stream.count()
        case _:
            stream.process({"value": Value, "list": Lists, "map": Maps}[operator]())
    started = time.perf_counter()
    env.execute()
    return records / (time.perf_counter() - started)


class Store:
    """One operator subtask's state with a table `t`, and its snapshots in a directory."""

    def __init__(self, backend: RocksDB | None, directory: Path, entry: SubtaskEntry | None = None) -> None:
        self._storage = open_storage(str(directory))
        self._known = KnownTables()
        groups, saved = range(GROUPS), []
        if entry is not None:
            saved = [read_part(self._storage, entry, allow_pickle=False).operators["op"].keyed]
        opened = open_backend(backend, GROUPS, groups, saved, allow_pickle=False)
        self._store = KeyedStore(GROUPS, groups, saved, allow_pickle=False, backend=opened)
        self.table: ObjectTable = self._store.table("t")

    def set(self, keys: list[int], value: Callable[[int], Any]) -> None:
        """Puts values in, a batch at a time."""
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            self.table.batch(batch).update((key, value(key)) for key in batch)
        self._store.settle()

    def snapshot(self, number: int, since: int | None) -> tuple[float, float, int, SubtaskEntry]:
        """(longest stop, seconds in all, bytes written, what to restore)."""
        started = time.perf_counter()
        keyed, tables = self._store.capture(number, since)
        pause_s = time.perf_counter() - started
        for table in tables.values():
            while not table.done:
                step = time.perf_counter()
                table.step()
                pause_s = max(pause_s, time.perf_counter() - step)
        path = f"chk-{number:08d}/v0-0.e1.state"
        snapshot = SubtaskSnapshot({"op": OperatorSnapshot(keyed, None, tables)})
        shared = write_images(self._storage, path, snapshot, self._known.now())
        file, chain = write_part(self._storage, path, snapshot, [], allow_pickle=False)
        seconds = time.perf_counter() - started
        for table in tables.values():
            table.release()
        self._known.wrote(number, shared)
        self._known.complete(number)
        entry = SubtaskEntry(0, 0, 1, ["op"], finished=False, file=file, tables=chain, shared=list(shared.values()))
        own = sum(ref.size_bytes for ref in entry.files if ref.path.startswith(f"chk-{number:08d}/"))
        return pause_s, seconds, own, entry

    def close(self) -> None:
        """Frees it."""
        self._store.close()


def snapshots(backend: RocksDB | None, keys: int, directory: Path) -> Iterator[str]:
    """Lines on a full snapshot, one after 1 % of the keys have changed, and the restore."""
    store = Store(backend, directory)
    everything = list(range(keys))
    store.set(everything, lambda key: (key, float(key), f"user {key}"))
    *full, entry = store.snapshot(1, None)
    yield f"  full         {report(*full)}"
    store.snapshot(2, 1)
    changed = random.Random(1).sample(everything, keys // 100)
    store.set(changed, lambda key: (key, -1.0, f"user {key}"))
    *some, _ = store.snapshot(3, 2)
    yield f"  1 % changed  {report(*some)}"
    store.close()
    started = time.perf_counter()
    restored = Store(backend, directory, entry)
    assert restored.table.get(5) == (5, 5.0, "user 5")
    yield f"  restore      {time.perf_counter() - started:.2f} s"
    restored.close()


def report(pause_s: float, seconds: float, size_bytes: int) -> str:
    """One snapshot in words."""
    return f"pause {1e3 * pause_s:6.2f} ms, write {seconds:5.2f} s, {size_bytes / 1e6:7.2f} MB"


def large(gigabytes: float, directory: Path) -> str:
    """A line on state beyond the budget."""
    store, before = Store(RocksDB(str(directory)), directory / "snapshots"), rss_bytes()
    count = int(gigabytes * 1e9 / 1000)
    started = time.perf_counter()
    store.set(list(range(count)), lambda key: os.urandom(1000))
    written_s = time.perf_counter() - started
    chance = random.Random(1)
    started = time.perf_counter()
    for _ in range(20_000):
        assert len(store.table.get(chance.randrange(count))) == 1000
    read_s = time.perf_counter() - started
    line = (
        f"{gigabytes:g} GB in {count:,} keys: written at {count / written_s:,.0f}/s, read at random at "
        f"{20_000 / read_s:,.0f}/s, memory grew by {(rss_bytes() - before) / 1e6:,.0f} MB"
    )
    store.close()
    return line


def rss_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--large-gb", type=float, default=2.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="streamcore-bench-") as directory:
        print(large(given.large_gb, Path(directory)))
        for operator in ("scan", "count", "value", "list", "map"):
            for skewed in (False, True):
                rates = [
                    rate(backend, operator, given.records, given.keys, skewed=skewed)
                    for backend in ("heap", RocksDB(directory))
                ]
                kind = "skewed" if skewed else "even"
                print(f"{operator:6} {kind:7} heap {rates[0]:10,.0f}/s   rocksdb {rates[1]:10,.0f}/s", flush=True)
        for name, backend in (("heap", None), ("rocksdb", RocksDB(directory))):
            print(f"snapshots of {given.keys:,} keys, {name}:")
            for line in snapshots(backend, given.keys, Path(directory) / name):
                print(line, flush=True)


if __name__ == "__main__":
    main()
