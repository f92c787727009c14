"""Avro messages, by fastavro (`pip install 'streamcore[avro]'`)."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from streamcore.batch import schema_of
from streamcore.connectors.kafka.framing import unframe
from streamcore.connectors.kafka.records import RecordFormat
from streamcore.errors import UsageError

T_co = TypeVar("T_co", covariant=True)

AvroSchema = str | Mapping[str, Any] | list[Any]
"""A schema as JSON text, or as what that text stands for."""

_MALFORMED = (
    ValueError,
    TypeError,
    EOFError,
    IndexError,
    KeyError,
    AttributeError,
    OverflowError,
    MemoryError,
    StopIteration,
    struct.error,
)


class Avro(RecordFormat[T_co]):
    """Avro values: dicts in rows, or columns if a type is given.

    Args:
        schema: the schema that the values were written with, where they carry nothing but their data.
        schemas: the schemas by their ids, or a function that gives them (asked once for each), for values framed for a
            schema registry: a zero byte, the schema's id in four bytes, the data. One of the two has to be given.
        reader_schema: the schema to read as, if it is another than the writer's (Avro's schema resolution).
        type: a dataclass, a NamedTuple, a Struct or a `Schema` whose fields become columns.
        key, timestamp, headers: fields to take from the message instead of its value; see `RecordFormat`.

    Raises:
        UsageError: fastavro isn't installed, or a schema is wrong.
    """

    in_mapping = True

    def __init__(
        self,
        schema: AvroSchema | None = None,
        *,
        schemas: Mapping[int, AvroSchema] | Callable[[int], AvroSchema] | None = None,
        reader_schema: AvroSchema | None = None,
        type: Any = None,  # noqa: A002 - the usual name
        key: str | None = None,
        timestamp: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(schema_of(type), key, timestamp, headers)
        if (schema is None) == (schemas is None):
            raise UsageError("Avro needs schema=, or schemas= for values framed for a schema registry")
        for given in (schema, reader_schema):
            if given is not None:
                _parsed(given)
        self.writer_schema = schema
        self.schemas = schemas
        self.reader_schema = reader_schema

    def value_decoder(self) -> Callable[[bytes], Any]:
        """A decoder of single values."""
        fastavro = _fastavro()
        reader = None if self.reader_schema is None else _parsed(self.reader_schema)

        def decode(data: bytes, writer: Any) -> Any:
            stream = io.BytesIO(data)
            try:
                value = fastavro.schemaless_reader(stream, writer, reader)
            except (*_MALFORMED, fastavro.read.SchemaResolutionError) as error:
                raise ValueError(f"not Avro of its schema: {type(error).__name__}: {error}") from None
            if stream.tell() != len(data):
                raise ValueError("not Avro of its schema: there is more than a record")
            return value

        if self.writer_schema is not None:
            plain = _parsed(self.writer_schema)
            return lambda data: decode(data, plain)
        known: dict[int, Any] = {}

        def decode_framed(data: bytes) -> Any:
            number, rest = unframe(data)
            if number not in known:
                known[number] = self._schema(number)
            return decode(rest, known[number])

        return decode_framed

    def _schema(self, number: int) -> Any:
        schemas = self.schemas
        assert schemas is not None, "framed values without schemas"
        if isinstance(schemas, Mapping):
            if number not in schemas:
                raise ValueError(f"no schema with the id {number}")
            return _parsed(schemas[number])
        return _parsed(schemas(number))


def _parsed(schema: AvroSchema) -> Any:
    fastavro = _fastavro()
    try:
        return fastavro.parse_schema(json.loads(schema) if isinstance(schema, str) else schema)
    except (ValueError, TypeError, KeyError, fastavro.schema.SchemaParseException) as error:
        raise UsageError(f"the Avro schema is wrong: {error}") from error


def _fastavro() -> Any:
    try:
        import fastavro
        import fastavro.read
        import fastavro.schema
    except ImportError:
        raise UsageError("Avro needs fastavro", hint="pip install 'streamcore[avro]'") from None
    return fastavro
