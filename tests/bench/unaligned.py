"""How long a checkpoint takes under heavy backpressure, aligned and unaligned: a slow sink behind full queues.

    python -m tests.bench.unaligned

Real processes: each run is a job on two workers, read from its log and killed when enough checkpoints are complete. The
chain has six keyed exchanges; in the loop each record goes round twice through six, and the sink stands behind its
body. A batch takes the sink as long as a slow database would. Durations are from the trigger to the manifest; the
first checkpoint doesn't count.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from streamcore import Checkpointing, CoProcessFunction, OutputTag, ProcessFunction, StreamEnvironment, ValueState
from streamcore.batch import Batch
from streamcore.connectors.base import Sink, SinkContext, SinkWriter
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.status import JobStatus

BATCH_SIZE = 256
SINK_BATCH_S = 0.05
KEYS = 1009
TURNS = 2
PARALLELISM = 4
EXCHANGES = 6
AGAIN = OutputTag("again")
TOPOLOGIES = ("chain", "loop")
GIVEN_UP_S = 120.0


class _Count(ProcessFunction[Any, Any]):
    """A count per key."""

    def open(self, ctx: Any) -> None:
        self._count = ctx.state(ValueState("count", 0))

    def process(self, record: Any, ctx: Any) -> None:
        self._count.set(self._count.get() + 1)
        ctx.emit(record)


class _Turn(CoProcessFunction[Any, Any, Any]):
    """The head of the loop: a count per key, and whether a record has come round often enough."""

    def open(self, ctx: Any) -> None:
        self._count = ctx.state(ValueState("count", 0))

    def process_first(self, record: Any, ctx: Any) -> None:
        self._count.set(self._count.get() + 1)
        ctx.emit(record)

    process_second = process_first


class _Again(ProcessFunction[Any, Any]):
    def process(self, record: Any, ctx: Any) -> None:
        number, turn = record
        if turn < TURNS:
            ctx.side_output(AGAIN, (number, turn + 1))
        ctx.emit(record)


class _SlowSink(Sink[Any]):
    """Takes its time for each batch."""

    parallelism = 1

    def writer(self, context: SinkContext) -> SinkWriter:
        return _SlowWriter()


class _SlowWriter(SinkWriter):
    def write(self, batch: Batch) -> None:
        time.sleep(SINK_BATCH_S)


def _numbers(start: int, stop: int) -> list[tuple[int, int]]:
    return [(number % KEYS, 0) for number in range(start, stop)]


def _by_key(record: tuple[int, int]) -> int:
    return record[0]


def _build(env: StreamEnvironment, topology: str) -> None:
    env.settings = dataclasses.replace(env.settings, batch_size=BATCH_SIZE)
    stream = env.source(GeneratorSource(_numbers, splits=2))
    if topology == "chain":
        for _ in range(EXCHANGES):
            stream = stream.key_by(_by_key).process(_Count())
    else:
        with env.loop() as loop:
            head = stream.connect(loop.feedback).key_by(_by_key, _by_key).process(_Turn())
            body: Any = head
            for _ in range(EXCHANGES - 2):
                body = body.key_by(_by_key).process(_Count())
            body = body.key_by(_by_key).process(_Again())
            loop.close(body.side_output(AGAIN))
        stream = body
    stream.sink(_SlowSink())


async def _tell(status: JobStatus) -> None:
    """Prints every complete checkpoint: its number, seconds, bytes in flight."""
    told = 0
    while True:
        await asyncio.sleep(0.002)
        last = status.last_checkpoint
        if last is not None and last.checkpoint_id != told:
            told = last.checkpoint_id
            print(told, last.duration_s, last.in_flight_bytes, flush=True)


def _run(topology: str, *, unaligned: bool, workers: int) -> None:
    with tempfile.TemporaryDirectory(prefix="streamcore-unaligned-") as directory:
        checkpoint = Checkpointing(directory, interval=1.0, unaligned=unaligned)
        env = StreamEnvironment("unaligned", checkpoint=checkpoint, workers=workers, parallelism=PARALLELISM)
        _build(env, topology)
        env.execute((_tell,))


def measure(topology: str, *, unaligned: bool, count: int, workers: int = 2) -> tuple[list[float], list[int]]:
    """The durations in seconds of `count` checkpoints after the first, and their bytes in flight."""
    command = [sys.executable, "-m", "tests.bench.unaligned", "--run", topology, "--workers", str(workers)]
    with subprocess.Popen(
        command + ["--unaligned"] * unaligned, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            told = [line.split() for line in _lines(process, count + 1)][1:]
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    return [float(seconds) for _, seconds, _ in told], [int(size) for _, _, size in told]


def _lines(process: subprocess.Popen[str], count: int) -> Iterator[str]:
    assert process.stdout is not None, "a run without output"
    until = time.monotonic() + GIVEN_UP_S
    for _ in range(count):
        line = process.stdout.readline()
        if not line or time.monotonic() > until:
            raise RuntimeError("the job ended, or its checkpoints take too long")
        yield line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", choices=TOPOLOGIES, help="run one job without end and print its checkpoints")
    parser.add_argument("--unaligned", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, default=5, help="checkpoints to measure in each run")
    options = parser.parse_args()
    if options.run:
        _run(options.run, unaligned=options.unaligned, workers=options.workers)
        return
    for topology in TOPOLOGIES:
        aligned, _ = measure(topology, unaligned=False, count=options.count, workers=options.workers)
        unaligned, in_flight = measure(topology, unaligned=True, count=options.count, workers=options.workers)
        ratio = median(aligned) / median(unaligned)
        print(
            f"{topology}: aligned {median(aligned) * 1e3:.0f} ms, unaligned {median(unaligned) * 1e3:.0f} ms "
            f"(longest {max(unaligned) * 1e3:.0f}), {ratio:.0f} x shorter, {median(in_flight) / 1e3:.0f} kB in flight"
        )


if __name__ == "__main__":
    main()
