"""Idleness and alignment over two processes: windows close without a silent split, also after a worker was killed."""

import os
import signal
from collections import Counter

import process_jobs as jobs
from process_harness import counted, until


def test_windows_close_without_a_silent_split_and_nothing_is_lost(runs, tmp_path):
    release = tmp_path / "release"
    options = ("--workers", "2", "--parallelism", "2", "--restart-attempts", "3")
    run = runs.start("silent_split", *options, rate=6000, release=release)
    until(lambda: _came_to(runs, 1500), "windows far behind the silent split")
    os.kill(run.workers[-1], signal.SIGKILL)
    run.wait_for("restarting")
    until(lambda: _came_to(runs, 2900), "the windows of the split that is not silent")
    release.touch()
    run.expect(0)
    rows = [row._asdict() for row in jobs.readings(0, 6000).to_rows()]
    assert counted(runs.rows("rows")) == counted(rows)
    windows = Counter((row["sensor"], row["window_start"]) for row in runs.rows("windows"))
    # no window is missing that the other split has readings in; the silent one has none beyond
    assert windows == dict.fromkeys(((row["sensor"], row["time"] // 100 * 100) for row in rows), 1)


def _came_to(runs, time_ms):
    return any(row["window_end"] >= time_ms for row in runs.rows("windows"))
