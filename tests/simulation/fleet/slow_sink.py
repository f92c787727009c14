"""A two-phase sink that stands for a service: everything it does takes its time, beside the stream."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Sequence
from typing import Any

from streamcore.batch import Batch, to_rows
from streamcore.connectors.base import AsyncSinkWriter, SinkContext
from tests.simulation.fleet.audit import Audit, AuditedSink, AuditedStorage

LONGEST_S = 0.0015
LONGEST_COMMIT_S = 0.03
"""Long enough for checkpoints to be made while one is being committed."""
ROOM = 6


class SlowSink(AuditedSink):
    """The same promises as an `AuditedSink`; its delays come from the seed."""

    asynchronous = True

    def __init__(self, name: str, audit: Audit, storage: AuditedStorage, seed: int) -> None:
        super().__init__(name, audit, storage)
        self._chance = random.Random(f"{seed}/{name}")

    def writer(self, context: SinkContext) -> AsyncSinkWriter:
        return _SlowWriter(self, context)

    async def delay(self, longest_s: float = LONGEST_S) -> None:
        """Takes some time."""
        await asyncio.sleep(self._chance.uniform(0, longest_s))


class _SlowWriter(AsyncSinkWriter):
    def __init__(self, sink: SlowSink, context: SinkContext) -> None:
        self._sink = sink
        self._context = context
        self._waiting: list[Any] = []
        self._sent: list[Any] = []
        self._sending: asyncio.Task[None] | None = None

    async def open(self, prepared: Sequence[Any]) -> None:
        await self.commit(prepared)
        context = self._context
        self._sink.discard(context.subtask, context.parallelism, context.epoch, set(prepared))

    def write(self, batch: Batch) -> None:
        self._waiting.extend(to_rows(batch))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= ROOM

    def prepare(self) -> Awaitable[Sequence[Any]]:
        rows = [*self._sent, *self._waiting]
        self._sent, self._waiting = [], []
        return self._prepared(rows)

    async def commit(self, handles: Sequence[Any]) -> None:
        await self._sink.delay(LONGEST_COMMIT_S)
        self._sink.commit(handles)

    async def close(self) -> None:
        if self._sending is not None:
            self._sending.cancel()

    async def _prepared(self, rows: list[Any]) -> list[Any]:
        await self._sink.delay()
        return [self._sink.put(f"{self._context.subtask}-{self._context.epoch}", rows)] if rows else []

    async def _send(self) -> None:
        while self._waiting:
            await self._sink.delay()
            self._sent.extend(self._waiting[:ROOM])
            del self._waiting[:ROOM]
            self._context.wake()
