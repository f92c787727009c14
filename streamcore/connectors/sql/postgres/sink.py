"""PostgreSQL tables as a sink: rows appended exactly once, or upserted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

import psycopg
from psycopg import sql

from streamcore.batch import Schema, schema_of
from streamcore.connectors.base import AsyncSinkWriter, JobStart, Sink, SinkContext
from streamcore.connectors.options import check_choice
from streamcore.connectors.sql.postgres.column_types import identifiers, postgres_type, table_name, table_schema
from streamcore.connectors.sql.postgres.owner import Run, prepare_transactions
from streamcore.connectors.sql.postgres.rows import check_types
from streamcore.connectors.sql.postgres.server import Server
from streamcore.connectors.sql.postgres.transactions import TransactionWriter
from streamcore.connectors.sql.postgres.upsert import UpsertingWriter
from streamcore.connectors.sql.postgres.writer import AppendingWriter, Table
from streamcore.errors import ConnectorError, TopologyError, UsageError

Mode = Literal["append", "upsert"]
Delivery = Literal["exactly-once", "at-least-once"]
OnLost = Literal["fail", "warn"]

_PREFIX = re.compile(r"[A-Za-z0-9_.:/-]{1,120}")


class PostgresSink(Sink[Any]):
    """Writes records into a table: a column for each field.

    `mode="append"` inserts every record. With `delivery="exactly-once"` the rows of a checkpoint are one transaction
    for each subtask, prepared on the barrier (`PREPARE TRANSACTION`) and committed when the checkpoint is complete: a
    reader sees each row once, whatever crashes. The server needs `max_prepared_transactions`. With
    `"at-least-once"` rows are visible at once, and some may be there twice after a crash.

    `mode="upsert"` inserts or updates by `key`; of several records with one key the last one stays. Written at least
    once, which has the effect of once: after a crash older values may be there again until the job has caught up.

    While the server can't be reached the sink waits and goes on by itself. The rows of an open transaction are kept
    for that, up to `replay_bytes`; if there are more, an outage makes the job restart from its last checkpoint.

    Args:
        conninfo: a connection string or URL; see `Server`.
        table: `table` or `schema.table`.
        mode: `append` or `upsert`.
        key: the column or columns of an upsert's key: a primary key or a unique index of the table.
        type: the records' type, where they are dicts or plain tuples, and for `create`: a dataclass, a NamedTuple or
            a schema. None: that of columns and typed rows, else that of the table.
        create: make the table from `type` if it isn't there, with `key` as its primary key.
        delivery: `exactly-once` (default of append; needs checkpoints) or `at-least-once`.
        prefix: of the transactions' names; two jobs must not run with the same one: the second stops the first
            (FencedError). None: the job's name and the table's.
        on_lost: what to do when a transaction of the restored snapshot is neither prepared nor committed: `fail`, or
            `warn` in the log and go on without its rows.
        replay_bytes: how many bytes of an open transaction are kept in memory for an outage.

    Raises:
        UsageError: an option is wrong.
        TopologyError: a field of `type` has no column form.
    """

    accepts = "any"
    asynchronous = True

    def __init__(
        self,
        conninfo: str,
        table: str,
        *,
        mode: Mode = "append",
        key: str | Sequence[str] = (),
        type: Any = None,  # noqa: A002 - the usual name
        create: bool = False,
        delivery: Delivery | None = None,
        prefix: str | None = None,
        on_lost: OnLost = "fail",
        replay_bytes: int = 64 << 20,
    ) -> None:
        if delivery is None:
            delivery = "exactly-once" if mode == "append" else "at-least-once"
        check_choice("mode", mode, get_args(Mode))
        check_choice("delivery", delivery, get_args(Delivery))
        check_choice("on_lost", on_lost, get_args(OnLost))
        if mode == "upsert" and delivery != "at-least-once":
            raise UsageError(
                "an upsert is written at least once", hint="its effect is exactly once: leave out delivery"
            )
        self.key = (key,) if isinstance(key, str) else tuple(key)
        if bool(self.key) != (mode == "upsert"):
            raise UsageError("key=... belongs to mode='upsert', which needs it", hint="such as key='id'")
        if prefix is not None and not _PREFIX.fullmatch(prefix):
            raise UsageError(
                f"{prefix!r} can't be the prefix of transactions", hint="up to 120 letters, digits and _ . : / -"
            )
        self.schema: Schema | None = schema_of(type)
        if type is not None and self.schema is None:
            raise TopologyError(f"{type!r} has no columns", hint="give a dataclass, a NamedTuple or a schema")
        if create and self.schema is None:
            raise UsageError("create=True needs the type of the records", hint="give type=...")
        self.server = Server(conninfo)
        self.table = table
        self.mode = mode
        self.create = create
        self.delivery = delivery
        self.prefix = prefix
        self.on_lost = on_lost
        self.replay_bytes = replay_bytes
        self._run: Run | None = None  # known once the job is prepared

    def prepare_job(self, start: JobStart) -> None:
        """Creates the table if asked, and finds out whether it can be written.

        Raises:
            ConnectorError: it can't: the server isn't there, lets nobody in, lacks the table, a column, a unique
                index or a right, or can't prepare transactions.
            UsageError: exactly-once without checkpoints, or a field of `type` that can't be written.
        """
        if self.delivery == "exactly-once" and start.checkpoint_interval_s is None:
            raise UsageError(
                "a PostgresSink is exactly-once by checkpoints, and there are none",
                hint="give the job checkpoints, or the sink delivery='at-least-once'",
            )
        if self.schema is not None:
            check_types(self.schema)
        with self.server.connect() as connection:
            try:
                if self.create:
                    connection.execute(self._create_statement())
                found = table_schema(connection, self.table, self.server)
                if self.schema is None:
                    self.schema = found
                self._try_insert(connection, self.schema)
                if self.delivery == "exactly-once":
                    self._run = prepare_transactions(connection, self.server)
            except psycopg.Error as error:
                raise self.server.explain(error, f"write to table {self.table!r}") from error

    def writer(self, context: SinkContext) -> AsyncSinkWriter:
        """The writer of one subtask."""
        table = Table(self.server, self.table, self.schema, self.key)
        if self.key:
            return UpsertingWriter(table, context)
        if self.delivery == "at-least-once":
            return AppendingWriter(table, context)
        assert self._run is not None, "a writer without prepared job"
        prefix = self.prefix if self.prefix is not None else _as_prefix(f"{context.job}/{self.table}")
        return TransactionWriter(table, context, prefix, self._run, self.replay_bytes, is_strict=self.on_lost == "fail")

    def _create_statement(self) -> sql.Composed:
        assert self.schema is not None, "a table was to be created without type"
        parts = [
            sql.SQL("{} {}{}").format(
                sql.Identifier(field.name),
                sql.SQL(postgres_type(field)),
                sql.SQL("" if field.nullable else " NOT NULL"),
            )
            for field in self.schema.fields
        ]
        if self.key:
            parts.append(sql.SQL("PRIMARY KEY ({})").format(identifiers(self.key)))
        return sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(table_name(self.table), sql.SQL(", ").join(parts))

    def _try_insert(self, connection: psycopg.Connection, schema: Schema) -> None:
        """Lets the server plan an insert of nothing, which checks table, columns, index and rights."""
        nothing = sql.SQL("SELECT {} WHERE false").format(sql.SQL(", ").join([sql.NULL] * len(schema.names)))
        statement = sql.SQL("EXPLAIN INSERT INTO {} ({}) {}").format(
            table_name(self.table), identifiers(schema.names), nothing
        )
        table = Table(self.server, self.table, schema, self.key)
        connection.execute(sql.SQL("{}{}").format(statement, table.on_conflict(schema.names)))
        missing = self._missing_right(connection, schema)
        if missing is not None:
            raise ConnectorError(
                f"can't write to table {self.table!r}: {self.server}: permission denied for {missing}",
                hint="GRANT it to the user",
            )

    def _missing_right(self, connection: psycopg.Connection, schema: Schema) -> str | None:
        """A right that planning doesn't ask for: that to draw from the sequence of a column that isn't written, and
        that to make the temporary table of an upsert."""
        name = table_name(self.table).as_string(connection)
        sequence = connection.execute(
            "SELECT sequence FROM pg_attribute, pg_get_serial_sequence(%s, attname) AS sequence"
            " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped AND atthasdef AND attidentity = ''"
            " AND attname <> ALL(%s) AND NOT has_sequence_privilege(sequence, 'USAGE, UPDATE')",
            [name, name, list(schema.names)],
        ).fetchone()
        if sequence is not None:
            return f"sequence {sequence[0]}: USAGE"
        may = connection.execute("SELECT has_database_privilege(current_database(), 'TEMPORARY')").fetchone()
        return "the database: TEMPORARY" if self.key and may == (False,) else None


def _as_prefix(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.:/-]", "_", name)[:120]
