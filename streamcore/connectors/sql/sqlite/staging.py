"""Exactly once in one SQLite file: rows wait in a table of their own, and are moved when their checkpoint is complete.

Rows that wait belong to a **transaction**, the n-th of an attempt (run and epoch). Moving them to the table,
deleting them from where they waited and marking the transaction as done is one transaction of SQLite: doing it again
finds the mark. There is one mark for each attempt, the number of its last transaction that was moved, as they are moved
in their order. Rows with neither a mark nor as many of them waiting as there were are lost.

An **owner** says which attempt may write with a prefix; every transaction looks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from streamcore.connectors.sql.sqlite.file import quoted, quoted_list
from streamcore.errors import ConnectorError, FencedError

_TABLES = (
    "CREATE TABLE IF NOT EXISTS streamcore_runs (run INTEGER PRIMARY KEY AUTOINCREMENT)",
    "CREATE TABLE IF NOT EXISTS streamcore_owners (prefix TEXT PRIMARY KEY, run INTEGER, epoch INTEGER)",
    "CREATE TABLE IF NOT EXISTS streamcore_transactions"
    " (prefix TEXT, run INTEGER, epoch INTEGER, n INTEGER, PRIMARY KEY (prefix, run, epoch))",
)
_OURS = ("streamcore_prefix", "streamcore_run", "streamcore_epoch", "streamcore_n")


def new_run(connection: sqlite3.Connection) -> int:
    """Makes the tables; the number of a new run."""
    for statement in _TABLES:
        connection.execute(statement)
    return int(connection.execute("INSERT INTO streamcore_runs DEFAULT VALUES").lastrowid or 0)


class Staging:
    """The rows of one sink that wait. A handle is `[table they wait in, run, epoch, n, rows]`. All methods but `cut`
    are called within a transaction of SQLite.

    Args:
        table: where rows wait; is made here.
        names: their columns.
    """

    def __init__(
        self, connection: sqlite3.Connection, prefix: str, attempt: tuple[int, int], table: str, names: Sequence[str]
    ) -> None:
        self._connection = connection
        self._prefix = prefix
        self._attempt = attempt
        self._table = table
        self._n = 1
        self._rows = 0
        marks = ", ".join("?" * (len(_OURS) + len(names)))
        self._insert = f"INSERT INTO {quoted(table)} VALUES ({marks})"  # noqa: S608 - quoted
        self._create = f"CREATE TABLE IF NOT EXISTS {quoted(table)} ({quoted_list([*_OURS, *names])})"

    def take_over(self) -> None:
        """Makes this attempt the owner, and deletes what waits of others.

        Raises:
            FencedError: a later attempt or run is the owner.
        """
        self._connection.execute(self._create)
        self._refuse_later()
        run, epoch = self._attempt
        self._connection.execute(
            "INSERT OR REPLACE INTO streamcore_owners VALUES (?, ?, ?)", (self._prefix, run, epoch)
        )
        statement = f"DELETE FROM {quoted(self._table)} WHERE streamcore_prefix = ?"  # noqa: S608 - quoted
        self._connection.execute(statement, [self._prefix])

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows that wait for the next cut.

        Raises:
            FencedError: another job has taken over.
        """
        self._refuse_later()
        ours = (self._prefix, *self._attempt, self._n)
        self._connection.executemany(self._insert, [ours + row for row in rows])
        self._rows += len(rows)

    def cut(self) -> list[Any]:
        """The handle of the rows added since the last cut, if there are any."""
        if not self._rows:
            return []
        handle = [self._table, *self._attempt, self._n, self._rows]
        self._n, self._rows = self._n + 1, 0
        return [handle]

    def move(self, handle: Any, into: str, file: str) -> None:
        """Moves the rows of a handle to the table `into`, unless that was done before.

        Raises:
            ConnectorError: they are lost.
            FencedError: another job has taken over.
        """
        table, *of = handle[:4]
        self._refuse_later()
        marked = self._connection.execute(
            "SELECT 1 FROM streamcore_transactions WHERE prefix = ? AND run = ? AND epoch = ? AND n >= ?",
            [self._prefix, *of],
        ).fetchone()
        if marked is not None:
            return
        found = [row[0] for row in self._connection.execute("SELECT name FROM pragma_table_info(?)", [table])]
        names = quoted_list([name for name in found if name not in _OURS])
        where = f"FROM {quoted(table)} WHERE ({quoted_list(_OURS)}) = (?, ?, ?, ?)"
        moved = 0
        if found:
            moved = self._connection.execute(
                f"INSERT INTO {quoted(into)} ({names}) SELECT {names} {where} ORDER BY rowid", [self._prefix, *of]
            ).rowcount
        if moved != handle[4]:
            raise ConnectorError(
                f"rows for table {into!r} are lost: {handle[4]} waited in {table!r} of {file}, {moved} are there now",
                hint="the file was set back or changed by hand; restore an older checkpoint, or start anew",
            )
        self._connection.execute(f"DELETE {where}", [self._prefix, *of])
        self._connection.execute(
            "INSERT OR REPLACE INTO streamcore_transactions VALUES (?, ?, ?, ?)", [self._prefix, *of]
        )

    def _refuse_later(self) -> None:
        row = self._connection.execute(
            "SELECT run, epoch FROM streamcore_owners WHERE prefix = ?", [self._prefix]
        ).fetchone()
        if row is not None and tuple(row) > self._attempt:
            raise FencedError(
                f"another job writes with the prefix {self._prefix!r} now (run {row[0]}, this is {self._attempt[0]})",
                hint="two sinks must not have one prefix at the same time: stop one of the jobs, or give prefix=...",
            )
