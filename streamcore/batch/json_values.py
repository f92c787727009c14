"""Python values as JSON that says what they were, for whoever asks for state from outside; no pickle, no classes.

What JSON has stays as it is: numbers, text, truth values, None, lists, and dictionaries whose keys are text. The rest:

=============================  ==========================================================
tuples, NumPy arrays           lists
dataclasses, NamedTuples,      objects, field by field
msgspec Structs
enums                          their names
NumPy numbers                  numbers
bytes                          `{"$bytes": "base64"}`
datetime, date, time           `{"$datetime": "ISO 8601"}`, `{"$date": ...}`, `{"$time": ...}`
timedelta                      `{"$timedelta": seconds}`
Decimal, UUID                  `{"$decimal": "1.50"}`, `{"$uuid": "..."}`
inf, -inf, NaN                 `{"$float": "nan"}`
sets                           `{"$set": [...]}`
other dictionaries             `{"$map": [[key, value], ...]}`
anything else                  `{"$repr": "..."}`, which is for reading only
=============================  ==========================================================
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from streamcore.errors import UsageError

_LONGEST_REPR = 1000


def encode_json(value: Any) -> bytes:
    """A value as JSON."""
    wrapped = _wrap(value)
    try:
        return json.dumps(wrapped, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8
        return json.dumps(wrapped, allow_nan=False).encode()


def decode_json(text: bytes | str) -> Any:
    """The value that JSON stands for, with lists for tuples and dictionaries for records.

    Raises:
        UsageError: it isn't JSON, or has a form that doesn't exist.
    """
    try:
        return _unwrap(json.loads(text))
    except (ValueError, TypeError, ArithmeticError, KeyError) as error:
        shown = text if isinstance(text, str) else text.decode(errors="replace")
        raise UsageError(
            f"{shown[:80]!r} is not a value in JSON: {error}", hint='text is written "so", in quotes'
        ) from error


def decode_key(text: bytes | str) -> Any:
    """The key that JSON stands for: as `decode_json`, with tuples for lists.

    Raises:
        UsageError: it isn't JSON, or no key.
    """
    key = _hashable(decode_json(text))
    try:
        hash(key)
    except TypeError as error:
        raise UsageError(
            f"{key!r} can't be a key", hint="keys are numbers, text, bytes, dates, or lists of these"
        ) from error
    return key


def _wrap(value: Any) -> Any:
    match value:
        case None | bool() | str() if not isinstance(value, enum.Enum):
            return value
        case enum.Enum():
            return value.name
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else {"$float": str(float(value))}
        case bytes() | bytearray() | memoryview():
            return {"$bytes": base64.b64encode(value).decode()}
        case datetime.datetime():
            return {"$datetime": value.isoformat()}
        case datetime.date():
            return {"$date": value.isoformat()}
        case datetime.time():
            return {"$time": value.isoformat()}
        case datetime.timedelta():
            return {"$timedelta": value.total_seconds()}
        case decimal.Decimal():
            return {"$decimal": str(value)}
        case uuid.UUID():
            return {"$uuid": str(value)}
        case np.datetime64() | np.timedelta64():
            return str(value)
        case np.generic():
            return _wrap(value.item())
        case np.ndarray():
            return [_wrap(item) for item in value] if value.dtype.kind in "mM" else _wrap(value.tolist())
        case dict():
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: _wrap(item) for key, item in value.items()}
            return {"$map": [[_wrap(key), _wrap(item)] for key, item in value.items()]}
        case set() | frozenset():
            return {"$set": [_wrap(item) for item in value]}
        case msgspec.Struct():
            return {name: _wrap(getattr(value, name)) for name in value.__struct_fields__}
        case tuple() if hasattr(value, "_fields"):
            return {name: _wrap(item) for name, item in zip(value._fields, value, strict=True)}
        case list() | tuple():
            return [_wrap(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _wrap(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return {"$repr": repr(value)[:_LONGEST_REPR]}


_FORMS: dict[str, Callable[[Any], Any]] = {
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$datetime": datetime.datetime.fromisoformat,
    "$date": datetime.date.fromisoformat,
    "$time": datetime.time.fromisoformat,
    "$timedelta": lambda seconds: datetime.timedelta(seconds=seconds),
    "$decimal": decimal.Decimal,
    "$uuid": uuid.UUID,
    "$float": float,
    "$set": lambda items: {_hashable(_unwrap(item)) for item in items},
    "$map": lambda pairs: {_hashable(_unwrap(key)): _unwrap(item) for key, item in pairs},
    "$repr": lambda text: {"$repr": text},
}


def _unwrap(value: Any) -> Any:
    if isinstance(value, list):
        return [_unwrap(item) for item in value]
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)).startswith("$"):
            ((form, body),) = value.items()
            return _FORMS[form](body)
        return {key: _unwrap(item) for key, item in value.items()}
    return value


def _hashable(value: Any) -> Any:
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value
