"""Fields of a record that aren't in a message's value: its key, its timestamp, its headers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from streamcore.batch import Field, Schema
from streamcore.connectors.kafka.chunks import Chunk
from streamcore.errors import UsageError

FromBytes = Callable[[bytes | None], Any]


@dataclasses.dataclass(frozen=True)
class Extras:
    """Which fields are taken from where.

    Args:
        key: the field that gets the message's key.
        timestamp: the field that gets its timestamp, in ms since the epoch.
        headers: for a field, the name of the header whose (last) value it gets.
    """

    key: str | None = None
    timestamp: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that aren't in the value."""
        first = [name for name in (self.key, self.timestamp) if name is not None]
        return (*first, *self.headers)

    @property
    def wants(self) -> frozenset[str]:
        """What is needed of messages for it."""
        wants = {"keys": self.key, "times_ms": self.timestamp, "headers": self.headers}
        return frozenset(name for name, wanted in wants.items() if wanted)

    def readers(self, schema: Schema | None) -> list[tuple[str, Callable[[Chunk], list[Any]]]]:
        """(field, its values in a chunk) for each. A key or header is text in UTF-8 for a field of `str`, the text of a
        number for one of `int` or `float`, the bytes for one of `bytes`; where rows have no type, it is text.

        Raises:
            UsageError: the schema has no such field, or its type can't be read from bytes.
        """
        found: list[tuple[str, Callable[[Chunk], list[Any]]]] = []
        if self.key is not None:
            found.append((self.key, _keys(_from_bytes(self.key, schema))))
        if self.timestamp is not None:
            _field(self.timestamp, schema)
            found.append((self.timestamp, lambda chunk: list(chunk.times_ms)))
        for field, header in self.headers.items():
            found.append((field, _header(header, _from_bytes(field, schema))))
        return found


def _keys(read: FromBytes) -> Callable[[Chunk], list[Any]]:
    return lambda chunk: list(map(read, chunk.keys))


def _header(name: str, read: FromBytes) -> Callable[[Chunk], list[Any]]:
    return lambda chunk: [read(_last(headers, name)) for headers in chunk.headers]


def _last(headers: Sequence[tuple[str, bytes | None]], name: str) -> bytes | None:
    return next((value for key, value in reversed(headers) if key == name), None)


def _field(name: str, schema: Schema | None) -> Field | None:
    if schema is None:
        return None
    if name not in schema.by_name:
        raise UsageError(f"the type has no field {name!r} to take a part of the message", hint=f"its fields: {schema}")
    return schema.by_name[name]


def _from_bytes(name: str, schema: Schema | None) -> FromBytes:
    field = _field(name, schema)
    if field is None:
        return lambda data: None if data is None else data.decode()
    read = _reader_of(field)
    if field.nullable:
        return lambda data: None if data is None else read(data)

    def read_some(data: bytes | None) -> Any:
        if data is None:
            raise ValueError(f"nothing for the field {name!r}")
        return read(data)

    return read_some


def _reader_of(field: Field) -> Callable[[bytes], Any]:
    match field.type:
        case kind if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return bytes.decode
        case kind if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return bytes
        case kind if pa.types.is_integer(kind):
            return int
        case kind if pa.types.is_floating(kind):
            return float
    raise UsageError(
        f"the field {field} can't be a message's key or header", hint="it can be of str, bytes, int or float"
    )
