"""Savepoints at random moments, in jobs that are killed at random moments: complete or absent, exact if restored."""

from __future__ import annotations

import asyncio
import collections
import itertools
import random

import numpy as np
import pytest
from checkpoint_modes import MODES, TOPOLOGIES, make_job

from streamcore import Checkpointing, Schema, StreamEnvironment
from streamcore.checkpoint.choice import check_files
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import NoCheckpointError, SavepointError, StreamcoreError
from streamcore.job.config import RunConfig
from streamcore.job.savepoints import SavepointRequest
from streamcore.testing import Faults, MemorySink, SimulatedWorld

URL, PLACE = "simulated://", "simulated://savepoint"
EXACT = [mode for mode in MODES if mode != "at-least-once"]
SEEDS = 6
RECORD = Schema.of(key=np.int64, n=np.int64)
ROWS = [(i if i < 120 else i % 4, i) for i in range(500)]
RECORDS = len(ROWS)


def asks(world, place, at_s, *, stop=False, timeout_s=600.0):
    """Asks for a savepoint at a moment of virtual time; returns the request and what to run a job with."""
    request = SavepointRequest(world.storage_at(place), stop=stop, timeout_s=timeout_s)
    request.reserve("any")

    def on_start(coordinator):
        request.storage = coordinator._services.open_storage(place)  # which fails as the coordinator's does
        asyncio.get_running_loop().call_later(at_s, coordinator.request, request)

    return request, on_start


def manifest_at(world, place):
    """The savepoint's manifest, if it is complete; then all that it needs is in its own place."""
    log = CheckpointLog(world.storage_at(place))
    if not log.checkpoints():
        return None
    (manifest,) = log.checkpoints()
    check_files(log.storage, manifest)
    return manifest


def newest(world):
    try:
        return CheckpointLog(world.storage_at(URL)).latest()
    except NoCheckpointError:
        return None


def test_a_job_that_is_stopped_with_savepoints_and_killed_meanwhile_is_exact():
    stopped, from_savepoints, rescaled = 0, 0, 0
    for topology, seed in itertools.product(TOPOLOGIES, range(SEEDS)):
        chance, world, sink = random.Random(f"{topology} {seed}"), SimulatedWorld(seed), MemorySink()
        mode = EXACT[seed % len(EXACT)]
        checkpointing = Checkpointing(URL, interval=chance.uniform(0.0005, 0.004), **MODES[mode](chance))
        parallelism, restore = chance.choice([2, 3]), None
        for turn in range(5):
            place, on_start = f"simulated://savepoint-{turn}", None
            if turn < 4:
                request, on_start = asks(world, place, chance.uniform(0, 0.008), stop=True)
            result = world.run(
                make_job(topology, sink, parallelism, chance),
                RunConfig(checkpointing=checkpointing, restore=restore),
                workers=chance.choice([1, 2]),
                crash_after=chance.choice([chance.randint(150, 700), None]) if turn < 4 else None,
                on_start=on_start,
            )
            if result is not None and result.savepoint is None:
                break
            manifest = manifest_at(world, place)
            if result is not None:
                stopped += 1
                assert (result.stopped, result.savepoint, request.outcome.result(0).signed()) == (True, place, manifest)
            checkpoint = newest(world)
            starts = [(place, manifest)] * (manifest is not None) + [("latest", checkpoint)] * (checkpoint is not None)
            if starts:  # else from where this one began
                restore, manifest = chance.choice(starts)
                from_savepoints += restore == place
                if TOPOLOGIES[topology].rescales and not any(part.finished for part in manifest.subtasks):
                    before, parallelism = parallelism, chance.choice([2, 3])
                    rescaled += before != parallelism
        assert collections.Counter(sink.committed) == TOPOLOGIES[topology].expected(), (
            f"{topology}, {mode}, seed {seed}"
        )
    runs = len(TOPOLOGIES) * SEEDS
    assert stopped > runs // 4
    assert from_savepoints > runs // 4
    assert rescaled > runs // 8


@pytest.mark.parametrize("topology", ["chain", "long loop", "windows"])
def test_a_stop_with_a_savepoint_is_exact_whatever_goes_wrong_meanwhile(topology):
    """Worker processes, a coordinator, writes and messages fail; what has failed is started again, from a savepoint
    that was complete or from the latest checkpoint, while zombies of the runs before go on."""
    expected, stopped, failed = TOPOLOGIES[topology].expected(), 0, 0
    for seed in range(SEEDS):
        chance, sink = random.Random(f"{topology} {seed}"), MemorySink()
        world = SimulatedWorld(seed, Faults.of_every_kind(at_most=4, scale=3.0))
        config = RunConfig(checkpointing=Checkpointing(URL, interval=chance.uniform(0.001, 0.004), timeout=2.0))
        for turn in range(12):
            place, on_start, result = f"{PLACE}-{turn}", None, None
            if turn < 4:
                request, on_start = asks(world, place, chance.uniform(0, 0.01), stop=True, timeout_s=1.0)
            try:
                result = world.run(make_job(topology, sink, 2, chance), config, workers=2, on_start=on_start)
            except StreamcoreError:
                world.wait(1.0)  # the disk is full, for one
            failed += turn < 4 and request.outcome.done() and request.outcome.exception() is not None
            if result is not None and not result.stopped:
                break
            manifest = manifest_at(world, place)
            stopped += result is not None
            if manifest is not None and (result is not None or chance.random() < 0.5):
                config.restore = place
            elif newest(world) is not None:
                config.restore = "latest"
        else:
            raise AssertionError(f"{world.describe()} has not come to its end")
        world.settle()
        assert collections.Counter(sink.committed) == expected, world.describe()
    assert stopped
    assert failed


class KeptSink(MemorySink):
    """Keeps what was prepared, committed or not, for another sink to begin with."""

    def __init__(self, kept=()):
        super().__init__()
        self._prepared.update(kept)
        self.kept = {}

    def put(self, owner, rows):
        handle = super().put(owner, rows)
        self.kept[handle] = rows
        return handle


def test_a_savepoint_of_a_job_that_goes_on_is_exact_as_of_its_moment():
    """It is the first snapshot, so that all output before it is prepared in it. The job commits more afterwards; who
    restores the savepoint commits what belongs to it, into an output of its own, and goes on from there."""
    restored = 0
    for topology, seed in itertools.product(TOPOLOGIES, range(SEEDS)):
        expected = TOPOLOGIES[topology].expected()
        chance, world, sink = random.Random(f"{topology} {seed}"), SimulatedWorld(seed), KeptSink()
        _, on_start = asks(world, PLACE, chance.uniform(0, 0.003))
        config = RunConfig(checkpointing=Checkpointing(URL, interval=1000.0))
        job = make_job(topology, sink, 2, chance)
        if (
            world.run(job, config, crash_after=chance.choice([chance.randint(300, 900), None]), on_start=on_start)
            is not None
        ):
            assert collections.Counter(sink.committed) == expected
        if manifest_at(world, PLACE) is None:
            continue
        restored += 1
        again = KeptSink(sink.kept)
        config = RunConfig(checkpointing=Checkpointing("simulated://again", interval=0.002), restore=PLACE)
        assert world.run(make_job(topology, again, 2, chance), config) is not None
        assert collections.Counter(again.committed) == expected, f"{topology}, seed {seed}"
    assert restored > len(TOPOLOGIES) * SEEDS // 4


def counts(sink, parallelism):
    """Every record's place among those of its key, out of columnar state, of which little changes in the end."""
    env = StreamEnvironment("counts", parallelism=parallelism, max_parallelism=8, batch_size=8, buffer_timeout=0.0005)
    source = GeneratorSource(lambda a, b: ROWS[a:b], count=RECORDS, splits=2, schema=RECORD, rate=20_000)
    env.source(source).uid("source").key_by("key").count().uid("counts").sink(sink).uid("sink")
    return env.compile()


def expected_counts():
    seen = collections.Counter()
    for key, _ in ROWS:
        seen[key] += 1
        yield key, seen[key]


def test_savepoints_between_incremental_checkpoints_confuse_nothing_and_outlive_them():
    """Barriers may come to a worker before the coordinator's message does."""
    taken, after_increments = 0, 0
    for seed in range(SEEDS):
        world = SimulatedWorld(seed, Faults.by_chance(late_message=0.01, at_most=10))
        chance, sink = random.Random(seed), MemorySink()
        asked = [asks(world, f"{PLACE}-{n}", chance.uniform(0.03, 0.08)) for n in range(6)]

        def on_start(coordinator, asked=asked):
            for _, ask in asked:
                ask(coordinator)

        config = RunConfig(checkpointing=Checkpointing(URL, interval=0.002, retain=100))
        crash = chance.choice([chance.randint(4000, 12000), None])
        result = world.run(counts(sink, 2), config, workers=2, crash_after=crash, on_start=on_start)
        if newest(world) is not None:
            config.restore = "latest"
        manifests = CheckpointLog(world.storage_at(URL)).checkpoints()
        after_increments += any(len(part.tables) > 1 for manifest in manifests for part in manifest.subtasks)
        if result is None:
            world.run(counts(sink, chance.choice([1, 2, 3])), config)
        assert collections.Counter(sink.committed) == collections.Counter(expected_counts()), f"seed {seed}"
        for n in range(6):
            manifest = manifest_at(world, f"{PLACE}-{n}")  # which finds all that it needs in its own place
            if manifest is not None:
                taken += 1
                assert all(len(part.tables) <= 1 for part in manifest.subtasks), "it is full"
    assert taken > SEEDS // 2
    assert after_increments, "no checkpoint was incremental"


@pytest.mark.parametrize("checkpointing", [Checkpointing(URL, interval=0.002), None])
def test_a_savepoint_that_fails_leaves_the_job_as_it_was_and_its_sources_reading(checkpointing):
    """The place can't be written when the subtasks come to it."""
    for seed in range(SEEDS):
        world, sink, chance = SimulatedWorld(seed), MemorySink(), random.Random(seed)
        place = world.storage_at(PLACE)
        request, on_start = asks(world, PLACE, 0.002, stop=True)
        place.write = refuse
        result = world.run(make_job("loop", sink, 2, chance), RunConfig(checkpointing=checkpointing), on_start=on_start)
        assert (result.stopped, result.savepoint, result.restarts) == (False, None, 0)
        with pytest.raises(SavepointError, match="no room for this"):
            request.outcome.result(0)
        assert not manifest_at(world, PLACE)
        assert collections.Counter(sink.committed) == TOPOLOGIES["loop"].expected()


def refuse(path, data):
    raise OSError(28, "no room for this", path)


def test_a_savepoint_that_is_not_complete_in_time_is_given_up():
    world, sink = SimulatedWorld(7), MemorySink()
    request, on_start = asks(world, PLACE, 0.002, stop=True, timeout_s=0.0003)
    config = RunConfig(checkpointing=Checkpointing(URL, interval=0.004))
    result = world.run(counts(sink, 2), config, on_start=on_start)
    assert not result.stopped
    with pytest.raises(SavepointError, match=r"not complete after 0.0003 s; waiting for .*\[|its turn did not come"):
        request.outcome.result(0)
    assert len(sink.committed) == RECORDS


def test_without_checkpoints_a_savepoint_works_and_stops_a_job():
    world, sink = SimulatedWorld(3), MemorySink()
    _, on_start = asks(world, PLACE, 0.004, stop=True)
    result = world.run(counts(sink, 2), RunConfig(), on_start=on_start)
    assert (result.stopped, result.savepoint, result.checkpoints) == (True, PLACE, 0)
    seen = len(sink.committed)
    assert 0 < seen < RECORDS, "the savepoint commits when the job ends with it"
    config = RunConfig(checkpointing=Checkpointing(URL, interval=0.002), restore=PLACE)
    world.run(counts(sink, 3), config)
    assert collections.Counter(sink.committed) == collections.Counter(expected_counts())


def test_without_checkpoints_there_is_no_savepoint_once_a_subtask_has_ended():
    world, sink = SimulatedWorld(3), MemorySink()
    env = StreamEnvironment("ends", parallelism=1, buffer_timeout=0.0005)
    short = env.from_values(range(3)).uid("short")
    long = env.source(GeneratorSource(lambda a, b: list(range(a, b)), count=100, rate=5000)).uid("long")
    short.union(long).key_by(lambda n: n % 3).count().uid("counts").sink(sink).uid("sink")
    request, on_start = asks(world, PLACE, 0.01)
    world.run(env.compile(), RunConfig(), on_start=on_start)
    with pytest.raises(SavepointError, match="ended before it, and without checkpoints nothing was kept"):
        request.outcome.result(0)
    assert len(sink.committed) == 103
