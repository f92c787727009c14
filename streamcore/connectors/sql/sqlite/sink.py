"""SQLite tables as a sink: rows appended exactly once, or upserted."""

from __future__ import annotations

import contextlib
import os
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, get_args

from streamcore.batch import Batch, Schema, schema_of
from streamcore.connectors.base import JobStart, Sink, SinkContext, SinkWriter, TwoPhaseWriter
from streamcore.connectors.options import check_choice
from streamcore.connectors.sql.sqlite.file import (
    SqliteFile,
    check_types,
    quoted,
    quoted_list,
    sqlite_type,
    to_sqlite,
    transaction,
)
from streamcore.connectors.sql.sqlite.staging import Staging, new_run
from streamcore.errors import TopologyError, UsageError

Mode = Literal["append", "upsert"]
Delivery = Literal["exactly-once", "at-least-once"]

_BUFFER_ROWS = 10_000
_WAIT_S = 30.0


class SqliteSink(Sink[Any]):
    """Writes records into a table of a SQLite file: a column for each field. Has one subtask, as SQLite has one writer.

    `mode="append"` inserts every record. With `delivery="exactly-once"` rows wait in a table of the same file until
    their checkpoint is complete, and are moved in one transaction with a mark that they were. With
    `"at-least-once"` they are visible at once, and some may be there twice after a crash.

    `mode="upsert"` inserts or updates by `key`; of several records with one key the last one stays. Written at least
    once, which has the effect of once.

    Times are written as ISO texts, vectors, lists and structures as JSON; NaN becomes NULL.

    Args:
        path: the database file; is made if need be.
        table: must be there, or else `create`.
        mode: `append` or `upsert`.
        key: the column or columns of an upsert's key: a primary key or a unique index of the table.
        type: the records' type: a dataclass, a NamedTuple or a schema. None: the table's columns.
        create: make the table from `type` if it isn't there, with `key` as its primary key.
        delivery: `exactly-once` (default of append) or `at-least-once`.
        prefix: names the job's rows while they wait; two jobs must not run with the same one on one file: the second
            stops the first (FencedError). None: the job's name and the table's.

    Raises:
        UsageError: an option is wrong.
        TopologyError: `type` has no columns.
    """

    accepts = "any"
    parallelism = 1

    def __init__(
        self,
        path: str | os.PathLike[str],
        table: str,
        *,
        mode: Mode = "append",
        key: str | Sequence[str] = (),
        type: Any = None,  # noqa: A002 - the usual name
        create: bool = False,
        delivery: Delivery | None = None,
        prefix: str | None = None,
    ) -> None:
        if delivery is None:
            delivery = "exactly-once" if mode == "append" else "at-least-once"
        check_choice("mode", mode, get_args(Mode))
        check_choice("delivery", delivery, get_args(Delivery))
        if mode == "upsert" and delivery != "at-least-once":
            raise UsageError("an upsert is written at least once", hint="leave out delivery: its effect is once")
        self.key = (key,) if isinstance(key, str) else tuple(key)
        if bool(self.key) != (mode == "upsert"):
            raise UsageError("key=... belongs to mode='upsert', which needs it", hint="such as key='id'")
        self.schema: Schema | None = schema_of(type)
        if type is not None and self.schema is None:
            raise TopologyError(f"{type!r} has no columns", hint="give a dataclass, a NamedTuple or a schema")
        if create and self.schema is None:
            raise UsageError("create=True needs the type of the records", hint="give type=...")
        self.file = SqliteFile(os.fspath(path))
        self.table = table
        self.create = create
        self.delivery = delivery
        self.prefix = prefix
        self._run = 0  # with the prefix, known once the job is prepared

    @property
    def what(self) -> str:
        """What the sink does, for messages."""
        return f"write table {self.table!r} of"

    def prepare_job(self, start: JobStart) -> None:
        """Makes the file and the table if asked, and finds out whether it can be written.

        Raises:
            ConnectorError: it can't, or lacks the table, a column or a unique index.
            UsageError: SQLite has no form for a field of `type`.
        """
        if self.schema is not None:
            check_types(self.schema)
        with self.file.errors(self.what), contextlib.closing(self.file.connect("rwc", _WAIT_S)) as connection:
            if self.create:
                connection.execute(self._create_statement())
            found = self.file.schema(connection, self.table)
            if self.schema is None:
                self.schema = found
            connection.execute(f"EXPLAIN {self.insert_statement()}", [None] * len(self.schema.names))
            if self.delivery == "exactly-once":
                self._run = new_run(connection)
        if self.prefix is None:
            self.prefix = f"{start.job}/{self.table}"

    def writer(self, context: SinkContext) -> SinkWriter:
        """The writer of the one subtask."""
        if self.delivery == "at-least-once":
            return _DirectWriter(self)
        assert self.prefix is not None, "a writer without prepared job"
        return _StagingWriter(self, self.prefix, (self._run, context.epoch))

    @property
    def columns(self) -> Schema:
        """The columns that are written; known once the job is prepared."""
        assert self.schema is not None, "a writer without prepared job"
        return self.schema

    def insert_statement(self) -> str:
        """What writes one row."""
        names = self.columns.names
        conflict = ""
        if self.key:
            sets = [f"{quoted(name)} = excluded.{quoted(name)}" for name in names if name not in self.key]
            action = f"UPDATE SET {', '.join(sets)}" if sets else "NOTHING"
            conflict = f" ON CONFLICT ({quoted_list(self.key)}) DO {action}"
        marks = ", ".join("?" * len(names))
        return f"INSERT INTO {quoted(self.table)} ({quoted_list(names)}) VALUES ({marks}){conflict}"  # noqa: S608 - quoted

    def _create_statement(self) -> str:
        parts = [
            f"{quoted(field.name)} {sqlite_type(field)}{'' if field.nullable else ' NOT NULL'}"
            for field in self.columns.fields
        ]
        if self.key:
            parts.append(f"PRIMARY KEY ({quoted_list(self.key)})")
        return f"CREATE TABLE IF NOT EXISTS {quoted(self.table)} ({', '.join(parts)})"


class _BufferingWriter(SinkWriter):
    """Stores some rows at a time, in order; all of them before a snapshot."""

    def __init__(self, sink: SqliteSink) -> None:
        self._sink = sink
        self._rows: list[tuple[Any, ...]] = []
        self._connection = sink.file.connect("rw", _WAIT_S)

    @abstractmethod
    def _store(self, rows: list[tuple[Any, ...]]) -> None:
        """Stores rows, in a transaction."""

    def write(self, batch: Batch) -> None:
        self._rows += to_sqlite(batch, self._sink.columns)
        if len(self._rows) >= _BUFFER_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            with self._sink.file.errors(self._sink.what), transaction(self._connection):
                self._store(self._rows)
            self._rows = []

    def close(self) -> None:
        self._connection.close()


class _DirectWriter(_BufferingWriter):
    """Writes to the table itself."""

    def _store(self, rows: list[tuple[Any, ...]]) -> None:
        self._connection.executemany(self._sink.insert_statement(), rows)


class _StagingWriter(_BufferingWriter, TwoPhaseWriter):
    """Appends exactly once: see `staging`."""

    def __init__(self, sink: SqliteSink, prefix: str, attempt: tuple[int, int]) -> None:
        super().__init__(sink)
        names = sink.columns.names
        # another set of columns waits in another table
        table = f"streamcore_staged_{sink.table}_{zlib.crc32(repr(names).encode()):08x}"
        self._staging = Staging(self._connection, prefix, attempt, table, names)

    def abort_leftovers(self, prepared: Sequence[Any]) -> None:
        """Takes over, and deletes what waits of earlier attempts but not `prepared`."""
        with self._sink.file.errors(self._sink.what), transaction(self._connection):
            self._staging.take_over()

    def _store(self, rows: list[tuple[Any, ...]]) -> None:
        self._staging.add(rows)

    def prepare(self) -> list[Any]:
        self.flush()
        return self._staging.cut()

    def commit(self, handles: Sequence[Any]) -> None:
        for handle in handles:
            with self._sink.file.errors(self._sink.what), transaction(self._connection):
                self._staging.move(handle, self._sink.table, str(self._sink.file))

    def close(self) -> None:
        self._connection.close()
