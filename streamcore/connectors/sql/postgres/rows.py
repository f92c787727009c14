"""Batches as what COPY takes: CSV, made by Arrow, many times faster than a value at a time.

In CSV an empty value without quotes is NULL for COPY, one with quotes an empty text: that is how Arrow writes them.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from streamcore.batch import Batch, Columns, Schema, schema_of, to_columns
from streamcore.errors import BadRecordError, UsageError

_OPTIONS = pacsv.WriteOptions(include_header=False)
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
_WRITTEN = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_string,
    pa.types.is_large_string,
    *_BYTES,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """Rows on their way to COPY: the names of their columns, and the rows as CSV."""

    names: tuple[str, ...]
    data: bytes
    rows: int


@dataclasses.dataclass(slots=True)
class Group:
    """Chunks with the same columns."""

    names: tuple[str, ...]
    parts: list[bytes] = dataclasses.field(default_factory=list)
    rows: int = 0


def check_types(schema: Schema) -> None:
    """Whether values of these types can be written: whatever PostgreSQL would read as another value can't.

    Raises:
        UsageError: a field is a structure, a map, a duration, or a list of such.
    """
    for field in schema.fields:
        type_ = field.type
        while any(is_list(type_) for is_list in _LISTS):
            type_ = type_.value_type
        if not any(is_known(type_) for is_known in _WRITTEN):
            raise UsageError(
                f"field {field.name!r} of type {field.type} can't be written to PostgreSQL",
                hint="make it a text, a number, a time or a list of such before the sink: a duration its seconds, a"
                " structure JSON",
            )


def encode(batch: Batch, schema: Schema | None, numbered_from: int | None = None) -> Chunk:
    """The batch as CSV. Columns and typed rows have their own schema; `schema` is that of other rows. With
    `numbered_from` a last column without name numbers the rows.

    Raises:
        BadRecordError: a record isn't of the schema, or a value has no form in CSV.
        UsageError: the rows have no fields, or one that can't be written.
    """
    columns = to_columns(batch, _schema_of_batch(batch, schema))
    check_types(columns.schema)
    record_batch = columns.to_arrow()
    arrays = [_plain(array, name) for array, name in zip(record_batch.columns, record_batch.schema.names, strict=True)]
    if numbered_from is not None:
        arrays.append(pa.array(range(numbered_from, numbered_from + len(columns)), pa.int64()))
    sink = io.BytesIO()
    pacsv.write_csv(pa.RecordBatch.from_arrays(arrays, [str(i) for i in range(len(arrays))]), sink, _OPTIONS)
    return Chunk(columns.schema.names, sink.getvalue(), len(columns))


def joined(chunks: Sequence[Chunk]) -> list[Group]:
    """The chunks in order, those with the same columns one after the other together."""
    groups: list[Group] = []
    for chunk in chunks:
        if not groups or groups[-1].names != chunk.names:
            groups.append(Group(chunk.names))
        groups[-1].parts.append(chunk.data)
        groups[-1].rows += chunk.rows
    return groups


def _schema_of_batch(batch: Batch, schema: Schema | None) -> Schema:
    if isinstance(batch, Columns):
        return batch.schema
    row_type: Any = type(batch[0])
    found = _row_schema(row_type) or schema
    if found is None:
        raise UsageError(
            f"the sink doesn't know the columns of a {row_type.__name__}",
            hint="make the rows a dataclass or a NamedTuple with annotations, or give the sink their type",
        )
    return found


@functools.cache
def _row_schema(row_type: Any) -> Schema | None:
    return schema_of(row_type) if getattr(row_type, "__annotations__", None) else None


def _plain(array: pa.Array, name: str) -> pa.Array:
    """The array in a form that both Arrow's CSV and COPY know."""
    type_ = array.type
    if pa.types.is_timestamp(type_) and type_.tz is not None:
        return array.cast(pa.timestamp(type_.unit, "UTC"))  # a column without time zone ignores the one that is given
    if _is_bytes(type_):
        array = pa.array([None if value is None else _hex(value) for value in array.to_pylist()], pa.string())
    elif pa.types.is_nested(type_):
        array = pa.array([None if value is None else _array_text(value) for value in array.to_pylist()], pa.string())
    is_text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    if is_text and pc.any(pc.match_substring(array, "\0")).as_py():
        raise BadRecordError(
            f"column {name!r} has a text with a NUL character, which PostgreSQL can't hold",
            hint="take it out before the sink",
        )
    return array


def _is_bytes(type_: pa.DataType) -> bool:
    return any(is_kind(type_) for is_kind in _BYTES)


def _array_text(values: Sequence[Any]) -> str:
    """A PostgreSQL array as text; one of more dimensions if the values are lists."""
    return f"{{{','.join(map(_item_text, values))}}}"


def _item_text(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case str():
            return _quoted(value)
        case bytes():
            return _quoted(_hex(value))
        case list():
            return _array_text(value)
        case datetime.datetime() if value.tzinfo is not None:
            return _quoted(value.astimezone(datetime.UTC).isoformat(" "))
        case _:
            return str(value)


def _hex(value: bytes) -> str:
    return f"\\x{value.hex()}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
