"""SQLite tables and queries as a source: read once, or polled for changes."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from typing import Any

from streamcore.batch import Batch, Schema, schema_of
from streamcore.connectors.base import ReaderContext, Source, Split, SplitReader
from streamcore.connectors.sql.sqlite.file import SqliteFile, from_sqlite, quoted, quoted_list
from streamcore.errors import TopologyError, UsageError

_BUSY_S = 0.02
_WAIT_S = 10.0


class SqliteSource(Source[Any]):
    """The rows of a table or query as columns, in the order of a column that grows: an id, or the time of a change.

    Asks every `every_s` seconds for rows that come after the last one read, by `order` and among equals by `key`.
    A row that is updated so that `order` grows is read again; deletions aren't seen, nor rows in which `order` or
    `key` is NULL. SQLite has one writer at a time, so ids become visible in their order and none is missed.

    Args:
        path: the database file.
        table: a table or view; or else
        query: a SELECT.
        order: the column that grows.
        key: a column that tells rows with the same `order` apart. None: there are none; else some would be missed.
        type: the rows' type: a dataclass, a NamedTuple or a schema, which may have some of the columns; times are
            read from ISO texts, vectors, lists and structures from JSON. None: the table's columns by their declared
            types; needed with `query`.
        stop: `"now"` ends with the rows that are there when the job starts; None: never.
        every_s: seconds between two polls when there is nothing new.

    Raises:
        ConnectorError: the file or the table isn't there.
        TopologyError: `type` has no columns.
        UsageError: an option is wrong.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        table: str | None = None,
        *,
        query: str | None = None,
        order: str,
        key: str | None = None,
        type: Any = None,  # noqa: A002 - the usual name
        stop: str | None = None,
        every_s: float = 1.0,
    ) -> None:
        if (table is None) == (query is None):
            raise UsageError("a SqliteSource reads a table or a query", hint="give one of the two")
        if query is not None and type is None:
            raise UsageError("a query's columns have no declared types", hint="give type=...")
        if stop not in (None, "now"):
            raise UsageError(f"stop={stop!r} is unknown", hint="use 'now', or None for a source that never ends")
        if every_s <= 0:
            raise UsageError(f"every_s={every_s!r} isn't positive")
        self.file = SqliteFile(os.fspath(path))
        self.rows = quoted(table) if table is not None else f"({(query or '').strip().rstrip(';')}\n)"
        self.what = f"read table {table!r} of" if table is not None else "run the query on"
        self.cursor = (order,) if key is None or key == order else (order, key)
        self.bounded = stop == "now"
        self.every_s = every_s
        schema = schema_of(type)
        if type is not None and schema is None:
            raise TopologyError(f"{type!r} has no columns", hint="give a dataclass, a NamedTuple or a schema")
        self.schema: Schema = schema if schema is not None else self._schema_there(str(table))

    def splits(self) -> Sequence[Split]:
        """The one split, and where it ends.

        Raises:
            ConnectorError: the table or a column isn't there.
        """
        order = quoted(self.cursor[0])
        with self.file.errors(self.what), contextlib.closing(self.file.connect("ro", _WAIT_S)) as connection:
            # what is in double quotes and no column would be a text for SQLite
            there = [column[0] for column in connection.execute(f"SELECT * FROM {self.rows} LIMIT 0").description]  # noqa: S608 - quoted
            if missing := [name for name in (*self.schema.names, *self.cursor) if name not in there]:
                raise sqlite3.OperationalError(f"there is no column {missing[0]!r}")
            end = connection.execute(f"SELECT max({order}) FROM {self.rows}").fetchone()[0] if self.bounded else None  # noqa: S608
        return [Split("rows", end)]

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader; its offset is `[order, key]` of the last row read."""
        return _SqliteReader(self, split.info, offset, context)

    def _schema_there(self, table: str) -> Schema:
        with contextlib.closing(self.file.connect("ro", _WAIT_S)) as connection:
            return self.file.schema(connection, table)


class _SqliteReader(SplitReader):
    def __init__(self, source: SqliteSource, end: Any, offset: Any, context: ReaderContext) -> None:
        self.offset: list[Any] | None = offset
        self._source = source
        self._end = end
        self._context = context
        self._connection = source.file.open("ro", 0.0)  # somebody may be writing: `poll` waits for that

    def poll(self, limit: int) -> Batch | None:
        """The next rows; none while somebody writes.

        Raises:
            BadRecordError: a value isn't of the type.
            ConnectorError: the file is damaged, or gone.
        """
        source = self._source
        self.wake_at = None
        with source.file.errors(source.what):
            try:
                rows = self._connection.execute(*self._page(limit)).fetchall()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise
                self.wake_at = self._context.now() + _BUSY_S
                return None
        width = len(source.schema.fields)
        if rows:
            self.offset = list(rows[-1][width:])
        elif source.bounded:
            self.exhausted = True
        else:
            self.wake_at = self._context.now() + source.every_s
        return from_sqlite([row[:width] for row in rows], source.schema) if rows else None

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _page(self, limit: int) -> tuple[str, list[Any]]:
        source, parameters = self._source, []
        cursor = quoted_list(source.cursor)
        conditions = [f"{quoted(name)} IS NOT NULL" for name in source.cursor]
        if self.offset is not None:
            conditions.append(f"({cursor}) > ({', '.join('?' * len(source.cursor))})")
            parameters += self.offset
        if source.bounded:
            conditions.append(f"{quoted(source.cursor[0])} <= ?")
            parameters.append(self._end)
        columns = quoted_list(source.schema.names)
        return (
            f"SELECT {columns}, {cursor} FROM {source.rows} WHERE {' AND '.join(conditions)}"  # noqa: S608 - quoted
            f" ORDER BY {cursor} LIMIT {limit}",
            parameters,
        )
