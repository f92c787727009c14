"""What all writers of PostgreSQL tables have in common, and the one that stores rows as they come."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from streamcore.batch import Batch, Schema
from streamcore.connectors.base import AsyncSinkWriter, SinkContext
from streamcore.connectors.sql.postgres.column_types import identifiers, table_name
from streamcore.connectors.sql.postgres.rows import Chunk, encode, joined
from streamcore.connectors.sql.postgres.server import Server
from streamcore.connectors.sql.postgres.session import Session

QUEUE_BYTES = 8 << 20
"""A writer with so many bytes that are not on their way yet is full."""


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """The table written to; with a key, rows are upserted."""

    server: Server
    name: str
    schema: Schema | None
    key: tuple[str, ...] = ()

    def on_conflict(self, names: Sequence[str]) -> sql.Composable:
        """The clause that makes an insert an upsert; nothing without key."""
        if not self.key:
            return sql.SQL("")
        others = [name for name in names if name not in self.key]
        action: sql.Composable = sql.SQL("NOTHING")
        if others:
            sets = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in others]
            action = sql.SQL("UPDATE SET {}").format(sql.SQL(", ").join(sets))
        return sql.SQL(" ON CONFLICT ({}) DO {}").format(identifiers(self.key), action)

    async def copy(self, connection: psycopg.AsyncConnection, chunks: Sequence[Chunk]) -> None:
        """Appends the rows."""
        for group in joined(chunks):
            await copy_rows(connection, table_name(self.name), group.names, group.parts)


async def copy_rows(
    connection: psycopg.AsyncConnection, into: sql.Composable, names: Sequence[str], parts: Sequence[bytes]
) -> None:
    """Appends rows in CSV to a table."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(into, identifiers(names))
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for part in parts:
            await copy.write(part)


class PostgresWriter(AsyncSinkWriter):
    """Encodes what is written, and hands it on in order to a task that sends it; so are the cuts of the barriers."""

    def __init__(self, table: Table, context: SinkContext) -> None:
        self.table = table
        self.context = context
        self.what = f"write to table {table.name!r}"
        self.session = Session(table.server, context.waiting, self.set_up)
        self._queue: deque[Chunk | asyncio.Future[Sequence[Any]]] = deque()
        self._queued_bytes = 0
        self._rows = 0
        self._has_work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self, prepared: Sequence[Any]) -> None:
        """Connects; waits for a server that can't be reached.

        Raises:
            StreamcoreError: it doesn't let us in, or what the snapshot had prepared can't be committed.
        """
        await self.begin(prepared)
        self._task = asyncio.get_running_loop().create_task(self._send_all(), name=f"postgres {self.table.name}")

    def write(self, batch: Batch) -> None:
        """Encodes the batch; it is sent beside the stream.

        Raises:
            BadRecordError: a record isn't of the type.
        """
        if len(batch) == 0:
            return
        chunk = encode(batch, self.table.schema, self._rows if self.table.key else None)
        self._rows += chunk.rows
        self._queue.append(chunk)
        self._queued_bytes += len(chunk.data)
        self._has_work.set()

    @property
    def is_full(self) -> bool:
        """Whether too much is waiting to be sent."""
        return self._queued_bytes >= QUEUE_BYTES

    def prepare(self) -> Awaitable[Sequence[Any]]:
        """Done when all that was written is durable, or prepared."""
        cut: asyncio.Future[Sequence[Any]] = asyncio.get_running_loop().create_future()
        self._queue.append(cut)
        self._has_work.set()
        return cut

    async def close(self) -> None:
        """Closes the connections; a transaction that is open is rolled back by the server."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.session.drop()

    async def set_up(self, connection: psycopg.AsyncConnection) -> None:
        """What a new connection begins with."""

    @abstractmethod
    async def begin(self, prepared: Sequence[Any]) -> None:
        """Connects and deals with what earlier attempts have left."""

    @abstractmethod
    async def send(self, chunks: Sequence[Chunk]) -> None:
        """Sends the rows."""

    @abstractmethod
    async def cut(self) -> Sequence[Any]:
        """Makes durable, or prepares, what was sent since the last cut; its handles."""

    async def _send_all(self) -> None:
        try:
            while True:
                await self._has_work.wait()
                self._has_work.clear()
                while self._queue:
                    await self._send_next()
        except Exception as error:  # noqa: BLE001 - the subtask fails with it
            self.context.fail(error)

    async def _send_next(self) -> None:
        chunks: list[Chunk] = []
        cut: asyncio.Future[Sequence[Any]] | None = None
        while self._queue and cut is None:
            item = self._queue.popleft()
            if isinstance(item, Chunk):
                chunks.append(item)
            else:
                cut = item
        if chunks:
            was_full = self.is_full
            self._queued_bytes -= sum(len(chunk.data) for chunk in chunks)
            if was_full:
                self.context.wake()
            await self.send(chunks)
        if cut is not None:
            handles = await self.cut()
            if not cut.done():
                cut.set_result(handles)


class AppendingWriter(PostgresWriter):
    """Appends at least once: whatever has come while the rows before were being stored is stored together."""

    async def begin(self, prepared: Sequence[Any]) -> None:
        await self.session.run(nothing, self.what)

    async def send(self, chunks: Sequence[Chunk]) -> None:
        await self.session.run(lambda connection: self.table.copy(connection, chunks), self.what)

    async def cut(self) -> Sequence[Any]:
        return ()


async def nothing(connection: psycopg.AsyncConnection) -> None:
    """For the connection alone."""
