"""A source as fast as it can, on one worker, before a slow sink on another: what is between them stays bounded.

    python tests/process/backpressure_job.py --seconds 60

prints the peak of each process' resident memory, its growth after the first second, and how far the source was
ahead of the sink. Source and sink note what they did in a file that both have mapped.
"""

import argparse
import dataclasses
import functools
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from process_harness import PAUSE_S, Run, until

from streamcore import StreamEnvironment
from streamcore.connectors.base import Sink, SinkWriter
from streamcore.connectors.generator_source import GeneratorSource

BATCH_SIZE, CREDITS = 1024, 4
SINK_BATCH_S = 0.02
PRODUCED, CONSUMED, AHEAD = range(3)
FORGOTTEN_S = 1.0
"""Growth counts from here: imports, first batches and buffers are done."""


@functools.cache
def notes(path: str) -> np.ndarray:
    return np.memmap(path, np.int64, "r+", shape=(3,))


def bound(credit_count: int) -> int:
    """The most records between the two, over one channel.

    A batch is sent when half a batch size has been gathered, and what completes it has up to a whole one: 1.5. There
    is one for each credit, one that waits for credit, and one that is being gathered. The sink's gate takes batches
    together until it has a batch size: up to 2.5; and the sink counts them when it has written them.
    """
    return int((credit_count + 2) * 1.5 * BATCH_SIZE + 2.5 * BATCH_SIZE)


def make(path: str, start: int, stop: int) -> list[int]:
    notes(path)[PRODUCED] = stop
    return list(range(start, stop))


class SlowSink(Sink[int]):
    """Takes its time for each batch."""

    parallelism = 1

    def __init__(self, path: str) -> None:
        self._path = path

    def writer(self, context):
        return SlowWriter(notes(self._path))


class SlowWriter(SinkWriter):
    def __init__(self, shared):
        self._shared = shared

    def write(self, batch):
        time.sleep(SINK_BATCH_S)
        shared = self._shared
        assert batch[0] == shared[CONSUMED], "records were lost or came out of order"
        shared[AHEAD] = max(shared[AHEAD], shared[PRODUCED] - shared[CONSUMED])
        shared[CONSUMED] += len(batch)


def build(env: StreamEnvironment, *, path: str, credit_count: int = CREDITS) -> None:
    env.settings = dataclasses.replace(env.settings, batch_size=BATCH_SIZE, channel_credits=credit_count)
    env.source(GeneratorSource(functools.partial(make, path))).sink(SlowSink(path)).start_new_chain()


@dataclasses.dataclass
class Measured:
    peak_mib: dict[int, float]
    growth_mib: dict[int, float]
    produced: int
    consumed: int
    ahead: int


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def measure(directory: Path, seconds: float, credit_count: int = CREDITS) -> Measured:
    """Runs the job for some seconds after its sink's first batch, then lets it drain."""
    path = directory / "notes"
    path.write_bytes(bytes(24))
    settings = ("--set", f"path={path}", "--set", f"credit_count={credit_count}")
    run = Run(directory / "log.txt", f"{__file__}:build", "--workers", "2", "--no-progress", *settings)
    try:
        shared = notes(str(path))
        until(lambda: shared[CONSUMED] or run.process.poll() is not None, "the sink's first batch")
        workers = run.workers
        assert len(workers) == 2, run.text
        begun = time.monotonic()
        peak, first = dict.fromkeys(workers, 0.0), {}
        while (past := time.monotonic() - begun) < seconds:
            for pid in workers:
                peak[pid] = max(peak[pid], resident_mib(pid))
            if past >= FORGOTTEN_S and not first:
                first = dict(peak)
            time.sleep(4 * PAUSE_S)
        run.process.terminate()
        run.expect(0)
    finally:
        run.kill()
    growth = {pid: peak[pid] - first.get(pid, 0.0) for pid in workers}
    return Measured(peak, growth, *(int(number) for number in shared))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--credits", type=int, default=CREDITS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backpressure-") as directory:
        measured = measure(Path(directory), options.seconds, options.credits)
    for pid, peak in measured.peak_mib.items():
        print(f"worker {pid}: peak {peak:.1f} MiB, {measured.growth_mib[pid]:+.1f} MiB after the first second")
    print(f"{measured.consumed:,} records; the source was up to {measured.ahead:,} ahead of the sink "
          f"(bound {bound(options.credits):,})")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
