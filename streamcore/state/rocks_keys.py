"""How keys of object state become keys of RocksDB.

::

    key group (2 bytes, big endian) | length of the state's name (1 byte) | name | key

so that all that belongs to a key group lies together and can be moved or dropped as one range. Where a key has more
than one entry, its length stands before it (4 bytes) and the map's key or the number of a chunk behind it. Keys
that are equal in Python (`1`, `1.0` and `True`; a NamedTuple and the tuple) must be equal bytes: each is saved as the
plainest of those that equal it, and where that is not the key itself, the key is kept beside the value.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import struct
import uuid
from typing import Any

import msgspec
import numpy as np

from streamcore.batch import plain
from streamcore.errors import StateCodecError, TopologyError

_LONGEST_NAME = 255
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
_GROUP = struct.Struct(">H")
_LENGTH = struct.Struct(">I")
_EXACT_TYPES = (bytes, type(None), complex, datetime.date, datetime.timedelta, uuid.UUID)
_OWN_KEY = b"\xc1"
"""The one byte that no MessagePack begins with: the key follows, then the value."""

_pack = msgspec.msgpack.Encoder().encode


def encode_key(key: Any) -> tuple[bytes, bool]:
    """The bytes of a key, equal for equal keys; and whether the key itself can be had from them.

    Raises:
        StateCodecError: the key is of a type whose equal values can't be told by their content.
    """
    cls = type(key)
    if cls is str or (cls is int and _INT_MIN <= key <= _INT_MAX):
        try:
            return _pack(key), True
        except UnicodeEncodeError as error:
            raise StateCodecError(f"a key can't be saved: {error}") from error
    value, exact = _canonical(key)
    return plain.encode(value), exact


def with_length(key: bytes) -> bytes:
    """A key's bytes with their length before them."""
    return _LENGTH.pack(len(key)) + key


def cut_length(data: bytes, start: int) -> tuple[bytes, bytes]:
    """(a key's bytes, what follows them) from where their length stands."""
    begin = start + 4
    stop = begin + _LENGTH.unpack_from(data, start)[0]
    return data[begin:stop], data[stop:]


def name_prefix(name: str) -> bytes:
    """What stands between the key group and the key in the entries of a state.

    Raises:
        TopologyError: the name is too long.
    """
    data = name.encode()
    if len(data) > _LONGEST_NAME:
        raise TopologyError(
            f"state {name[:40]!r}... has a name of {len(data)} bytes", hint=f"use at most {_LONGEST_NAME} bytes"
        )
    return bytes([len(data)]) + data


def group_prefix(group: int) -> bytes:
    """What the entries of a key group begin with."""
    return _GROUP.pack(group)


def state_prefix(group: int, name: str) -> bytes:
    """What the entries of a state in a key group begin with."""
    return group_prefix(group) + name_prefix(name)


def after(prefix: bytes) -> bytes:
    """The first bytes behind all that begins with a prefix, which has a byte below 255."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1])


def beside_key(key: Any, value: bytes, *, allow_pickle: bool) -> bytes:
    """A value with the key beside it that its entry's bytes only equal."""
    return _OWN_KEY + with_length(plain.encode(key, allow_pickle=allow_pickle)) + value


def split_key(data: bytes) -> tuple[bytes | None, bytes]:
    """(the saved key beside a value if there is one, the saved value)."""
    return cut_length(data, 1) if data.startswith(_OWN_KEY) else (None, data)


def _canonical(key: Any) -> tuple[Any, bool]:
    """The plainest value that equals the key, and whether it is the key. What has no plain form that its equals share
    becomes a list, which no key is."""
    if type(key) in _EXACT_TYPES and not (type(key) is complex and not key.imag):
        return key, True
    if isinstance(key, np.generic):
        return _canonical(key.item())[0], False
    if isinstance(key, enum.Enum):
        return (_canonical(key.value)[0], False) if isinstance(key, (int, str)) else (key, True)
    if isinstance(key, int):
        return int(key), type(key) is int
    if isinstance(key, str):
        return str.__str__(key), type(key) is str
    if isinstance(key, (float, complex, decimal.Decimal)):
        return _canonical_number(key)
    if isinstance(key, tuple):
        parts = [_canonical(part) for part in key]
        return tuple(part for part, _ in parts), type(key) is tuple and all(exact for _, exact in parts)
    if isinstance(key, frozenset):
        return ["set", sorted(encode_key(part)[0] for part in key)], False
    if isinstance(key, datetime.datetime):
        if key.utcoffset() is None:
            return key, True
        return ["instant", key.astimezone(datetime.UTC).isoformat()], False
    if isinstance(key, datetime.time):
        return (key, True) if key.utcoffset() is None else (["time", _utc_microseconds(key)], False)
    fields = _compared_fields(key)
    if fields is None:
        raise StateCodecError(
            f"a key of type {type(key).__name__} can't be looked up in RocksDB",
            hint="use str, int, bytes, float, None, dates, UUIDs, enums, dataclasses or Structs, tuples or frozensets "
            'of these as keys, or state_backend="heap"',
        )
    cls = type(key)
    return ["record", cls.__module__, cls.__qualname__, [_canonical(value)[0] for value in fields]], False


def _canonical_number(key: Any) -> tuple[Any, bool]:
    if isinstance(key, complex):
        return (_canonical(key.real)[0], False) if not key.imag else (key, type(key) is complex)
    finite = key.is_finite() if isinstance(key, decimal.Decimal) else np.isfinite(key)
    if finite and key == int(key):
        return int(key), False
    as_float = float(key)
    if as_float == key or math.isnan(as_float):
        return as_float, type(key) is float
    return ["decimal", str(key.normalize(decimal.Context(prec=decimal.MAX_PREC)))], False


def _utc_microseconds(time: datetime.time) -> int:
    offset = time.utcoffset()
    assert offset is not None, "a time without zone is its own form"
    since = datetime.timedelta(hours=time.hour, minutes=time.minute, seconds=time.second, microseconds=time.microsecond)
    return (since - offset) // datetime.timedelta(microseconds=1)


def _compared_fields(key: Any) -> list[Any] | None:
    """The values by which records of a class are equal."""
    if dataclasses.is_dataclass(key):
        return [getattr(key, field.name) for field in dataclasses.fields(key) if field.compare]
    if isinstance(key, msgspec.Struct):
        return [getattr(key, name) for name in key.__struct_fields__]
    return None
