"""Records whose only copy is on the back edge at the moment of the snapshot."""

import collections

import pytest

from streamcore import Checkpointing, CoProcessFunction, OutputTag, StreamEnvironment
from streamcore.batch import plain
from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.snapshot_file import SubtaskSnapshot
from streamcore.job.config import RunConfig
from streamcore.runtime.alignment import Alignment
from streamcore.testing import MemorySink, SimulatedWorld

RECORDS, HOPS = 12, 400
AGAIN = OutputTag("again")


class Travel(CoProcessFunction):
    """Keeps nothing: a record is nowhere but on its way, until it has hopped enough."""

    def process_first(self, record, ctx):
        number, hop = record
        if hop < HOPS:
            ctx.side_output(AGAIN, (number, hop + 1))
        else:
            ctx.emit(number)

    process_second = process_first


def make_job(sink: MemorySink):
    env = StreamEnvironment("travel", parallelism=2, batch_size=1, buffer_timeout=0)
    values = env.from_values([(number, 0) for number in range(RECORDS)])
    with env.loop() as loop:
        travel = values.connect(loop.feedback).key_by(lambda r: r, lambda r: r).process(Travel())
        loop.close(travel.side_output(AGAIN))
    travel.sink(sink)
    return env.compile()


def run_and_crash(seed: int) -> tuple[int, collections.Counter[int]]:
    """Lets the source end, crashes in mid-loop, restores; returns the logged records of the snapshot and the output."""
    world, sink = SimulatedWorld(seed), MemorySink()
    job = make_job(sink)
    config = RunConfig(checkpointing=Checkpointing("simulated://", interval=0.003))
    assert world.run(job, config, crash_after=1500) is None, "the job was over before the crash"
    assert not sink.committed, "records came out before the crash"
    manifest = CheckpointLog(world.storage).latest()
    source = next(subtask for subtask in manifest.subtasks if subtask.vertex == 0)
    assert source.finished, "the source still had records"
    snapshots = [SubtaskSnapshot.decode(world.storage.get(s.file), allow_pickle=False) for s in manifest.subtasks]
    logs = [body for snapshot in snapshots for channel in snapshot.in_flight.inputs for _, body in channel.elements]
    logged = sum(len(plain.decode(body)) for body in logs)
    config.restore = "latest"
    world.run(job, config)
    return logged, collections.Counter(sink.committed)


@pytest.mark.parametrize("seed", range(20))
def test_they_are_in_the_snapshot_and_come_out_once(seed):
    logged, committed = run_and_crash(seed)
    assert logged == RECORDS  # the operators keep nothing, so every record is in the log
    assert committed == collections.Counter(range(RECORDS))


def test_without_the_log_they_are_lost(monkeypatch):
    captured = Alignment.captured
    monkeypatch.setattr(Alignment, "captured", lambda self: captured(self) and [])
    logged, committed = run_and_crash(seed=0)
    assert logged == 0
    assert not committed
