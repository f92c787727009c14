"""Formats the other way round: the values of Kafka's records made of a stream's records."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from streamcore.batch import Batch, Columns
from streamcore.batch.convert import to_rows
from streamcore.connectors.json_source import encode_json_lines
from streamcore.connectors.kafka.avro import Avro
from streamcore.connectors.kafka.encode import Values, as_bytes, select, shown
from streamcore.connectors.kafka.formats import Messages, Raw
from streamcore.connectors.kafka.json_format import Json
from streamcore.connectors.kafka.protobuf import Protobuf
from streamcore.errors import BadRecordError, UsageError

_NO_AVRO = (TypeError, ValueError, KeyError, AttributeError, OverflowError, LookupError)


def values_for(value: Any) -> Values:
    """What makes values as `value` says: a format, a function of the record, or None for JSON.

    Raises:
        UsageError: it is none of these, or can't be written.
    """
    match value:
        case None | Json():
            return json_values
        case Raw():
            return raw_values
        case Messages():
            return partial(by_function, _value_of_message)
        case Avro():
            return _AvroValues(value)
        case Protobuf():
            if value.framed:
                raise UsageError("Protobuf framed for a schema registry can be read, not written")
            return partial(by_function, _serialized)
    if callable(value):
        return partial(by_function, value)
    raise UsageError(f"value={value!r} is no format", hint="Json(), Raw(), ... or a function of the record")


def raw_values(batch: Batch) -> list[bytes | None]:
    """Records that are bytes or text themselves; columns have to be one column of them.

    Raises:
        BadRecordError: they are something else.
    """
    return as_bytes(select(batch, 0) if isinstance(batch, Columns) else batch, "value")


def json_values(batch: Batch) -> list[bytes | None]:
    """Each record as a JSON value, one with fields as an object; a record that is None is a tombstone.

    Raises:
        BadRecordError: a record has no JSON form.
    """
    if isinstance(batch, Columns) or not any(row is None for row in batch):
        return encode_json_lines(batch).splitlines()  # type: ignore[return-value]
    lines = iter(encode_json_lines([row for row in batch if row is not None]).splitlines())
    return [None if row is None else next(lines) for row in batch]


def by_function(function: Callable[[Any], Any], batch: Batch) -> list[bytes | None]:
    """What the function gives for each record: bytes, text, or None for a tombstone.

    Raises:
        BadRecordError: something else.
    """
    return as_bytes(list(map(function, to_rows(batch))), "value")


def _value_of_message(message: Any) -> bytes | None:
    value: bytes | None = message.value
    return value


def _serialized(message: Any) -> bytes | None:
    try:
        return None if message is None else bytes(message.SerializeToString())
    except (AttributeError, ValueError) as error:  # protobuf's EncodeError is a ValueError for what lacks a field
        raise BadRecordError(f"a record for Kafka is no Protobuf message: {error}: {shown(message)}") from error


class _AvroValues:
    """Writes records with fields by one schema; with `schemas=`, which has to have one then, framed with its id."""

    def __init__(self, format_: Avro[Any]) -> None:
        schemas = format_.schemas
        if format_.writer_schema is not None:
            self._schema, self._head = format_.writer_schema, b""
        elif isinstance(schemas, dict) and len(schemas) == 1:
            ((number, self._schema),) = schemas.items()
            self._head = struct.pack(">bI", 0, number)
        else:
            raise UsageError("to write Avro, one schema is needed: Avro(schema), or Avro(schemas={id: schema})")
        self._parsed()

    def __call__(self, batch: Batch) -> list[bytes | None]:
        import fastavro

        schema = self._parsed()
        values: list[bytes | None] = []
        for row in to_rows(batch):
            if row is None:
                values.append(None)
                continue
            stream = io.BytesIO(self._head)
            stream.seek(len(self._head))
            try:
                fastavro.schemaless_writer(stream, schema, _mapping(row), strict=False)
            except _NO_AVRO as error:
                raise BadRecordError(f"a record isn't of the Avro schema: {error}: {shown(row)}") from error
            values.append(stream.getvalue())
        return values

    def _parsed(self) -> Any:
        import fastavro

        schema: Any = self._schema
        try:
            return fastavro.parse_schema(json.loads(schema) if isinstance(schema, str) else schema)
        except (ValueError, TypeError, KeyError, fastavro.schema.SchemaParseException) as error:
            raise UsageError(f"the Avro schema is wrong: {error}") from error


def _mapping(row: Any) -> Any:
    if hasattr(row, "_asdict"):
        return row._asdict()
    names = getattr(type(row), "__dataclass_fields__", None) or getattr(type(row), "__struct_fields__", None)
    return row if names is None else {name: getattr(row, name) for name in names}
