"""The world as users see it: what a run returns, what is told of faults, and that all of it comes again."""

import collections
import os
import subprocess
import sys

import pytest

from streamcore import Checkpointing, FixedDelay, ProcessFunction, StreamEnvironment
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import FencedError, JobFailedError, MachineError, StreamcoreError, UsageError
from streamcore.job.config import RunConfig
from streamcore.testing import Fault, Faults, MemorySink, SimulatedWorld, SimulationStuckError

RECORDS, KEYS = 300, 7
CONFIG = RunConfig(checkpointing=Checkpointing("simulated://", interval=0.002))


def make_job(sink: MemorySink, count: int = RECORDS):
    env = StreamEnvironment("sums", parallelism=3, batch_size=2, buffer_timeout=0.0005)
    numbers = env.source(GeneratorSource(lambda start, stop: list(range(start, stop)), count=count, splits=2))
    numbers.map(lambda n: (n % KEYS, 1)).key_by(lambda r: r[0]).reduce(lambda a, b: (a[0], a[1] + b[1])).sink(sink)
    return env.compile()


EXPECTED = collections.Counter((key, n) for key in range(KEYS) for n in range(1, len(range(key, RECORDS, KEYS)) + 1))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_job_runs_on_simulated_workers(workers):
    world, sink = SimulatedWorld(1), MemorySink()
    result = world.run(make_job(sink), CONFIG, workers=workers)
    assert result is not None
    assert result.restarts == 0
    assert collections.Counter(sink.committed) == EXPECTED
    assert world.injected == []


def test_a_killed_worker_is_replaced():
    world, sink = SimulatedWorld(1, Faults.of(Fault("crash", at=400, target="worker 1"))), MemorySink()
    result = world.run(make_job(sink), CONFIG, workers=2)
    assert result is not None
    assert result.restarts == 1
    assert collections.Counter(sink.committed) == EXPECTED
    assert world.injected == [Fault("crash", at=400, target="worker 1")]


def test_a_killed_coordinator_ends_the_run_and_the_next_goes_on():
    world, sink = SimulatedWorld(1, Faults.of(Fault("crash", at=1300, target="coordinator"))), MemorySink()
    job = make_job(sink)
    assert world.run(job, CONFIG, workers=2) is None
    restored = RunConfig(checkpointing=CONFIG.checkpointing, restore="latest")
    assert world.run(job, restored, workers=2) is not None
    world.settle()
    assert collections.Counter(sink.committed) == EXPECTED


def test_a_zombie_coordinator_is_fenced_off():
    stopped = Fault("stop", at=1300, target="coordinator", seconds=0.02)
    world, sink = SimulatedWorld(1, Faults.of(stopped)), MemorySink()
    job = make_job(sink)
    assert world.run(job, CONFIG, workers=2) is None
    assert world.zombies == [None]
    assert world.run(job, RunConfig(checkpointing=CONFIG.checkpointing, restore="latest"), workers=2) is not None
    world.settle()
    (zombie,) = world.zombies
    assert isinstance(zombie, FencedError)
    assert collections.Counter(sink.committed) == EXPECTED


def test_an_isolated_worker_is_replaced_while_it_goes_on():
    isolated = Fault("isolate", at=700, target="worker 0", seconds=0.15)
    world, sink = SimulatedWorld(1, Faults.of(isolated), traced=True), MemorySink()
    result = world.run(make_job(sink), CONFIG, workers=2)
    world.settle()
    assert result is not None
    assert result.restarts >= 1
    assert collections.Counter(sink.committed) == EXPECTED


def test_a_cut_data_connection_fails_the_attempt_only():
    world, sink = SimulatedWorld(1, Faults.of(Fault("cut", at=500, target="worker 0 - worker 1"))), MemorySink()
    result = world.run(make_job(sink), CONFIG, workers=2)
    assert result is not None
    assert result.restarts == 1
    assert collections.Counter(sink.committed) == EXPECTED


def test_everything_stops_dead_after_so_many_steps():
    world, sink = SimulatedWorld(1), MemorySink()
    assert world.run(make_job(sink), CONFIG, workers=2, crash_after=300) is None
    world.settle()
    assert world.storage.files  # the fence
    assert sink.committed == []


class Stamp(ProcessFunction):
    def process(self, record, ctx):
        ctx.emit(ctx.now_ms())


def test_the_wall_clock_jumps_for_one_process():
    env, sink = StreamEnvironment("clock", parallelism=2, batch_size=1, buffer_timeout=0), MemorySink()
    env.from_values(range(50)).rebalance().process(Stamp()).sink(sink)
    world = SimulatedWorld(1, Faults.of(Fault("clock_jump", at=250, target="worker 1", seconds=-3600.0)))
    assert world.run(env.compile(), CONFIG, workers=2) is not None
    back = [stamp for stamp in sink.committed if stamp < max(sink.committed) - 3_000_000]
    assert 0 < len(back) <= 25
    assert max(back) < max(sink.committed) - 3_590_000


def test_errors_tell_the_seed_and_the_faults():
    world = SimulatedWorld(3, Faults.of(Fault("crash", at=200, target="worker 0")))
    config = RunConfig(checkpointing=CONFIG.checkpointing, restart=FixedDelay(attempts=0))
    with pytest.raises(JobFailedError, match="worker 0") as failed:
        world.run(make_job(MemorySink()), config, workers=2)
    (note,) = failed.value.__notes__
    assert note == (
        "SimulatedWorld(3, Faults.of(Fault(kind='crash', at=200, run=1, target='worker 0', seconds=0.0))), run 1"
    )


def test_a_start_that_cannot_be_written_is_an_error_of_the_machine():
    for write in (1, 3):  # the proof that one can write, and the fence
        world = SimulatedWorld(1, Faults.of(Fault("failed_write", at=write)))
        with pytest.raises(MachineError, match="can't be written"):
            world.run(make_job(MemorySink()), CONFIG)


def test_a_run_that_takes_too_long_is_stuck():
    with pytest.raises(SimulationStuckError, match="nothing came of 100 steps"):
        SimulatedWorld(1).run(make_job(MemorySink()), CONFIG, workers=2, max_steps=100)


def test_run_to_end_starts_again_until_the_job_has_ended():
    plan = [Fault("crash", at=500, run=run, target="coordinator") for run in (1, 2, 3)]
    full = Fault("disk_full", at=1, run=4, seconds=1.0)
    world, sink = SimulatedWorld(1, Faults.of(*plan, full)), MemorySink()
    world.run_to_end(make_job(sink), CONFIG, workers=2)
    assert world.injected == [*plan, full]
    assert collections.Counter(sink.committed) == EXPECTED


def test_run_to_end_gives_up():
    plan = [Fault("crash", at=300, run=run, target="coordinator") for run in (1, 2)]
    with pytest.raises(SimulationStuckError, match="did not end in 2 runs"):
        SimulatedWorld(1, Faults.of(*plan)).run_to_end(make_job(MemorySink()), CONFIG, max_runs=2)


def test_run_to_end_raises_what_is_not_due_to_faults():
    env = StreamEnvironment("wrong")
    env.from_values([0]).map(lambda x: 1 / x).sink(MemorySink())
    config = RunConfig(checkpointing=CONFIG.checkpointing, restart=FixedDelay(attempts=1))
    with pytest.raises(StreamcoreError, match="ZeroDivisionError"):
        SimulatedWorld(1).run_to_end(env.compile(), config)


def test_a_memory_sink_is_one_for_all_simulated_workers_and_for_no_real_ones():
    sink = MemorySink()
    rebuild, (number,) = sink.__reduce__()
    assert rebuild(number) is sink
    del sink
    with pytest.raises(UsageError, match="lives in one process"):
        rebuild(number)


def test_urls_have_files_of_their_own():
    world, sink = SimulatedWorld(1), MemorySink()
    world.run(make_job(sink), RunConfig(checkpointing=Checkpointing("simulated://other", interval=0.002)))
    assert world.storage.files == {}
    assert world.storage_at("simulated://other/").files


def history(faults: Faults, seed: int) -> tuple[int, list[Fault], list[str]]:
    world = SimulatedWorld(seed, faults, traced=True)
    world.run_to_end(make_job(MemorySink()), CONFIG, workers=2)
    return world.digest, world.injected, world.trace


@pytest.mark.parametrize("seed", range(8))
def test_the_same_seed_replays_exactly_and_so_does_the_plan_of_what_came(seed):
    faults = Faults.of_every_kind(at_most=4, scale=3)
    digest, injected, trace = history(faults, seed)
    assert injected
    assert history(faults, seed) == (digest, injected, trace)
    assert history(Faults.of(*injected), seed) == (digest, injected, trace)


SCRIPT = """
from tests.unit.testing.test_simulated_world import Faults, history
print([history(Faults.of_every_kind(at_most=4, scale=3), seed)[:2] for seed in range(3)])
"""


def test_a_seed_replays_in_another_process_with_other_hashes():
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    here = [history(Faults.of_every_kind(at_most=4, scale=3), seed)[:2] for seed in range(3)]
    assert done.stdout.strip() == str(here)
