"""Columnar state that is copied while the stream goes on, in increments, under random schedules with crashes and
restores at another parallelism: every key's sum is right, whatever was in the middle of being copied or written."""

import random

import numpy as np
import pytest

from streamcore import BatchFunction, Checkpointing, ColumnarState, Columns, Schema, StreamEnvironment
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.state import table_capture
from streamcore.state.columnar import ColumnarTable
from streamcore.testing import MemorySink, SimulatedWorld

RECORDS, KEYS = 6000, 300
NUMBER = Schema.of(n=np.int64, key=np.int64)
SUMS = Schema.of(total=np.int64, count=np.int64)


def numbers(start, stop):
    n = np.arange(start, stop)
    key = np.where((n % 3000 < 600) | (n % 50 == 0), n % KEYS, n % 5)  # once all keys are there, few change
    return Columns(NUMBER, {"n": n, "key": key})


class Sums(BatchFunction):
    """Sum and count of each key, emitted at the end."""

    def open(self, ctx):
        self._sums = ctx.state(ColumnarState("sums", SUMS))

    def process(self, columns, ctx):
        slots = self._sums.slots(columns["key"])
        np.add.at(self._sums["total"], slots, columns["n"])
        np.add.at(self._sums["count"], slots, 1)

    def finish(self, ctx):
        sums = self._sums
        for row in zip(sums.keys.tolist(), sums["total"].tolist(), sums["count"].tolist(), strict=True):
            ctx.emit(row)


def make_job(sink, parallelism):
    env = StreamEnvironment("sums", parallelism=parallelism, batch_size=8, buffer_timeout=0.0005)
    stream = env.source(GeneratorSource(numbers, count=RECORDS, splits=2, schema=NUMBER)).uid("source")
    stream.key_by("key").process(Sums()).uid("sums").sink(sink).uid("sink")
    return env.compile()


def run_schedule(seed):
    """Crashes, restores, and runs to the end; returns the output and the longest chain that was restored from."""
    chance = random.Random(seed)
    world, sink, longest = SimulatedWorld(seed), MemorySink(), 0
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.0005, 0.002), retain=chance.randint(1, 2))
    for turn in range(4):
        log = CheckpointLog(world.storage)
        restore = "latest" if log.checkpoints() else None
        if restore:
            longest = max(longest, *(len(part.tables) for part in log.latest().subtasks))
        config = RunConfig(checkpointing=checkpointing, restore=restore)
        crash_after = chance.randint(600, 2500) if turn < 3 else None
        if world.run(make_job(sink, chance.randint(1, 3)), config, crash_after=crash_after) is not None:
            break
    kept = set().union(*(entry.paths for entry in CheckpointLog(world.storage).checkpoints()))
    assert kept <= world.storage.files.keys()
    return sorted(sink.committed), longest


def expected():
    batch = numbers(0, RECORDS)
    counts = np.bincount(batch["key"], minlength=KEYS)
    totals = np.bincount(batch["key"], batch["n"], KEYS).astype(int)
    return [(key, totals[key], counts[key]) for key in range(KEYS) if counts[key]]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(table_capture, "CHUNK_ROWS", 3)


def test_sums_are_right_under_every_schedule():
    chains = []
    for seed in range(25):
        committed, longest = run_schedule(seed)
        assert committed == expected(), f"seed {seed}"
        chains.append(longest)
    assert max(chains) > 2, "no chain of increments was ever restored"


def test_without_setting_rows_aside_they_are_wrong(monkeypatch):
    monkeypatch.setattr(table_capture.TableCapture, "keep", lambda self, rows: None)
    assert any(run_schedule(seed)[0] != expected() for seed in range(25))


def test_without_telling_of_changes_they_are_wrong(monkeypatch):
    monkeypatch.setattr(ColumnarTable, "_touch", lambda self, slots: None)
    assert any(run_schedule(seed)[0] != expected() for seed in range(25))
