"""Jobs on several simulated processes under faults of every kind: every result once, whatever dies, tears, is late, or
goes on although it has been replaced."""

import collections
import random

import pytest

from streamcore import (
    Checkpointing,
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    seconds,
    sum_of,
    tumbling,
)
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import StreamcoreError
from streamcore.job.config import RunConfig
from streamcore.job.status import JobResult
from streamcore.testing import Faults, MemorySink, MemoryStorage, SimulatedWorld, SimulationStuckError
from tests.simulation.test_loop_schedules import HOPS, make_job
from tests.simulation.test_loop_schedules import RECORDS as HOPPING

RECORDS, KEYS = 300, 7
READING = Schema.of(key=int, time=int, value=int)


def sums(sink, batch_size):
    env = StreamEnvironment("sums", parallelism=3, batch_size=batch_size, buffer_timeout=0.0005)
    numbers = env.source(GeneratorSource(lambda start, stop: list(range(start, stop)), count=RECORDS, splits=2))
    numbers.map(lambda n: (n % KEYS, 1)).key_by(lambda r: r[0]).reduce(lambda a, b: (a[0], a[1] + b[1])).sink(sink)
    return env.compile()


def windows(sink, batch_size):
    env = StreamEnvironment("windows", parallelism=2, batch_size=batch_size, buffer_timeout=0.0005)
    source = GeneratorSource(
        lambda start, stop: [(n % KEYS, n * 20, n) for n in range(start, stop)], count=RECORDS, splits=2, schema=READING
    )
    stream = env.source(source, watermarks=bounded_out_of_orderness("time", seconds(0.1)))
    stream.key_by("key").window(tumbling(seconds(1))).aggregate(sum_of("value")).sink(sink)
    return env.compile()


def totals():
    found = collections.Counter()
    for n in range(RECORDS):
        found[n % KEYS, n * 20 // 1000] += n
    return collections.Counter(found.values())


JOBS = {
    "sums": (
        sums,
        collections.Counter((key, n) for key in range(KEYS) for n in range(1, len(range(key, RECORDS, KEYS)) + 1)),
        lambda row: row,
    ),
    "windows": (windows, totals(), lambda row: row[-1]),
    "loop": (
        make_job,
        collections.Counter((number, hop, 1) for number in range(HOPPING) for hop in range(HOPS + 1)),
        lambda row: row,
    ),
}


def play(name: str, seed: int) -> SimulatedWorld:
    make, expected, of = JOBS[name]
    chance, sink = random.Random(seed), MemorySink()
    job, workers = make(sink, chance.choice([1, 2, 5])), chance.choice([1, 2, 2, 3])
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.0005, 0.004), timeout=5.0)
    world = SimulatedWorld(seed, Faults.of_every_kind())
    world.run_to_end(job, RunConfig(checkpointing=checkpointing, heartbeat_timeout=5.0), workers=workers)
    assert collections.Counter(map(of, sink.committed)) == expected, world.describe()
    for zombie in world.zombies:
        assert zombie is None or isinstance(zombie, JobResult | StreamcoreError), world.describe()
    for entry in CheckpointLog(world.storage).checkpoints():
        assert entry.paths <= world.storage.files.keys(), world.describe()
    return world


def play_all(name: str, seeds: int) -> collections.Counter[str]:
    return collections.Counter(fault.kind for seed in range(seeds) for fault in play(name, seed).injected)


@pytest.mark.parametrize("name", JOBS)
def test_every_result_comes_once(name):
    faults = play_all(name, 40)
    assert len(faults) >= 11, f"hardly anything went wrong: {faults}"


def test_without_fences_zombies_are_found(monkeypatch):
    def create(self, path, data):
        self.files[path] = data
        return True

    monkeypatch.setattr(MemoryStorage, "create", create)
    with pytest.raises((AssertionError, SimulationStuckError)):
        play_all("sums", 300)
