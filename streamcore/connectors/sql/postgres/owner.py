"""Which attempt of which job may write with a prefix, and what earlier ones have left: see `transactions`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import re

import psycopg
from psycopg import errors, sql

from streamcore.errors import ConnectorError, FencedError

_TABLES = """
CREATE SEQUENCE IF NOT EXISTS streamcore_runs;
CREATE TABLE IF NOT EXISTS streamcore_owners (
    prefix text, subtask integer, run bigint NOT NULL, epoch bigint NOT NULL, PRIMARY KEY (prefix, subtask));
CREATE TABLE IF NOT EXISTS streamcore_transactions (
    prefix text, subtask integer, run bigint, epoch bigint, n bigint, prepared_at timestamptz DEFAULT now(),
    PRIMARY KEY (prefix, subtask, run, epoch, n));
"""
_LOCK = 0x73747265616D  # the advisory lock of whoever makes the tables
_PAUSE_S = 0.05
_LOCK_TIMEOUT = "SET lock_timeout = '500ms'"


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One start of a job.

    Attributes:
        tables: which tables of streamcore it uses, as `<oid of the database>.<oid of the table of owners>`: names of
            transactions are shared by all databases of a server, numbers of runs only by those who share the tables.
        number: later ones are greater.
    """

    tables: str
    number: int


def prepare_transactions(connection: psycopg.Connection, server: object) -> Run:
    """Makes the tables; a new run.

    Raises:
        ConnectorError: the server can't prepare transactions.
        psycopg.Error: the user may not make the tables.
    """
    setting = connection.execute("SHOW max_prepared_transactions").fetchone()
    if setting is None or int(setting[0]) == 0:
        raise ConnectorError(
            f"{server} can't prepare transactions, which exactly-once needs: max_prepared_transactions is 0",
            hint="set it in postgresql.conf to two for each subtask of the sink and some to spare, and restart the"
            " server; or take delivery='at-least-once' or mode='upsert'",
        )
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        there = connection.execute(
            "SELECT to_regclass('streamcore_runs'), to_regclass('streamcore_owners'),"
            " to_regclass('streamcore_transactions')"
        ).fetchone()
        if there is None or None in there:
            connection.execute(_TABLES)
        run = connection.execute(
            "SELECT oid, 'streamcore_owners'::regclass::oid, nextval('streamcore_runs')"
            " FROM pg_database WHERE datname = current_database()"
        ).fetchone()
        # what writers do to them later is tried now
        connection.execute("UPDATE streamcore_owners SET run = run WHERE false")
        connection.execute("DELETE FROM streamcore_transactions WHERE false")
    assert run is not None, "a sequence without value"
    return Run(f"{run[0]}.{run[1]}", int(run[2]))


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Attempt:
    """Who writes: the run (one start of a job) and its attempt; later ones are greater."""

    run: int
    epoch: int


@dataclasses.dataclass(frozen=True, slots=True)
class Transaction:
    """What the name of a transaction says."""

    prefix: str
    tables: str
    subtask: int
    attempt: Attempt
    n: int

    def __str__(self) -> str:
        return f"{self.prefix}-{self.tables}-{self.subtask}-{self.attempt.run}.{self.attempt.epoch}-{self.n}"

    @staticmethod
    def parse(gid: str) -> Transaction | None:
        """The transaction of that name; None: it isn't one of ours."""
        found = re.fullmatch(r"(.+)-(\d+\.\d+)-(\d+)-(\d+)\.(\d+)-(\d+)", gid)
        if found is None:
            return None
        prefix, tables, *numbers = found.groups()
        subtask, run, epoch, n = map(int, numbers)
        return Transaction(prefix, tables, subtask, Attempt(run, epoch), n)


class Owner:
    """One subtask's claim to write, for its own number and for those of subtasks that are no more."""

    def __init__(self, prefix: str, tables: str, subtask: int, parallelism: int, attempt: Attempt) -> None:
        self.prefix = prefix
        self.tables = tables
        self.subtask = subtask
        self.attempt = attempt
        self._parallelism = parallelism

    async def take_over(self, connection: psycopg.AsyncConnection) -> None:
        """Makes this attempt the owner, after which no other one has anything open or prepared in this subtask's
        share: sessions are ended, prepared transactions rolled back.

        Raises:
            FencedError: a later attempt or run is the owner.
            psycopg.Error: the server is gone, or refuses.
        """
        await connection.execute(
            "INSERT INTO streamcore_owners VALUES (%s, %s, 0, 0) ON CONFLICT DO NOTHING", [self.prefix, self.subtask]
        )
        await connection.execute(_LOCK_TIMEOUT)
        is_owner = False
        while not is_owner:
            numbers = await self._refuse_later(connection)
            await self._roll_back_leftovers(connection)
            for number in numbers:
                await self._end_sessions(connection, number)
            try:
                await connection.execute(
                    "UPDATE streamcore_owners SET run = %s, epoch = %s"
                    " WHERE prefix = %s AND subtask = ANY(%s) AND (run, epoch) <= (%s, %s)",
                    [*self._attempt, self.prefix, numbers, *self._attempt],
                )
                is_owner = True
            except (errors.LockNotAvailable, errors.DeadlockDetected):
                await asyncio.sleep(_PAUSE_S)  # somebody has begun or prepared a transaction meanwhile
        await connection.execute("RESET lock_timeout")
        await self._refuse_later(connection)

    async def check(self, connection: psycopg.AsyncConnection) -> None:
        """Raises FencedError when another run or attempt has taken over."""
        await self._refuse_later(connection)

    async def check_and_lock(self, connection: psycopg.AsyncConnection) -> None:
        """The same; and nobody can take over until the transaction has ended."""
        cursor = await connection.execute(
            "SELECT run, epoch FROM streamcore_owners WHERE prefix = %s AND subtask = %s FOR SHARE",
            [self.prefix, self.subtask],
        )
        found = await cursor.fetchone()
        if found is None:
            raise ConnectorError(f"somebody has deleted the row of {self.prefix!r} from streamcore_owners")
        self._refuse(Attempt(*found))

    async def hold_session(self, connection: psycopg.AsyncConnection) -> None:
        """Makes the connection one that others find and end when they take over. Ends those before it: what such a
        session was doing when we lost it is over then."""
        await self.check(connection)
        await self._end_sessions(connection, self.subtask)
        await connection.execute("SELECT pg_advisory_lock_shared(%s)", [self._lock(self.subtask)])

    @property
    def _attempt(self) -> tuple[int, int]:
        return self.attempt.run, self.attempt.epoch

    def _lock(self, number: int) -> int:
        name = f"streamcore/{self.tables}/{self.prefix}/{number}".encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:8], signed=True)

    async def _refuse_later(self, connection: psycopg.AsyncConnection) -> list[int]:
        """The numbers of this subtask's share, none of which a later attempt owns."""
        cursor = await connection.execute(
            "SELECT subtask, run, epoch FROM streamcore_owners WHERE prefix = %s AND subtask %% %s = %s",
            [self.prefix, self._parallelism, self.subtask],
        )
        found = await cursor.fetchall()
        for _, run, epoch in found:
            self._refuse(Attempt(run, epoch))
        return [number for number, _, _ in found]

    def _refuse(self, owner: Attempt) -> None:
        if owner > self.attempt:
            raise FencedError(
                f"another job writes with the prefix {self.prefix!r} now (run {owner.run}, this is {self.attempt.run})",
                hint="two sinks must not have one prefix at the same time: stop one of the jobs, or give prefix=...",
            )

    async def _roll_back_leftovers(self, connection: psycopg.AsyncConnection) -> None:
        cursor = await connection.execute(
            "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND starts_with(gid, %s)",
            [f"{self.prefix}-{self.tables}-"],
        )
        for (gid,) in await cursor.fetchall():
            found = Transaction.parse(gid)
            if found is None or (found.prefix, found.tables) != (self.prefix, self.tables):
                continue
            if found.attempt > self.attempt:
                continue
            if found.subtask % self._parallelism == self.subtask:
                # somebody else may be finishing it just now: then it holds the owner's row a little longer
                with contextlib.suppress(errors.UndefinedObject, errors.ObjectNotInPrerequisiteState):
                    await connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))

    async def _end_sessions(self, connection: psycopg.AsyncConnection, number: int) -> None:
        lock = self._lock(number)
        while True:
            cursor = await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND classid::bigint = %s AND objid::bigint = %s AND pid <> pg_backend_pid()",
                [lock >> 32 & 0xFFFFFFFF, lock & 0xFFFFFFFF],
            )
            if not await cursor.fetchall():
                return
            await asyncio.sleep(_PAUSE_S)
