"""Column types: Arrow's for streams, PostgreSQL's for tables."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pyarrow as pa
from psycopg import sql

from streamcore.batch import Field, Schema
from streamcore.errors import ConnectorError, UsageError

_TO_POSTGRES: dict[pa.DataType, str] = {
    pa.bool_(): "boolean",
    pa.int8(): "smallint",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.uint8(): "smallint",
    pa.uint16(): "integer",
    pa.uint32(): "bigint",
    pa.uint64(): "numeric(20)",
    pa.float16(): "real",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.large_string(): "text",
    pa.binary(): "bytea",
    pa.date32(): "date",
}
_TO_ARROW: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "numeric": pa.float64(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us"),
}


def postgres_type(field: Field) -> str:
    """The type of a table's column that holds such a field.

    Raises:
        UsageError: there is none.
    """
    if field.width or pa.types.is_list(field.type):
        return f"{postgres_type(Field(field.name, field.type.value_type))}[]"
    if pa.types.is_timestamp(field.type):
        return "timestamp" if field.type.tz is None else "timestamptz"
    found = _TO_POSTGRES.get(field.type)
    if found is None:
        raise UsageError(
            f"field {field.name!r} of type {field.type} has no column type in PostgreSQL",
            hint="make it text, a number, a time or a Vector before the sink",
        )
    return found


def arrow_type(type_name: str) -> pa.DataType:
    """The Arrow type of values of a PostgreSQL type, by its internal name; text for all that have none of their own
    (uuid, json, enums, ...); numeric as float64; times in UTC; arrays as lists."""
    if type_name.startswith("_"):  # how the type of an array is called
        return pa.list_(arrow_type(type_name[1:]))
    return _TO_ARROW.get(type_name, pa.string())


def table_name(name: str) -> sql.Identifier:
    """`table` or `schema.table` as an identifier."""
    return sql.Identifier(*name.split("."))


def table_schema(connection: psycopg.Connection, table: str, server: object) -> Schema:
    """The columns of a table or view; numbers are nullable where the table lets them be NULL.

    Raises:
        ConnectorError: there is no such table.
    """
    found = connection.execute(
        "SELECT attname, typname, attnotnull FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [table_name(table).as_string(connection)],
    ).fetchall()
    if not found:
        raise ConnectorError(
            f"{server} has no table {table!r}",
            hint="create it, or name its schema too (schema.table); a sink with a type makes it with create=True",
        )
    return Schema(tuple(Field(name, arrow_type(type_name), not not_null) for name, type_name, not_null in found))


def query_schema(connection: psycopg.Connection, query: sql.Composable) -> Schema:
    """The columns of a query's result, which may all be NULL."""
    cursor = connection.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(query))
    names = {info.oid: info.name for info in connection.adapters.types}
    return Schema(
        tuple(
            Field(column.name, arrow_type(names.get(column.type_code, "")), True) for column in cursor.description or []
        )
    )


def select_list(schema: Schema) -> sql.Composed:
    """The schema's columns, each cast to the type that its values are read as."""
    casts = [sql.SQL("{}::{}").format(sql.Identifier(f.name), sql.SQL(postgres_type(f))) for f in schema.fields]
    return sql.SQL(", ").join(casts)


def identifiers(names: Sequence[str]) -> sql.Composed:
    """The names, quoted, with commas between them."""
    return sql.SQL(", ").join(map(sql.Identifier, names))
