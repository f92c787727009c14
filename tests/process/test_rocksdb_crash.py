"""State in RocksDB in processes that are killed: restored at another parallelism, with the results of a quiet run."""

import os
import signal

import process_jobs as jobs
from process_harness import counted, is_alive, until

RECORDS = 2000


def test_results_and_directories_after_kills(runs, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    settings = {"records": RECORDS, "environment": {"TMPDIR": str(scratch)}}
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
    assert [path.name for path in (scratch / f"streamcore-{os.getuid()}").iterdir()] == ["streamcore-rocksdb.lock"]
