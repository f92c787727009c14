"""A SQLite file: how to open it, its columns' types, and what its errors mean."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import Batch, Columns, Field, Schema, to_columns
from streamcore.errors import BadRecordError, ConnectorError, UsageError

_IN_JSON = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_string,
    pa.types.is_large_string,
)
_AS_COLUMNS = (
    *_IN_JSON,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_timestamp,
    pa.types.is_date,
)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_TRUTHS = {"true": True, "false": False}
_ROW_ERRORS = (sqlite3.IntegrityError, sqlite3.DataError, OverflowError)


@dataclasses.dataclass(frozen=True)
class SqliteFile:
    """A database file."""

    path: str

    def __str__(self) -> str:
        return f"SQLite file {self.path}"

    def open(self, mode: str, wait_s: float) -> sqlite3.Connection:
        """A connection that commits by itself, and waits so long for those who write; nothing is read yet.

        Args:
            mode: `ro` (must be there), `rw` (must be there) or `rwc`.

        Raises:
            ConnectorError: the file isn't there.
        """
        with self.errors("open"):
            uri = f"{Path(self.path).absolute().as_uri()}?mode={mode}"
            return sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False)

    def connect(self, mode: str, wait_s: float) -> sqlite3.Connection:
        """The same, and looks whether the file can be read.

        Raises:
            ConnectorError: the file isn't there or isn't a database, or somebody writes for longer than `wait_s`.
        """
        connection = self.open(mode, wait_s)
        try:
            with self.errors("open"):
                connection.execute("SELECT 1 FROM sqlite_master LIMIT 1")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Makes SQLite's errors those of users: `what` could not be done, such as "write table 'x' of"."""
        try:
            yield
        except _ROW_ERRORS as error:
            raise BadRecordError(f"can't {what} {self}: {error}", hint="the database refuses a row") from error
        except sqlite3.Error as error:
            raise ConnectorError(f"can't {what} {self}: {error}", hint=_hint(str(error))) from error

    def schema(self, connection: sqlite3.Connection, table: str) -> Schema:
        """The columns of a table or view, by the types that they are declared with.

        Raises:
            ConnectorError: there is no such table.
        """
        found = connection.execute('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', [table]).fetchall()
        if not found:
            raise ConnectorError(
                f"{self} has no table {table!r}", hint="create it; a sink with a type makes it with create=True"
            )
        return Schema(tuple(Field(name, _arrow_type(t), not (not_null or key)) for name, t, not_null, key in found))


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that nobody else's can come between; rolled back when an exception leaves it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def quoted(name: str) -> str:
    """The name as an identifier of SQL."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def quoted_list(names: Sequence[str]) -> str:
    """The names as identifiers, with commas between them."""
    return ", ".join(map(quoted, names))


def sqlite_type(field: Field) -> str:
    """The declared type of a column that holds such a field."""
    if pa.types.is_integer(field.type) or pa.types.is_boolean(field.type):
        return "INTEGER" if pa.types.is_integer(field.type) else "BOOLEAN"
    if pa.types.is_floating(field.type):
        return "REAL"
    return "BLOB" if pa.types.is_binary(field.type) else "TEXT"


def check_types(schema: Schema) -> None:
    """Whether SQLite has a form for values of these types.

    Raises:
        UsageError: a field has none: a time of day, say, or a list of bytes.
    """
    for field in schema.fields:
        if not _is_known(field.type, _AS_COLUMNS):
            raise UsageError(
                f"field {field.name!r} of type {field.type} can't be written to SQLite",
                hint="make it a text, a number, bytes, a date and time, or a list of texts or numbers before the sink",
            )


def to_sqlite(batch: Batch, schema: Schema) -> list[tuple[Any, ...]]:
    """The batch's rows as SQLite takes them: times as ISO texts, vectors, lists and structures as JSON,
    NaN as NULL.

    Raises:
        BadRecordError: a record isn't of the schema, or a time is finer than microseconds.
        TopologyError: columns lack one of the schema's.
    """
    columns = to_columns(batch, schema)
    return list(zip(*(_values(columns, field) for field in schema.fields), strict=True))


def from_sqlite(rows: list[Any], schema: Schema) -> Columns:
    """Rows that SQLite gave, which may have a value of any type anywhere, as columns.

    Raises:
        BadRecordError: a value isn't of the schema's type.
    """
    readers = [_reader(field) for field in schema.fields]
    try:
        read = [tuple(v if r is None or v is None else r(v) for r, v in zip(readers, row, strict=True)) for row in rows]
    except (TypeError, ValueError) as error:
        hint = "times are texts such as 2024-01-31 12:00:00, vectors and lists are JSON, booleans 0 and 1"
        raise BadRecordError(f"a value can't be read: {error}", hint=hint) from error
    return to_columns(read, schema)


def _reader(field: Field) -> Callable[[Any], Any] | None:
    if pa.types.is_boolean(field.type):
        return _truth
    if pa.types.is_timestamp(field.type):
        return datetime.datetime.fromisoformat
    if pa.types.is_date(field.type):
        return datetime.date.fromisoformat
    return json.loads if pa.types.is_nested(field.type) else None


def _truth(value: Any) -> bool:
    """As SQLite has truth, but that texts are read and not taken for 0."""
    if isinstance(value, int | float):
        return bool(value)
    found = _TRUTHS.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is neither true nor false")
    return found


def _is_known(type_: pa.DataType, kinds: Sequence[Callable[[pa.DataType], bool]]) -> bool:
    if pa.types.is_struct(type_):
        return all(_is_known(part.type, _IN_JSON) for part in type_.fields)
    if any(is_list(type_) for is_list in _LISTS):
        return _is_known(type_.value_type, _IN_JSON)
    return any(is_kind(type_) for is_kind in kinds)


def _values(columns: Columns, field: Field) -> Sequence[Any]:
    array = columns[field.name]
    if pa.types.is_timestamp(field.type):
        try:
            array = array.cast(pa.timestamp("us", field.type.tz))
        except pa.ArrowInvalid as error:
            raise BadRecordError(
                f"field {field.name!r} has a time that is finer than microseconds: {error}",
                hint="round it before the sink",
            ) from error
    values = array.tolist() if isinstance(array, np.ndarray) else array.to_pylist()
    if pa.types.is_timestamp(field.type):
        return [None if value is None else value.isoformat(" ") for value in values]
    if pa.types.is_date(field.type):
        return [None if value is None else value.isoformat() for value in values]
    return [None if v is None else json.dumps(v) for v in values] if pa.types.is_nested(field.type) else values


def _arrow_type(declared: str) -> pa.DataType:
    """By SQLite's own rules of affinity, but that names with BOOL are booleans, and times texts."""
    name = declared.upper()
    if "INT" in name:
        return pa.int64()
    if "BOOL" in name:
        return pa.bool_()
    if any(part in name for part in ("REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL")):
        return pa.float64()
    return pa.binary() if "BLOB" in name else pa.string()


def _hint(reason: str) -> str:
    if "locked" in reason or "busy" in reason:
        return "somebody else writes for a long time: is a transaction left open?"
    if "unable to open" in reason:
        return "is the file there, and may it and its directory be used?"
    if "ON CONFLICT" in reason:
        return "an upsert needs a primary key or a unique index on exactly the columns of `key`"
    return "the fields of the records must be columns of the table" if "no column" in reason else ""
