"""Record by record against batches: what it costs to have `x + 1` done by another process.

An engine's process sends int64 numbers to a function's process over a Unix socket, gets them back plus one, and adds
them up; both use the data plane that jobs use (`runtime/connection.py`, `batch/wire.py`). One way has one record in
a frame, the other batches of 8,192. The share of exchange is the part of the time in which no `x + 1` was done.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from streamcore import Columns, Schema
from streamcore.batch import Batch
from streamcore.batch.wire import WireDecoder, WireEncoder
from streamcore.runtime.connection import Connection, FrameKind, connect, listen
from tests.bench.workloads import Measured

NUMBER = Schema.of(x=np.int64)
BATCH = 8192
FRAMES_IN_FLIGHT = {1: 1024, BATCH: 16}
BYTES_PER_RECORD = 8
_COLUMNS, _ROWS, _DECODER = WireEncoder(NUMBER), WireEncoder(None), WireDecoder(NUMBER)


def exchange(records: int, batch_size: int) -> Measured:
    """One pass over the numbers 0..records-1; the limit is the same `x + 1` without another process."""
    with tempfile.TemporaryDirectory() as scratch:
        address, secret = f"{scratch}/socket", secrets.token_bytes(32)
        command = [sys.executable, "-m", "tests.bench.exchange", address]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as function:
            assert function.stdin is not None, "no standard input"
            assert function.stdout is not None, "no standard output"
            function.stdin.write(secret)
            function.stdin.close()
            function.stdout.readline()  # it listens
            seconds, total, busy_s = asyncio.run(_drive(address, secret, records, batch_size))
    started = time.perf_counter()
    wanted = sum(_sum(_plus_one(batch)) for batch in _batches(records, batch_size))
    limit_s = time.perf_counter() - started
    share, rate = 1 - busy_s / seconds, records * BYTES_PER_RECORD / seconds / 1e6
    facts = {"mb_per_s": rate, "exchange_share": share}
    note = f"{rate:.2f} MB/s, {share:.1%} of the time in exchange"
    return Measured(records, seconds, limit_s, total == wanted, note, facts)


def _batches(records: int, batch_size: int) -> Iterator[Batch]:
    if batch_size == 1:
        yield from ([number] for number in range(records))
        return
    numbers = np.arange(records)
    for start in range(0, records, batch_size):
        yield Columns(NUMBER, {"x": numbers[start : start + batch_size]})


def _plus_one(batch: Batch) -> Batch:
    if isinstance(batch, Columns):
        return Columns(NUMBER, {"x": batch["x"] + 1})
    return [x + 1 for x in batch]


def _sum(batch: Batch) -> int:
    return int(batch["x"].sum()) if isinstance(batch, Columns) else sum(batch)


def _send(connection: Connection, batch: Batch) -> None:
    kind, body = (_COLUMNS if isinstance(batch, Columns) else _ROWS).encode(batch)
    connection.send(FrameKind.BATCH, body, detail=kind)


def _received(detail: int, body: Any) -> Batch:
    return _DECODER.decode(detail, body)


async def _drive(address: str, secret: bytes, records: int, batch_size: int) -> tuple[float, int, float]:
    """The engine's side: (seconds, sum of what came back, seconds in which the function was at work).

    The second of two equal passes counts: the first finds both processes cold.
    """
    engine = _Engine(FRAMES_IN_FLIGHT[batch_size])
    connection = await connect(address, secret, engine.take, engine.lost)
    batches = list(_batches(records, batch_size))
    await engine.run(connection, batches)
    result = await engine.run(connection, batches)
    connection.close()
    return result


class _Engine:
    """Sends batches, at most so many ahead of the answers, and adds up the answers."""

    def __init__(self, most_in_flight: int) -> None:
        self._most_in_flight = most_in_flight
        self._in_flight = 0
        self._total = 0
        self._room = asyncio.Event()
        self._over: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def run(self, connection: Connection, batches: Sequence[Batch]) -> tuple[float, int, float]:
        self._total, self._over = 0, asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        for batch in batches:
            while self._in_flight >= self._most_in_flight:
                self._room.clear()
                await self._room.wait()
            _send(connection, batch)
            self._in_flight += 1
        connection.send(FrameKind.END)
        busy_s = await self._over
        return time.perf_counter() - started, self._total, busy_s

    def take(self, _: Connection, kind: int, detail: int, __: Any, body: Any) -> None:
        if kind == FrameKind.END:
            self._over.set_result(json.loads(bytes(body)))
            return
        self._total += _sum(_received(detail, body))
        self._in_flight -= 1
        self._room.set()

    def lost(self, _: Connection) -> None:
        if not self._over.done():
            self._over.set_exception(ConnectionResetError("the function's process has gone"))


async def _serve(address: str, secret: bytes) -> None:
    """The function's side: answers until the engine goes away."""
    busy_s = 0.0
    gone = asyncio.get_running_loop().create_future()

    def take(connection: Connection, kind: int, detail: int, _: Any, body: Any) -> None:
        nonlocal busy_s
        if kind == FrameKind.END:
            connection.send(FrameKind.END, json.dumps(busy_s).encode())
            busy_s = 0.0
            return
        batch = _received(detail, body)
        started = time.perf_counter()
        result = _plus_one(batch)
        busy_s += time.perf_counter() - started
        _send(connection, result)

    server = await listen(address, secret, take, lambda _: gone.set_result(None))
    print("listening", flush=True)
    await gone
    server.close()


def all_workloads(records: int = 2_000_000) -> Iterator[tuple[str, int, Callable[[], Measured]]]:
    """(name, workers, run)."""
    yield "exchange x + 1, a record a frame", 2, partial(exchange, records // 10, 1)
    yield "exchange x + 1, batches of 8,192", 2, partial(exchange, records, BATCH)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.stdin.buffer.read()))
