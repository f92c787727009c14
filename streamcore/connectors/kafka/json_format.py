"""JSON messages."""

from __future__ import annotations

import dataclasses
import datetime
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from streamcore.batch import Field, Schema, schema_of
from streamcore.connectors.kafka.records import RecordFormat
from streamcore.errors import UsageError

T_co = TypeVar("T_co", covariant=True)


class Json(RecordFormat[T_co]):
    """JSON values, decoded by msgspec.

    Args:
        type: a dataclass, a NamedTuple, a msgspec Struct or a `Schema`: objects with its fields become columns, and
            those that lack one, or have one of another type, are malformed; other fields of theirs are left out. Any
            other type that msgspec decodes: rows of it. None: rows as they come, objects as dicts.
        key, timestamp, headers: fields to take from the message instead of its value; see `RecordFormat`.

    Raises:
        UsageError: the type can't be decoded from JSON, or lacks a field.
        TopologyError: a field has no column form.
    """

    checks = False

    def __init__(
        self,
        type: Any = None,  # noqa: A002 - the usual name
        *,
        key: str | None = None,
        timestamp: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.type = type
        self.in_mapping = type is None or type is dict
        super().__init__(schema_of(type), key, timestamp, headers)
        if self.extras.names and self.schema is None and not self.in_mapping:
            raise UsageError("key=, timestamp= and headers= need a type with fields, or none")
        self.value_decoder()

    def value_decoder(self) -> Callable[[bytes], Any]:
        """A decoder of single values."""
        try:
            if self.schema is None:
                decode = msgspec.json.Decoder(Any if self.type is None else self.type).decode
                return _decode_object(decode) if self.extras.names else decode
            return msgspec.json.Decoder(self._struct(self.schema)).decode
        except (TypeError, NameError) as error:
            raise UsageError(f"{self.type!r} can't be read from JSON: {error}") from error

    def _struct(self, schema: Schema) -> type[msgspec.Struct]:
        """What the values are decoded into: the type's fields but those taken from elsewhere."""
        extras = set(self.extras.names)
        hints = typing.get_type_hints(self.type, include_extras=True) if isinstance(self.type, type) else {}
        has_numpy = any(isinstance(hint, type) and issubclass(hint, np.generic) for hint in hints.values())
        if isinstance(self.type, type) and issubclass(self.type, msgspec.Struct) and not (extras or has_numpy):
            return self.type
        defaults = _defaults(self.type)
        fields: list[Any] = []
        for field in schema.fields:
            if field.name not in extras:
                hint = _json_type(field, hints.get(field.name))
                fields.append(
                    (field.name, hint, defaults[field.name]) if field.name in defaults else (field.name, hint)
                )
        return msgspec.defstruct("Record", fields, kw_only=True, gc=False, rename=_renames(self.type))


def _decode_object(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decode_object(data: bytes) -> Any:
        value = decode(data)
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        return value

    return decode_object


def _json_type(field: Field, hint: Any) -> Any:
    """The type by which a field is decoded: its own where msgspec knows it, else that of its column."""
    if hint is not None and not field.width and not (isinstance(hint, type) and issubclass(hint, np.generic)):
        return hint
    kind = field.type.value_type if field.width else field.type
    found: Any = Any
    for is_kind, python in _KINDS:
        if is_kind(kind):
            found = python
            break
    if field.width:
        found = list[found]
    return found | None if field.nullable else found


_KINDS: list[tuple[Callable[[pa.DataType], bool], Any]] = [
    (pa.types.is_boolean, bool),
    (pa.types.is_integer, int),
    (pa.types.is_floating, float),
    (pa.types.is_string, str),
    (pa.types.is_binary, bytes),
    (pa.types.is_timestamp, datetime.datetime),
    (pa.types.is_date, datetime.date),
]


def _renames(declared: Any) -> dict[str, str]:
    """The names in JSON of a Struct's fields that have another there."""
    if not (isinstance(declared, type) and issubclass(declared, msgspec.Struct)):
        return {}
    return {field.name: field.encode_name for field in msgspec.structs.fields(declared)}


def _defaults(declared: Any) -> dict[str, Any]:
    """The defaults of a type's fields, as msgspec has them."""
    if dataclasses.is_dataclass(declared):
        found: dict[str, Any] = {}
        for field in dataclasses.fields(declared):
            if field.default is not dataclasses.MISSING:
                found[field.name] = field.default
            elif field.default_factory is not dataclasses.MISSING:
                found[field.name] = msgspec.field(default_factory=field.default_factory)
        return found
    if isinstance(declared, type) and issubclass(declared, msgspec.Struct):
        return {
            field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            for field in msgspec.structs.fields(declared)
            if not field.required
        }
    return dict(getattr(declared, "_field_defaults", {}))
