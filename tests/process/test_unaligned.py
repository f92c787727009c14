"""Unaligned checkpoints of real processes whose queues are full, killed and restored at another parallelism."""

import process_jobs as jobs
import pytest
from process_harness import counted

from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.parts import read_part
from streamcore.checkpoint.storage import open_storage

RECORDS = 1500


def in_flight(runs):
    storage = open_storage(str(runs.checkpoints))
    entries = CheckpointLog(storage).latest().subtasks
    parts = [read_part(storage, entry, allow_pickle=False).in_flight for entry in entries]
    return sum(bool(part.inputs) for part in parts), sum(bool(part.outputs) for part in parts)


@pytest.mark.parametrize(("mode", "loops"), [("--unaligned", True), ("--aligned-timeout=30ms", False)])
def test_what_was_in_flight_is_processed_once_after_a_kill_and_at_another_parallelism(runs, mode, loops):
    settings = {"records": RECORDS, "loops": loops}
    first = runs.start("held_up", "--workers", "2", mode, pause=0.001, **settings)
    first.wait_for("checkpoint complete", count=4)
    first.kill()
    inputs, outputs = in_flight(runs)
    assert inputs > 2
    assert outputs > 0
    options = ("--parallelism", "3", "--workers", "2", mode)
    runs.start("held_up", *options, restore="latest", pause=0, **settings).expect(0)
    expected = jobs.expected_hops(RECORDS) if loops else [{"n": n, "hop": 3, "seen": 1} for n in range(RECORDS)]
    assert counted(runs.rows("hops")) == counted(expected)
