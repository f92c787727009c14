"""State in RocksDB in processes that are killed: restored at another parallelism, with the results of a quiet run."""

import os
import signal

import process_jobs as jobs
from process_harness import counted, is_alive, until

from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.storage import open_storage
from streamcore.job.client import connect

RECORDS = 2000


def test_results_and_directories_after_kills(runs, short_directory):
    settings = {"records": RECORDS, "environment": {"TMPDIR": str(short_directory)}}
    options = ("--workers", "2", "--restart-attempts", "3", "--state-backend", "rocksdb")
    run = runs.start("loop", *options, "--parallelism", "2", rate=1000, **settings)
    run.wait_for("checkpoint complete", count=2)
    os.kill(run.workers[-1], signal.SIGKILL)
    run.wait_for("restarting")
    run.wait_for("checkpoint complete", count=4)
    workers = run.workers
    run.process.kill()
    run.process.wait()
    until(lambda: not any(map(is_alive, workers)), "the workers leave")
    runs.start("loop", *options, "--parallelism", "3", restore="latest", rate=1e6, **settings).expect(0)
    assert counted(runs.rows("hops")) == counted(jobs.expected_hops(RECORDS))
    place = short_directory / f"streamcore-{os.getuid()}"
    assert [path.name for path in place.glob("streamcore-rocksdb*")] == ["streamcore-rocksdb.lock"]


def test_a_savepoint_goes_from_rocksdb_to_memory(runs):
    run = runs.start("loop", "--state-backend", "rocksdb", records=RECORDS, rate=1000)
    run.wait_for("checkpoint complete")
    savepoint = connect("process_jobs").savepoint(None, stop=True, timeout=60)
    run.expect(0)
    (manifest,) = CheckpointLog(open_storage(savepoint)).checkpoints()
    assert any(part.tables for part in manifest.subtasks)
    assert not any(part.shared for part in manifest.subtasks)
    before = len(runs.rows("hops"))
    assert 0 < before < len(jobs.expected_hops(RECORDS))
    runs.start("loop", restore=savepoint, records=RECORDS, rate=1e6).expect(0)
    assert counted(runs.rows("hops")) == counted(jobs.expected_hops(RECORDS))
