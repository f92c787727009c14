"""State in RocksDB under random schedules, with crashes, restores at another parallelism and on the other backend:
every key's results are right, checkpoints share their files, and nothing is left behind."""

from __future__ import annotations

import dataclasses
import gc
import random

import checkpoint_modes
import pytest
from checkpoint_modes import TOPOLOGIES
from checkpoint_modes import make_job as make_modes_job
from checkpoint_modes import run_schedule as run_modes_schedule

from streamcore import Checkpointing, ListState, MapState, ProcessFunction, ReducingState, StreamEnvironment, ValueState
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.state import rocks_database
from streamcore.state.rocks_database import Database
from streamcore.testing import MemorySink, SimulatedWorld
from tests.rocks_rig import rocksdb

RECORDS, KEYS = 1200, 60


def numbers(start, stop):
    return list(range(start, stop))


class Gather(ProcessFunction):
    """Keeps what it sees of a key in every kind of state; tells all of it at the end, by a timer of event time."""

    def open(self, ctx):
        self._last = ctx.state(ValueState("last", None))
        self._all = ctx.state(ListState("all"))
        self._by_rest = ctx.state(MapState("by rest"))
        self._sum = ctx.state(ReducingState("sum", lambda a, b: a + b))

    def process(self, record, ctx):
        if self._last.get() is None:
            ctx.register_event_timer(10**12)
        self._last.set(record)
        self._all.add(record)
        self._by_rest.put(record % 7, record)
        if record % 11 == 0:
            self._by_rest.remove((record + 1) % 7)
        self._sum.add(record)

    def on_event_timer(self, time_ms, ctx):
        ctx.emit((ctx.key, self._last.get(), self._all.get(), sorted(self._by_rest.items()), self._sum.get()))


def expected():
    results = []
    for key in range(KEYS):
        records, by_rest = list(range(key, RECORDS, KEYS)), {}
        for record in records:
            by_rest[record % 7] = record
            if record % 11 == 0:
                by_rest.pop((record + 1) % 7, None)
        results.append((key, records[-1], records, sorted(by_rest.items()), sum(records)))
    return results


def running_counts():
    return sorted((record % 5, record // 5 + 1) for record in range(RECORDS))


def make_job(gathered, counted, parallelism, backend):
    env = StreamEnvironment(
        "gather", parallelism=parallelism, batch_size=8, buffer_timeout=0.0005, state_backend=backend
    )
    stream = env.source(GeneratorSource(numbers, count=RECORDS)).uid("source")
    stream.key_by(lambda n: n % KEYS).process(Gather()).uid("gather").sink(gathered).uid("gathered")
    stream.key_by(lambda n: n % 5).count().uid("count").sink(counted).uid("counted")
    return env.compile()


def run_schedule(seed, directory):
    """Crashes, restores, and runs to the end; returns both outputs, and how many files checkpoints shared."""
    chance = random.Random(seed)
    world, gathered, counted, shared = SimulatedWorld(seed), MemorySink(), MemorySink(), 0
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.001, 0.003), retain=chance.randint(1, 2))
    for turn in range(4):
        log = CheckpointLog(world.storage)
        restore = "latest" if log.checkpoints() else None
        config = RunConfig(checkpointing=checkpointing, restore=restore)
        crash_after = chance.randint(300, 1000) if turn < 3 else None
        backend = "heap" if turn and chance.random() < 0.25 else rocksdb(directory)
        job = make_job(gathered, counted, chance.randint(1, 3), backend)
        result = world.run(job, config, crash_after=crash_after)
        shared += count_shared(world.storage)
        if result is not None:
            break
    return gathered.committed, sorted(counted.committed), shared


def count_shared(storage):
    """Checks that the kept checkpoints have their files and that older ones left none; counts files that belong to an
    earlier checkpoint than the one that names them."""
    checkpoints = CheckpointLog(storage).checkpoints()
    kept = set().union(*(entry.paths for entry in checkpoints))
    assert kept <= storage.files.keys()
    newest = max((entry.checkpoint_id for entry in checkpoints), default=0)
    old = {path for path in storage.files if path.endswith(".sst") and path < f"chk-{newest:08d}"}
    assert old <= kept
    return sum(
        not file.path.startswith((f"chk-{entry.checkpoint_id:08d}", "finished"))
        for entry in checkpoints
        for part in entry.subtasks
        for file in part.shared
    )


def by_key(results):
    return sorted(results, key=lambda result: result[0])


@pytest.fixture(autouse=True)
def _write_at_once(monkeypatch):
    monkeypatch.setattr(rocks_database, "_GATHERED_BYTES", 200)
    monkeypatch.setattr(rocks_database, "_WRITTEN_BYTES", 800)
    monkeypatch.setattr(rocks_database, "_WAITING_BYTES", 5000)


def test_results_are_right_under_every_schedule():
    shared = 0
    for seed in range(8):
        gathered, counted, files = run_schedule(seed, None)
        assert by_key(gathered) == expected(), f"seed {seed}"
        assert counted == running_counts(), f"seed {seed}"
        shared += files
    assert shared > 10, "checkpoints hardly ever shared a file"


def test_directories_go_with_those_who_have_them(tmp_path):
    for seed in range(2):
        run_schedule(seed, tmp_path)
    gc.collect()  # what a simulated crash leaves is not closed by anybody
    assert [path.name for path in tmp_path.iterdir()] == ["streamcore-rocksdb.lock"]


def test_without_holding_writes_back_they_are_wrong(monkeypatch):
    """A snapshot must not have what came after its barrier."""
    hold = Database.hold

    def hold_nothing(self):
        image = hold(self)
        self._image = None
        return image

    monkeypatch.setattr(Database, "hold", hold_nothing)
    assert any(by_key(run_schedule(seed, None)[0]) != expected() for seed in range(12))


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology_in_every_mode(topology, monkeypatch):
    def on_rocksdb(*arguments):
        job = make_modes_job(*arguments)
        return dataclasses.replace(job, settings=dataclasses.replace(job.settings, state_backend=rocksdb()))

    monkeypatch.setattr(checkpoint_modes, "make_job", on_rocksdb)
    for mode in ("aligned", "unaligned", "at-least-once"):
        outcome = run_modes_schedule(topology, mode, 1)
        assert outcome.is_exact or (mode == "at-least-once" and not outcome.lost), mode
