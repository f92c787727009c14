"""Protobuf messages, by Google's protobuf (`pip install 'streamcore[protobuf]'`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from streamcore.batch import Schema, schema_of
from streamcore.connectors.kafka.framing import skip_message_indexes, unframe
from streamcore.connectors.kafka.records import RecordFormat
from streamcore.errors import UsageError

T_co = TypeVar("T_co", covariant=True)


class Protobuf(RecordFormat[T_co]):
    """Protobuf values: objects of the message class in rows, or columns if a type is given.

    Args:
        message: the class that protoc has made.
        type: a dataclass, a NamedTuple, a Struct or a `Schema` whose fields become columns. Optional fields that
            aren't set are None where the column may lack values, else their default.
        framed: whether the values are framed for a schema registry: a zero byte, the schema's id in four bytes, the
            message's indexes, the data. The id isn't looked at.
        key, timestamp, headers: fields to take from the message instead of its value, with a type; see `RecordFormat`.

    Raises:
        UsageError: protobuf isn't installed, or the class is none of its.
    """

    def __init__(
        self,
        message: type[Any],
        *,
        type: Any = None,  # noqa: A002 - the usual name
        framed: bool = False,
        key: str | None = None,
        timestamp: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(schema_of(type), key, timestamp, headers)
        if self.extras.names and self.schema is None:
            raise UsageError("key=, timestamp= and headers= need a type with fields")
        if not hasattr(message, "FromString") or not hasattr(message, "DESCRIPTOR"):
            raise UsageError(f"{message!r} is no class of Protobuf messages", hint="give a class that protoc has made")
        self.message = message
        self.framed = framed
        self.in_mapping = self.schema is not None
        if self.schema is not None:
            self._check_fields(self.schema)
        _decode_error()

    def value_decoder(self) -> Callable[[bytes], Any]:
        """A decoder of single values."""
        decode_error, parse, framed = _decode_error(), self.message.FromString, self.framed
        pick = None if self.schema is None else self._picker(self.schema)

        def decode(data: bytes) -> Any:
            try:
                message = parse(skip_message_indexes(unframe(data)[1]) if framed else data)
            except decode_error as error:
                raise ValueError(f"not Protobuf of its message: {error}") from None
            return message if pick is None else pick(message)

        return decode

    def _check_fields(self, schema: Schema) -> None:
        known = self.message.DESCRIPTOR.fields_by_name
        for name in schema.names:
            if name not in known and name not in self.extras.names:
                raise UsageError(f"the Protobuf message has no field {name!r}", hint=f"it has: {', '.join(known)}")

    def _picker(self, schema: Schema) -> Callable[[Any], dict[str, Any]]:
        """Takes the fields of a message, None for those that may be missing and are."""
        known = self.message.DESCRIPTOR.fields_by_name
        taken = [field for field in schema.fields if field.name not in self.extras.names]
        optional = frozenset(f.name for f in taken if f.nullable and known[f.name].has_presence)
        names = [field.name for field in taken]

        def pick(message: Any) -> dict[str, Any]:
            return {
                name: getattr(message, name) if name not in optional or message.HasField(name) else None
                for name in names
            }

        return pick


def _decode_error() -> Any:
    try:
        from google.protobuf.message import DecodeError
    except ImportError:
        raise UsageError("Protobuf needs protobuf", hint="pip install 'streamcore[protobuf]'") from None
    return DecodeError
