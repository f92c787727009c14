"""Windows over two processes, of which one is killed in the middle: the results are those of polars."""

import os
import signal

import polars as pl
import process_jobs as jobs
from process_harness import counted


def expected():
    t = pl.col("time")
    # of 100 ms every 40 ms: window k holds the times from 40 k up to, not including, 40 k + 100
    containing = pl.int_ranges((t - 100).floordiv(40) + 1, t.floordiv(40) + 1).alias("window")
    table = pl.from_arrow(jobs.readings(0, 6000).to_arrow()).with_columns(containing).explode("window")
    start = (pl.col("window") * 40).alias("window_start")
    groups = table.group_by("sensor", start, (start + 100).alias("window_end"))
    return groups.agg(max_time=t.max(), mean_value=pl.col("value").mean()).to_dicts()


def test_every_window_once_although_a_worker_is_killed(runs):
    run = runs.start("windows", "--workers", "2", "--parallelism", "2", "--restart-attempts", "3", rate=1500)
    run.wait_for("checkpoint complete", count=2)
    os.kill(run.workers[-1], signal.SIGKILL)
    run.expect(0)
    assert "restarting" in run.text
    results = runs.rows("windows")
    assert counted(results) == counted(expected())
    assert len(results) > 500
