"""The disk of the checkpoints is full for a while: that checkpoint fails and says so, the job goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from disk_full_driver import RATE, RECORDS
from process_harness import counted
from process_jobs import expected_counts, expected_rows

from streamcore.connectors.file_sink import read_jsonl

DRIVER = Path(__file__).parent / "disk_full_driver.py"


def test_a_full_disk_fails_a_checkpoint_and_not_the_job(tmp_path):
    may_mount = subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False)
    if may_mount.returncode != 0:
        pytest.skip(f"this machine lets nobody mount a disk of his own: {may_mount.stderr.decode().strip()}")
    command = ["unshare", "--map-root-user", "--mount", sys.executable, DRIVER, tmp_path]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    log = (tmp_path / "log.txt").read_text()
    assert done.returncode == 0, done.stderr + log
    failed = next(line for line in log.splitlines() if "checkpoint failed" in line)
    assert "No space left on device" in failed
    assert f"{tmp_path}/disk" in failed
    assert "restarts: 0" in log
    assert f"{RECORDS:,} records" in log
    assert RECORDS / RATE > 2  # it lasted long enough for all that
    assert counted(read_jsonl(tmp_path / "out/rows")) == counted(expected_rows(RECORDS))
    assert counted(read_jsonl(tmp_path / "out/counts")) == counted(expected_counts(RECORDS))
    assert ".tmp" not in done.stdout  # no half-written file stays
