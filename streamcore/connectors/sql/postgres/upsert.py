"""Upserts: COPY into a temporary table, and from there one INSERT ... ON CONFLICT for each batch.

Measured against a pipeline of single upserts: five times as fast at 10,000 rows, as fast at 100, half as fast at 1.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import psycopg
from psycopg import sql

from streamcore.connectors.base import SinkContext
from streamcore.connectors.sql.postgres.column_types import identifiers, table_name
from streamcore.connectors.sql.postgres.rows import Chunk, Group, joined
from streamcore.connectors.sql.postgres.writer import AppendingWriter, Table, copy_rows

_NUMBER = "streamcore_n"
_NAME = "streamcore_staged"
_STALE_ROWS = 1_000


class UpsertingWriter(AppendingWriter):
    """Writes at least once; rows are numbered, and of those with one key the last one stays."""

    def __init__(self, table: Table, context: SinkContext) -> None:
        super().__init__(table, context)
        self._staged_rows: dict[tuple[str, ...], int] = {}  # columns → rows in their temporary table
        self._first = 0

    async def set_up(self, connection: psycopg.AsyncConnection) -> None:
        self._staged_rows = {}

    async def send(self, chunks: Sequence[Chunk]) -> None:
        async def upsert(connection: psycopg.AsyncConnection) -> None:
            first = self._first
            for group in joined(chunks):
                await self._upsert(connection, group, first)
                first += group.rows

        await self.session.run(upsert, self.what)
        self._first += sum(chunk.rows for chunk in chunks)

    async def _upsert(self, connection: psycopg.AsyncConnection, group: Group, first: int) -> None:
        names = group.names
        name = f"{_NAME}_{zlib.crc32(repr(names).encode()):08x}"
        table, staged = table_name(self.table.name), sql.Identifier("pg_temp", name)
        columns, key, number = identifiers(names), identifiers(self.table.key), sql.Identifier(_NUMBER)
        async with connection.transaction():
            if names not in self._staged_rows:
                await connection.execute(
                    sql.SQL("CREATE TEMPORARY TABLE {} AS SELECT {}, 0::bigint AS {} FROM {} WITH NO DATA").format(
                        sql.Identifier(name), columns, number, table
                    )
                )
            elif self._staged_rows[names] > _STALE_ROWS:  # emptying it takes longer than a small upsert
                await connection.execute(sql.SQL("TRUNCATE {}").format(staged))
                self._staged_rows[names] = 0
            self._staged_rows[names] = self._staged_rows.get(names, 0) + group.rows
            await copy_rows(connection, staged, [*names, _NUMBER], group.parts)
            # in the order of their keys, so that subtasks don't lock each other out
            await connection.execute(
                sql.SQL(
                    "INSERT INTO {} ({}) SELECT DISTINCT ON ({}) {} FROM {} WHERE {} >= {} ORDER BY {}, {} DESC{}"
                ).format(
                    table, columns, key, columns, staged, number, first, key, number,
                    self.table.on_conflict(names),
                )
            )  # fmt: skip
