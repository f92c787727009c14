"""Stable hashes of keys: the same in every process, run and form (rows or columns), unlike Python's `hash`.

Keys that are equal in Python hash equally (`1`, `1.0` and `True`). Integers go through the finaliser of
splitmix64, strings and bytes through CRC-32 first, since the standard library has it at C speed too.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import struct
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa

from streamcore.errors import UsageError
from streamcore.kernels.arrow_text import identity_of, is_binary, is_text, text_parts
from streamcore.kernels.compile import kernel
from streamcore.kernels.key_columns import KeyColumns

_MASK = (1 << 64) - 1
_SALT_TEXT = 0x9E3779B97F4A7C15
_SALT_BYTES = 0xC2B2AE3D27D4EB4F
_SALT_TUPLE = 0x165667B19E3779F9
_SALT_FLOAT = 0x27D4EB2F165667C5
_NONE = 0x61C8864680B583EB

_DICTIONARIES_KEPT = 16

_EXACT = decimal.Context(prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)

_CRC_TABLE = np.zeros(256, np.uint32)
for _i in range(256):
    _c = _i
    for _ in range(8):
        _c = (_c >> 1) ^ (0xEDB88320 if _c & 1 else 0)
    _CRC_TABLE[_i] = _c


Hashes = np.ndarray[Any, np.dtype[np.uint64]]
"""uint64 (n,)."""


def mix64(value: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014) on the low 64 bits of `value`."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def hash_key(key: Any) -> int:
    """The 64-bit hash of one key.

    Raises:
        UsageError: the key is of a type without a stable hash.
    """
    if isinstance(key, enum.Enum) and not isinstance(key, (int, str)):  # those two equal their values
        return hash_key(key.name)
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, int):  # bool is an int
        if -(1 << 63) <= key < (1 << 63):
            return mix64(key)
        return mix64(zlib.crc32(str(key).encode()) ^ _SALT_BYTES)
    if isinstance(key, str):
        return mix64(zlib.crc32(key.encode()) ^ _SALT_TEXT)
    if isinstance(key, float):
        if key.is_integer():
            return hash_key(int(key))
        return mix64(struct.unpack("<Q", struct.pack("<d", key))[0] ^ _SALT_FLOAT)
    if isinstance(key, bytes):
        return mix64(zlib.crc32(key) ^ _SALT_BYTES)
    if key is None:
        return mix64(_NONE)
    if isinstance(key, tuple):
        return _fold([hash_key(part) for part in key])
    if dataclasses.is_dataclass(key):
        return _fold([hash_key(getattr(key, field.name)) for field in dataclasses.fields(key)])
    if isinstance(key, datetime.datetime) and key.utcoffset() is not None:
        return hash_key(key.astimezone(datetime.UTC).isoformat())
    if isinstance(key, (datetime.datetime, datetime.date, datetime.time)):
        return hash_key(key.isoformat())
    if isinstance(key, decimal.Decimal):
        as_float = float(key)
        return hash_key(as_float if as_float == key else str(key.normalize(_EXACT)))
    if isinstance(key, uuid.UUID):
        return hash_key(str(key))
    raise UsageError(
        f"a key of type {type(key).__name__} has no stable hash",
        hint="use int, str, bytes, bool, float, None, an Enum, a date, a UUID, a frozen dataclass, or a tuple of these",
    )


def _fold(parts: Sequence[int]) -> int:
    total = _SALT_TUPLE
    for part in parts:
        total = mix64(total * 31 + part)
    return total


def hash_keys(keys: Any) -> Hashes:
    """The hashes of many keys: a list of Python keys, a NumPy array, an Arrow array, or `KeyColumns`; uint64 (n,)."""
    if isinstance(keys, KeyColumns):
        return fold_hashes([hash_keys(field) for field in keys.fields])
    if isinstance(keys, np.ndarray):
        return _hash_array(keys)
    if isinstance(keys, pa.Array):
        if pa.types.is_dictionary(keys.type) and keys.null_count == 0:
            return cast(Hashes, _dictionaries.hashes(keys.dictionary)[keys.indices.to_numpy()])
        if is_text(keys.type) and keys.null_count == 0:
            return _hash_text(keys)
        return hash_keys(keys.to_pylist())
    kinds = set(map(type, keys))
    if kinds == {str}:
        return _hash_text(pa.array(keys, type=pa.string()))
    if kinds == {int}:
        try:
            return _hash_array(np.array(keys, dtype=np.int64))
        except OverflowError:
            pass
    return np.array([hash_key(key) for key in keys], dtype=np.uint64)


def fold_hashes(parts: Sequence[Hashes]) -> Hashes:
    """The hashes of tuples, from the hashes of their elements column by column; equal to `hash_key` of the tuples."""
    total = np.full(len(parts[0]), _SALT_TUPLE, np.uint64)
    for part in parts:
        total = _mix_array(total * np.uint64(31) + part)
    return total


def _hash_array(keys: np.ndarray[Any, Any]) -> Hashes:
    if keys.dtype.kind in "iub" and keys.dtype != np.uint64:
        return cast(Hashes, _mix_array(keys.astype(np.int64, copy=False).view(np.uint64)))
    if keys.dtype.kind == "f":
        as_float = keys.astype(np.float64)
        hashes = cast(Hashes, _hash_floats(as_float, as_float.view(np.uint64), np.uint64(_SALT_FLOAT)))
        wide = np.isfinite(as_float) & (np.abs(as_float) >= 2.0**63)
        if wide.any():
            hashes[wide] = [hash_key(key) for key in as_float[wide].tolist()]
        return hashes
    return np.array([hash_key(key) for key in keys.tolist()], dtype=np.uint64)


def _hash_text(keys: pa.Array) -> Hashes:
    salt = _SALT_BYTES if is_binary(keys.type) else _SALT_TEXT
    starts, body = text_parts(keys)
    return cast(Hashes, _crc_mix(starts, body, _CRC_TABLE, np.uint64(salt)))


class _Dictionaries:
    """The hashes of the dictionaries that were seen last: consecutive batches share one."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, ...], tuple[pa.Array, Hashes]] = OrderedDict()

    def hashes(self, dictionary: pa.Array) -> Hashes:
        """The hashes of a dictionary's entries; uint64 (n,)."""
        identity = identity_of(dictionary)
        known = self._known.get(identity)
        if known is None:
            known = self._known[identity] = dictionary, hash_keys(dictionary)  # held, so its memory stays its own
            if len(self._known) > _DICTIONARIES_KEPT:
                self._known.popitem(last=False)
        return known[1]


_dictionaries = _Dictionaries()


@kernel
def _mix_one(x: Any) -> Any:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def _mix_array(keys: Any) -> Any:
    out = np.empty(len(keys), np.uint64)
    for i in range(len(keys)):
        out[i] = _mix_one(keys[i])
    return out


@kernel
def _hash_floats(values: Any, bits: Any, salt: Any) -> Any:
    out = np.empty(len(values), np.uint64)
    for i in range(len(values)):
        value = values[i]
        if np.floor(value) == value and abs(value) < 9223372036854775808.0:
            out[i] = _mix_one(np.uint64(np.int64(value)))
        else:
            out[i] = _mix_one(bits[i] ^ salt)
    return out


@kernel
def _crc_mix(starts: Any, data: Any, table: Any, salt: Any) -> Any:
    out = np.empty(len(starts) - 1, np.uint64)
    for i in range(len(starts) - 1):
        crc = np.uint32(0xFFFFFFFF)
        for j in range(starts[i], starts[i + 1]):
            crc = table[np.uint8(crc ^ np.uint32(data[j]))] ^ (crc >> np.uint32(8))
        out[i] = _mix_one(np.uint64(crc ^ np.uint32(0xFFFFFFFF)) ^ salt)
    return out
