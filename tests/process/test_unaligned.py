"""Unaligned checkpoints of real processes whose queues are full, killed and restored at another parallelism."""

import signal

import process_jobs as jobs
import pytest
from process_harness import counted, until

from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.parts import read_part
from streamcore.checkpoint.storage import open_storage

RECORDS = 1500


def in_flight(runs):
    """How many subtasks have batches from their inputs, and for their outputs, in the newest checkpoint."""
    storage = open_storage(str(runs.checkpoints))
    entries = CheckpointLog(storage).latest().subtasks
    parts = [read_part(storage, entry, allow_pickle=False).in_flight for entry in entries]
    return sum(bool(part.inputs) for part in parts), sum(bool(part.outputs) for part in parts)


def kill_with_batches_in_flight(run, runs):
    """Kills the job when its newest checkpoint has some: a coordinator that stands still completes no newer one."""
    checkpoints = 3

    def killed():
        nonlocal checkpoints
        checkpoints += 1
        run.wait_for("checkpoint complete", count=checkpoints)
        run.signal(signal.SIGSTOP)
        inputs, outputs = in_flight(runs)
        if inputs > 2 and outputs > 0:
            run.kill()
            return True
        run.signal(signal.SIGCONT)
        return False

    until(killed, "a checkpoint has batches in flight")


@pytest.mark.parametrize(("mode", "loops"), [("--unaligned", True), ("--aligned-timeout=30ms", False)])
def test_what_was_in_flight_is_processed_once_after_a_kill_and_at_another_parallelism(runs, mode, loops):
    settings = {"records": RECORDS, "loops": loops}
    first = runs.start("held_up", "--workers", "2", mode, pause=0.001, **settings)
    kill_with_batches_in_flight(first, runs)
    options = ("--parallelism", "3", "--workers", "2", mode)
    runs.start("held_up", *options, restore="latest", pause=0, **settings).expect(0)
    expected = jobs.expected_hops(RECORDS) if loops else [{"n": n, "hop": 3, "seen": 1} for n in range(RECORDS)]
    assert counted(runs.rows("hops")) == counted(expected)
