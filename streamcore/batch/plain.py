"""The plain codec: Python values in snapshots without pickle.

MessagePack with tagged extensions for what MessagePack lacks: tuples, sets, any dictionary key, big integers,
NumPy arrays, times, decimals, UUIDs, enums, and records of the user's own dataclasses, NamedTuples and msgspec Structs.
Reading never imports a module and never runs user code but the constructor of such a record, whose class
must already be loaded; so a snapshot that somebody else could write to is safe to open.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import pickle
import sys
import types
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from streamcore.batch.schema import is_record_type, record_type
from streamcore.errors import StateCodecError

_TUPLE, _SET, _FROZENSET, _BIG_INT, _ARRAY, _SCALAR, _TEXT, _ENUM, _RECORD, _PICKLE, _DICT, _ROW = range(1, 13)
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
_ARRAY_KINDS = "biufcmMSU"  # all but objects and structs


def encode(value: Any, *, allow_pickle: bool = False) -> bytes:
    """The value as bytes; `allow_pickle` falls back to pickle for classes that have no plain form.

    Raises:
        StateCodecError: a value inside has no plain form.
    """
    try:
        return msgspec.msgpack.encode(_wrap(value, allow_pickle))
    except (UnicodeEncodeError, RecursionError) as error:
        raise StateCodecError(f"a value can't be saved: {error}") from error


def dict_of_saved(pairs: bytes) -> bytes:
    """A dictionary, encoded, of an encoded list of its pairs."""
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(_DICT, pairs))


def decode(data: bytes | memoryview, *, allow_pickle: bool = False) -> Any:
    """The value that `encode` was given.

    Raises:
        StateCodecError: the bytes are not of this codec, name a class that isn't loaded or doesn't take its
            saved fields, or hold a pickle that was not allowed.
    """
    hook = _unwrap_pickle if allow_pickle else _unwrap
    try:
        return msgspec.msgpack.decode(data, ext_hook=hook)
    except StateCodecError:
        raise
    except Exception as error:
        raise StateCodecError(f"these bytes are not a saved value: {type(error).__name__}: {error}") from error


def _pack(code: int, body: Any, allow_pickle: bool) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, msgspec.msgpack.encode(_wrap(body, allow_pickle)))


_TEXT_TYPES: dict[type, Callable[[str], Any]] = {
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    decimal.Decimal: decimal.Decimal,
    uuid.UUID: uuid.UUID,
    datetime.timedelta: lambda text: datetime.timedelta(microseconds=int(text)),
    complex: complex,
}
_TEXT_BY_NAME = {cls.__name__: parse for cls, parse in _TEXT_TYPES.items()}


def _wrap(value: Any, allow_pickle: bool) -> Any:
    cls = type(value)
    if cls in (str, float, bool, bytes) or value is None:
        return value
    if cls is int:
        return value if _INT_MIN <= value <= _INT_MAX else msgspec.msgpack.Ext(_BIG_INT, _int_bytes(value))
    if cls is list:
        return [_wrap(item, allow_pickle) for item in value]
    if cls is dict:
        if all(_is_plain_key(key) for key in value):
            return {key: _wrap(item, allow_pickle) for key, item in value.items()}
        return _pack(_DICT, list(map(list, value.items())), allow_pickle)
    if cls is tuple:
        return _pack(_TUPLE, list(value), allow_pickle)
    if cls is set or cls is frozenset:
        return _pack(_SET if cls is set else _FROZENSET, list(value), allow_pickle)
    if isinstance(value, enum.Enum) and _is_importable(cls):
        member = value.value if isinstance(value, enum.Flag) else value.name
        return _pack(_ENUM, [*_class_name(cls), member], allow_pickle)
    if cls is np.ndarray and value.dtype.kind in _ARRAY_KINDS:
        return _pack(_ARRAY, [value.dtype.str, list(value.shape), value.tobytes()], allow_pickle)
    if isinstance(value, np.generic) and value.dtype.kind in _ARRAY_KINDS:
        return _pack(_SCALAR, [value.dtype.str, value.tobytes()], allow_pickle)
    if cls in _TEXT_TYPES:
        return _pack(_TEXT, [cls.__name__, _text(value)], allow_pickle)
    fields = _record_fields(value)
    if fields is not None and is_record_type(cls):
        return _pack(_ROW, [list(cls._fields), fields], allow_pickle)
    if fields is not None and _is_importable(cls):
        return _pack(_RECORD, [*_class_name(cls), fields], allow_pickle)
    if allow_pickle:
        return msgspec.msgpack.Ext(_PICKLE, _pickled(value))
    raise StateCodecError(
        f"a value of type {cls.__module__}.{cls.__qualname__} has no safe saved form",
        hint="keep builtins, NumPy arrays, dataclasses, NamedTuples or Structs defined at module level in state, "
        "or ask for pickle by name: Checkpointing(..., allow_pickle=True)",
    )


def _is_plain_key(key: Any) -> bool:
    cls = type(key)
    return cls in (str, float, bool, bytes) or key is None or (cls is int and _INT_MIN <= key <= _INT_MAX)


def _int_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception as error:
        raise StateCodecError(f"a value of type {type(value).__qualname__} can't be pickled: {error}") from error


def _text(value: Any) -> str:
    if isinstance(value, datetime.timedelta):
        return str(value // datetime.timedelta(microseconds=1))
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _is_importable(cls: type) -> bool:
    return _lookup(cls.__module__, cls.__qualname__) is cls


def _lookup(module: str, qualname: str) -> Any:
    """What has the name, if it is loaded; asks no `__getattr__`, which could import more."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = vars(found).get(part) if isinstance(found, (types.ModuleType, type)) else None
    return found


def _class_name(cls: type) -> list[str]:
    return [cls.__module__, cls.__qualname__]


def _record_fields(value: Any) -> list[Any] | None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = _rebuildable(type(value))
        return [getattr(value, name) for name in names] if names is not None else None
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(value)
    return None


@functools.cache
def _rebuildable(cls: type) -> list[str] | None:
    """The fields of a dataclass, if its constructor takes just them: else it can't be built from what it holds."""
    names = [field.name for field in dataclasses.fields(cls)]
    return names if list(inspect.signature(cls).parameters) == names else None


def _find_class(module: str, qualname: str) -> Any:
    found = _lookup(module, qualname)
    if not isinstance(found, type):
        raise StateCodecError(
            f"the snapshot holds a record of class {module}.{qualname}, which is not loaded",
            hint="import the module that defines it, or restore with the code that wrote the snapshot",
        )
    return found


def _build_record(module: str, qualname: str, values: list[Any]) -> Any:
    cls = _find_class(module, qualname)
    if dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
    elif issubclass(cls, msgspec.Struct):
        names = list(cls.__struct_fields__)
    elif issubclass(cls, tuple) and hasattr(cls, "_fields"):
        names = list(cls._fields)
    else:
        raise StateCodecError(f"the snapshot holds a record of {qualname}, which is no record class any more")
    if len(names) != len(values):
        raise StateCodecError(f"a saved {qualname} has {len(values)} fields, the class now has {len(names)}")
    return cls(**dict(zip(names, values, strict=True)))


def _build_enum(module: str, qualname: str, member: Any) -> Any:
    cls = _find_class(module, qualname)
    if not issubclass(cls, enum.Enum):
        raise StateCodecError(f"the snapshot holds a member of {qualname}, which is no enum any more")
    return cls(member) if issubclass(cls, enum.Flag) else cls[member]


def _array_type(name: str) -> np.dtype[Any]:
    dtype = np.dtype(name)
    if dtype.kind not in _ARRAY_KINDS:
        raise StateCodecError(f"the snapshot holds an array of {dtype}")
    return dtype


def _unwrap(code: int, data: memoryview) -> Any:
    if code == _BIG_INT:
        return int.from_bytes(data, "big", signed=True)
    if code == _PICKLE:
        raise StateCodecError(
            "the snapshot holds pickled values",
            hint="only if you trust who wrote it: Checkpointing(..., allow_pickle=True)",
        )
    return _unwrap_body(code, decode(data))


def _unwrap_pickle(code: int, data: memoryview) -> Any:
    if code == _PICKLE:
        return pickle.loads(data)  # noqa: S301 - the user asked for it by name
    if code == _BIG_INT:
        return int.from_bytes(data, "big", signed=True)
    return _unwrap_body(code, decode(data, allow_pickle=True))


def _unwrap_body(code: int, body: Any) -> Any:
    match code:
        case 1:
            return tuple(body)
        case 2:
            return set(body)
        case 3:
            return frozenset(body)
        case 5:
            return np.frombuffer(body[2], _array_type(body[0])).reshape(body[1]).copy()
        case 6:
            dtype = _array_type(body[0])
            return np.frombuffer(body[1], dtype)[0] if dtype.itemsize else np.zeros(1, dtype)[0]
        case 7:
            return _TEXT_BY_NAME[body[0]](body[1])
        case 8:
            return _build_enum(body[0], body[1], body[2])
        case 9:
            return _build_record(body[0], body[1], body[2])
        case 11:
            return dict(body)
        case 12:
            return record_type(tuple(body[0]))._make(body[1])
    raise StateCodecError(f"unknown saved form {code}", hint="the snapshot was written by a newer version")
