"""Runs a job whose checkpoints are on a disk that becomes full, in namespaces of its own where it may mount one.

unshare --map-root-user --mount python tests/process/disk_full_driver.py DIRECTORY
"""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from process_harness import Runs, until

RECORDS, RATE, DISK_BYTES = 40_000, 10_000, 4 << 20


def fill(path: Path) -> None:
    """Takes all the room that is left."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def main(directory: Path) -> None:
    disk = directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
    runs = Runs(directory)
    runs.checkpoints = disk / "checkpoints"
    try:
        run = runs.start(
            "numbers", "--workers", "2", "--checkpoint-interval", "300ms", "--restart-attempts", "0",
            records=RECORDS, rate=RATE,
        )  # fmt: skip
        run.wait_for("checkpoint complete", 2)
        fill(disk / "filler")
        run.wait_for("checkpoint failed")
        (disk / "filler").unlink()
        newest = runs.checkpoint_ids()[-1]
        until(lambda: runs.checkpoint_ids()[-1] > newest, "a checkpoint after there was room again")
        run.expect(0)
        left = {str(path.relative_to(runs.checkpoints)) for path in runs.checkpoints.rglob("*") if path.is_file()}
        print("left:", *sorted(left))
    finally:
        runs.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
