"""Exactly once by two-phase commit: one transaction for each checkpoint and subtask.

A transaction is called `<prefix>-<tables>-<subtask>-<run>.<epoch>-<n>`; run and epoch say which attempt of which job
it is of, and `tables` which tables below count the runs: other databases and schemas have their own.

    first rows      BEGIN, lock the owner's row, insert the marker     a run that isn't the owner stops: FencedError
    rows            COPY                                               kept in memory too, to be sent again
    barrier         PREPARE TRANSACTION                                its handle goes into the snapshot
    complete        COMMIT PREPARED, older markers deleted
    lost connection the open transaction is gone: sent again as a new one. While preparing: it is looked up

**Markers** (`streamcore_transactions`) are rows written inside the transactions. Those of one attempt are committed in
their order, so a transaction was committed if its marker is there, or a later one of the same attempt; if there is
neither, and it isn't prepared, it is lost for certain: rolled back by somebody, or the server was set back.

**Owners** (`streamcore_owners`) say for each prefix and subtask which attempt may write. A transaction holds a shared
lock on its owner's row from its beginning until it is committed, and whoever takes over changes that row: so after a
takeover nothing of the attempts before can be open, prepared or begun. Sessions that are in the way are ended: they
are found by an advisory lock that they hold.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors, sql

from streamcore.connectors.base import SinkContext
from streamcore.connectors.sql.postgres.owner import Attempt, Owner, Run, Transaction
from streamcore.connectors.sql.postgres.rows import Chunk
from streamcore.connectors.sql.postgres.session import Session
from streamcore.connectors.sql.postgres.writer import PostgresWriter, Table
from streamcore.errors import ConnectorError

logger = logging.getLogger("streamcore.connectors")

_PAUSE_S = 0.05


@dataclasses.dataclass(slots=True)
class _Open:
    """What was written since the last cut."""

    kept: list[Chunk] = dataclasses.field(default_factory=list)
    kept_bytes: int = 0
    is_whole: bool = True  # all of it is kept
    rows: int = 0
    sent: int = 0  # chunks of `kept` that are in the transaction
    connection: psycopg.AsyncConnection | None = None  # on which the transaction is open
    preparing: Transaction | None = None


class TransactionWriter(PostgresWriter):
    """Appends exactly once. A handle is `[name of the transaction, rows]`.

    Args:
        run: this start of the job.
        replay_bytes: how much of an open transaction is kept to be sent again.
        is_strict: whether a lost transaction is an error; else it is a warning.
    """

    def __init__(
        self, table: Table, context: SinkContext, prefix: str, run: Run, replay_bytes: int, *, is_strict: bool
    ) -> None:
        super().__init__(table, context)
        attempt = Attempt(run.number, context.epoch)
        self._owner = Owner(prefix, run.tables, context.subtask, context.parallelism, attempt)
        self._replay_bytes = replay_bytes
        self._is_strict = is_strict
        self._control = Session(table.server, context.waiting)
        self._n = 0
        self._open = _Open()

    async def begin(self, prepared: Sequence[Any]) -> None:
        """Commits `prepared`, makes this attempt the owner, and rolls back what others had prepared."""

        async def take_over(connection: psycopg.AsyncConnection) -> None:
            for gid, rows in prepared:
                await self._commit(connection, gid, rows)
            await self._owner.take_over(connection)

        await self._control.run(take_over, self.what)
        await self.session.run(self._owner.check, self.what)

    async def set_up(self, connection: psycopg.AsyncConnection) -> None:
        await self._owner.hold_session(connection)

    async def send(self, chunks: Sequence[Chunk]) -> None:
        self._open.kept += chunks
        self._open.kept_bytes += sum(len(chunk.data) for chunk in chunks)
        self._open.rows += sum(chunk.rows for chunk in chunks)
        await self.session.run(self._send, self.what)
        if self._open.kept_bytes > self._replay_bytes:
            self._open.kept, self._open.sent, self._open.is_whole = [], 0, False

    async def cut(self) -> Sequence[Any]:
        if not self._open.rows:
            return []
        await self.session.run(self._prepare, self.what)
        assert self._open.preparing is not None, "prepared without a name"
        handle = [str(self._open.preparing), self._open.rows]
        self._open = _Open()
        return [handle]

    async def commit(self, handles: Sequence[Any]) -> None:
        """Commits what was prepared; while the server can't be reached, waits for it.

        Raises:
            ConnectorError: a transaction is lost.
            FencedError: another job has taken over.
        """

        async def commit_all(connection: psycopg.AsyncConnection) -> None:
            for gid, rows in handles:
                await self._commit(connection, gid, rows)

        await self._control.run(commit_all, self.what)

    async def close(self) -> None:
        await super().close()
        await self._control.drop()

    async def _send(self, connection: psycopg.AsyncConnection) -> None:
        """Sends what isn't in the open transaction yet; everything if that was lost."""
        if self._open.connection is not connection:
            await self._begin_transaction(connection)
        await self.table.copy(connection, self._open.kept[self._open.sent :])
        self._open.sent = len(self._open.kept)

    async def _begin_transaction(self, connection: psycopg.AsyncConnection) -> None:
        if not self._open.is_whole:
            raise ConnectorError(
                f"{self.table.server} was lost with {self._open.kept_bytes >> 10} KiB of rows in an open transaction,"
                " more than are kept for that",
                hint="the job goes on from its last checkpoint; take checkpoints more often, or raise replay_bytes",
            )
        self._n += 1
        self._open.sent = 0
        await connection.execute("BEGIN")
        await self._owner.check_and_lock(connection)
        owner = self._owner
        await connection.execute(
            "INSERT INTO streamcore_transactions VALUES (%s, %s, %s, %s, %s)",
            [owner.prefix, owner.subtask, owner.attempt.run, owner.attempt.epoch, self._n],
        )
        self._open.connection = connection

    async def _prepare(self, connection: psycopg.AsyncConnection) -> None:
        if self._open.preparing is not None:
            # the connection was lost meanwhile; the session that was to prepare has been ended: see `hold_session`
            cursor = await connection.execute(
                "SELECT 1 FROM pg_prepared_xacts WHERE database = current_database() AND gid = %s",
                [str(self._open.preparing)],
            )
            if await cursor.fetchone() is not None:
                return
            self._open.preparing = None
        await self._send(connection)
        owner = self._owner
        self._open.preparing = Transaction(owner.prefix, owner.tables, owner.subtask, owner.attempt, self._n)
        done = await connection.execute(
            sql.SQL("PREPARE TRANSACTION {}").format(sql.Literal(str(self._open.preparing)))
        )
        assert done.statusmessage == "PREPARE TRANSACTION", "the server rolled back instead of preparing"

    async def _commit(self, connection: psycopg.AsyncConnection, gid: str, rows: int) -> None:
        transaction = Transaction.parse(gid)
        assert transaction is not None, f"{gid!r} is not the name of a transaction"
        is_over = False
        while not is_over:
            try:
                await connection.execute(sql.SQL("COMMIT PREPARED {}").format(sql.Literal(gid)))
                is_over = True
            except errors.UndefinedObject:
                is_over = True
                if not await _was_committed(connection, transaction):
                    await self._lost(connection, gid, rows)
            except errors.ObjectNotInPrerequisiteState:
                await asyncio.sleep(_PAUSE_S)  # somebody else is finishing it just now
        await connection.execute(
            "DELETE FROM streamcore_transactions"
            " WHERE prefix = %s AND subtask = %s AND run = %s AND epoch = %s AND n < %s",
            _row(transaction),
        )

    async def _lost(self, connection: psycopg.AsyncConnection, gid: str, rows: int) -> None:
        await self._owner.check(connection)
        what = (
            f"{rows} rows for table {self.table.name!r} are lost: transaction {gid!r} was prepared on"
            f" {self.table.server}, and is neither prepared nor committed any more"
        )
        if self._is_strict:
            hint = (
                "somebody rolled it back, or the server was set back to a time before; restore an older checkpoint,"
                " or go on without these rows by on_lost='warn'"
            )
            raise ConnectorError(what, hint=hint)
        logger.warning("%s; going on without them", what)


async def _was_committed(connection: psycopg.AsyncConnection, transaction: Transaction) -> bool:
    """Whether the marker of the transaction is there, or of a later one of its attempt."""
    cursor = await connection.execute(
        "SELECT 1 FROM streamcore_transactions"
        " WHERE prefix = %s AND subtask = %s AND run = %s AND epoch = %s AND n >= %s LIMIT 1",
        _row(transaction),
    )
    return await cursor.fetchone() is not None


def _row(transaction: Transaction) -> list[Any]:
    attempt = transaction.attempt
    return [transaction.prefix, transaction.subtask, attempt.run, attempt.epoch, transaction.n]
