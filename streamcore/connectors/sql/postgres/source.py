"""PostgreSQL tables and queries as a source: read once, or polled for changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from streamcore.batch import Schema, schema_of
from streamcore.connectors.base import ReaderContext, Source, SourceClient, Split, SplitReader
from streamcore.connectors.sql.postgres.column_types import query_schema, table_name, table_schema
from streamcore.connectors.sql.postgres.pages import Pages, Polling
from streamcore.connectors.sql.postgres.reader import PollingReader, SharedSession
from streamcore.connectors.sql.postgres.server import Server
from streamcore.errors import TopologyError, UsageError

_TIMES = ("timestamp without time zone", "timestamp with time zone", "date")


class PostgresSource(Source[Any]):
    """The rows of a table or query as columns, in the order of a column that grows: an id, or the time of a change.

    Asks every `every_s` seconds for rows that come after the last one read, by `order` and among equals by `key`. A
    row that is updated so that `order` grows is read again, with its new values; deletions aren't seen. Rows in which
    `order` or `key` is NULL are never read.

    A row that becomes visible after one that comes behind it in the order has been read is **missed**: transactions
    draw ids and times when they begin to write, and may commit in another order. Where transactions write at the same
    time, order by a time and give a `lag_s` that is longer than any of them takes.

    Args:
        conninfo: a connection string or URL; see `Server`.
        table: `table` or `schema.table`, or a view; or else
        query: a SELECT. An index on `order` and `key` makes each poll cheap.
        order: the column that grows: numbers, times or texts.
        key: a column that tells rows with the same `order` apart. None: there are none; else some would be missed.
        type: the rows' type: a dataclass, a NamedTuple or a schema, which may have some of the columns. None: all
            columns, as the table has them; numeric as float, times in UTC, what has no type of its own as text.
        stop: `"now"` ends with the rows that are there when the job starts; None: never.
        every_s: seconds between two polls when there is nothing new.
        lag_s: only rows whose `order`, a time, is at least so many seconds ago by the server's clock. A column
            without time zone must be in UTC.
        splits: into how many parts to divide the rows, by a hash of the key, to be read by as many subtasks. Can't
            be changed for a job that goes on from a snapshot.
        page_rows: how many rows are fetched at a time.

    Raises:
        ConnectorError: the server isn't there, doesn't let us in, or lacks the table.
        TopologyError: `type` has no columns.
        UsageError: an option is wrong.
    """

    def __init__(
        self,
        conninfo: str,
        table: str | None = None,
        *,
        query: str | None = None,
        order: str,
        key: str | None = None,
        type: Any = None,  # noqa: A002 - the usual name
        stop: str | None = None,
        every_s: float = 1.0,
        lag_s: float | None = None,
        splits: int = 1,
        page_rows: int = 10_000,
    ) -> None:
        if (table is None) == (query is None):
            raise UsageError("a PostgresSource reads a table or a query", hint="give one of the two")
        if stop not in (None, "now"):
            raise UsageError(f"stop={stop!r} is unknown", hint="use 'now', or None for a source that never ends")
        for name, value, least in (("every_s", every_s, 0.001), ("lag_s", lag_s or 0.0, 0.0),
                                   ("splits", splits, 1), ("page_rows", page_rows, 1)):  # fmt: skip
            if value < least:
                raise UsageError(f"{name}={value!r} is less than {least}")
        schema = schema_of(type)
        if type is not None and schema is None:
            raise TopologyError(f"{type!r} has no columns", hint="give a dataclass, a NamedTuple or a schema")
        self.server = Server(conninfo)
        self.bounded = stop == "now"
        name = f"table {table!r}" if table is not None else "the query"
        rows = _as_rows(table_name(table)) if table is not None else _as_rows(_subquery(query or ""))
        self.schema: Schema = schema if schema is not None else self._schema_there(table, rows, name)
        cursor = (order,) if key is None or key == order else (order, key)
        self.polling = Polling(rows, name, self.schema, cursor, self.bounded, every_s, lag_s, splits, page_rows)

    def splits(self) -> Sequence[Split]:
        """The parts, by the hash of the key; looks whether they can be read, and where they end.

        Raises:
            ConnectorError: the table or a column isn't there, or may not be read.
            UsageError: `lag_s` for an order that isn't a time.
        """
        polling, end = self.polling, None
        with self.server.connect() as connection:
            try:
                connection.execute(polling.probe())
                types = self._cursor_types(connection)
                if polling.lag_s is not None and types[0] not in _TIMES:
                    raise UsageError(
                        f"lag_s needs an order by time: column {polling.cursor[0]!r} is {types[0]}",
                        hint="order by the time of the last change, and give the id as key",
                    )
                if self.bounded and (found := connection.execute(polling.end()).fetchone()) is not None:
                    end = str(found[0])
            except psycopg.Error as error:
                raise self.server.explain(error, polling.what) from error
        return [Split(f"{n}/{polling.splits}", {"types": types, "end": end}) for n in range(polling.splits)]

    def client(self, context: ReaderContext) -> SourceClient:
        """The connection of a subtask's readers."""
        return SharedSession(self.server, context.waiting)

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader of one part; its offset is `[order, key]` of the last row read, as texts."""
        assert isinstance(context.client, SharedSession), "a reader without the client of its source"
        number = int(split.id.partition("/")[0])
        pages = Pages(self.polling, number, tuple(split.info["types"]), split.info["end"])
        return PollingReader(pages, offset, context, context.client)

    def hint_for_lost(self, split_id: str, splits: Sequence[Split]) -> str | None:
        """A part of another division can't be gone on with."""
        return f"the snapshot was taken with splits={split_id.partition('/')[2]}: give it again"

    def _schema_there(self, table: str | None, rows: sql.Composable, name: str) -> Schema:
        with self.server.connect() as connection:
            try:
                if table is not None:
                    return table_schema(connection, table, self.server)
                return query_schema(connection, rows)
            except psycopg.Error as error:
                raise self.server.explain(error, f"read {name}") from error

    def _cursor_types(self, connection: psycopg.Connection) -> list[str]:
        """The types of the columns of the order, as SQL calls them; without their lengths, but so that a value isn't
        cut off when it is cast to them, as it would be by `character`, which is one character."""
        described = connection.execute(self.polling.cursor_probe()).description or []
        types = [column.type_code for column in described]
        cursor = connection.execute("SELECT format_type(t, -1) FROM unnest(%s::oid[]) AS t", [types])
        return [name for (name,) in cursor.fetchall()]


def _subquery(query: str) -> sql.Composed:
    # on a line of its own the parenthesis isn't part of a comment at the end
    return sql.SQL("({}\n)").format(sql.SQL(query.strip().rstrip(";")))


def _as_rows(found: sql.Composable) -> sql.Composed:
    return sql.SQL("{} AS streamcore_rows").format(found)
