"""One file that several subtasks read at the same time, through crashes: every record once."""

import collections
import random

import pytest

from streamcore import Checkpointing, Schema, StreamEnvironment
from streamcore.connectors.csv_source import CsvSource
from streamcore.errors import IncompatibleSnapshotError
from streamcore.job.config import RunConfig
from streamcore.testing import MemorySink, SimulatedWorld

RECORDS = 600


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "numbers.csv"
    place.write_text("n,text\n" + "".join(f'{n},"a\n{"b" * (n % 7)}"\n' for n in range(RECORDS)))
    return str(place)


def make_job(path, sink, splits, batch_size=5):
    env = StreamEnvironment("shared-file", parallelism=3, batch_size=batch_size, buffer_timeout=0.0005)
    source = CsvSource(path, Schema.of(n=int, text=str), splits=splits, block_bytes=64)
    env.source(source).uid("source").map(lambda row: row.n).uid("numbers").sink(sink).uid("sink")
    return env.compile()


def config(world, checkpointing):
    complete = any(b'"checkpoint"' in data for path, data in world.storage.files.items() if path.startswith("log/"))
    return RunConfig(checkpointing=checkpointing, restore="latest" if complete else None)


def test_every_record_once_through_crashes(path):
    restored = 0
    for seed in range(30):
        chance, world, sink = random.Random(seed), SimulatedWorld(seed), MemorySink()
        job = make_job(path, sink, splits=chance.randint(2, 8), batch_size=chance.choice([1, 4]))
        checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.0005, 0.003))
        for crash_after in [chance.randint(100, 600) for _ in range(3)] + [None]:
            run = config(world, checkpointing)
            restored += run.restore is not None
            if world.run(job, run, crash_after=crash_after) is not None:
                break
        assert collections.Counter(sink.committed) == collections.Counter(range(RECORDS)), f"seed {seed}"
    assert restored > 20


def test_a_restore_with_another_number_of_parts_is_refused(path):
    world, sink = SimulatedWorld(1), MemorySink()
    checkpointing = Checkpointing("simulated://", interval=0.0005)
    assert world.run(make_job(path, sink, 4, batch_size=1), config(world, checkpointing), crash_after=300) is None
    run = config(world, checkpointing)
    assert run.restore == "latest"
    with pytest.raises(IncompatibleSnapshotError, match=r"was still reading .*numbers\.csv#0-") as caught:
        world.run(make_job(path, sink, 3), run)
    assert "use the same splits=" in caught.value.hint
    world.run(make_job(path, sink, 4), run)
    assert sorted(sink.committed) == list(range(RECORDS))
