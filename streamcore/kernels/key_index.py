"""The key → slot index for keys of any form: chooses a compiled index by what the first keys are.

An index that was chosen too narrowly (text turns up among numbers) gives way to the dictionary of `ObjectIndex`,
with the same slots. Keys that are equal in Python share a slot, in whatever form they come.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.kernels.arrow_text import is_binary, is_text
from streamcore.kernels.index import IntArray, IntIndex
from streamcore.kernels.key_columns import KeyColumns, as_list
from streamcore.kernels.text_index import TextIndex

_INT64 = np.iinfo(np.int64)
_NAN = float("nan")


class ObjectIndex:
    """Slots for keys without a compiled index: a dictionary, asked once per distinct key of an Arrow batch."""

    def __init__(self, keys: list[Any] | None = None) -> None:
        self._slots: dict[Any, int] = {key: slot for slot, key in enumerate(_one_nan(keys or []))}

    @property
    def size(self) -> int:
        """How many slots there are."""
        return len(self._slots)

    @property
    def keys(self) -> list[Any]:
        """The keys in slot order."""
        return list(self._slots)

    def keys_from(self, start: int) -> list[Any]:
        """The keys of the slots from `start` on."""
        return list(itertools.islice(reversed(self._slots), self.size - start))[::-1] if start else self.keys

    def slots(self, keys: Any) -> IntArray:
        """The slot of each key (a list, NumPy or Arrow array, `KeyColumns`), new keys getting new slots; int64 (n,)."""
        known = self._slots
        if isinstance(keys, pa.Array):
            distinct, codes = _encoded(keys)
            return np.array([known.setdefault(key, len(known)) for key in _one_nan(distinct)], np.int64)[codes]
        return np.array([known.setdefault(key, len(known)) for key in _one_nan(as_list(keys))], np.int64)

    def find(self, keys: Any) -> IntArray:
        """The slot of each key, -1 for unknown keys; int64 (n,)."""
        return np.array([self._slots.get(key, -1) for key in _one_nan(as_list(keys))], np.int64)


class CompositeIndex:
    """Slots for tuple keys: each field has an index of its own, and the slots of two fields, packed into one
    integer, are the key of an index of pairs; so from left to right."""

    def __init__(self, width: int) -> None:
        self._fields = [KeyIndex() for _ in range(width)]
        self._pairs = [IntIndex() for _ in range(width - 1)]

    @property
    def width(self) -> int:
        """How many fields a key has."""
        return len(self._fields)

    @property
    def size(self) -> int:
        """How many slots there are."""
        return self._pairs[-1].size if self._pairs else self._fields[0].size

    @property
    def keys(self) -> KeyColumns:
        """The keys in slot order, field by field."""
        return self.keys_from(0)

    def keys_from(self, start: int) -> KeyColumns:
        """The keys of the slots from `start` on."""
        return self.take(np.arange(start, self.size))

    def take(self, slots: IntArray) -> KeyColumns:
        """The keys of some slots, field by field."""
        return self.lazy_keys(slots)()

    def lazy_keys(self, slots: IntArray) -> Callable[[], KeyColumns]:
        """A function that puts these keys together, in any thread, whatever is added meanwhile."""
        fields, pairs = [field.keys for field in self._fields], [pairs.keys for pairs in self._pairs]
        return lambda: _composed(slots, fields, pairs)

    def slots(self, keys: KeyColumns) -> IntArray:
        """The slot of each key, new keys getting new slots; int64 (n,)."""
        slots = self._fields[0].slots(keys.fields[0])
        for pairs, index, field in zip(self._pairs, self._fields[1:], keys.fields[1:], strict=True):
            slots = pairs.slots((slots << 32) | index.slots(field))
        return slots

    def find(self, keys: KeyColumns) -> IntArray:
        """The slot of each key, -1 for unknown keys; int64 (n,)."""
        slots = self._fields[0].find(keys.fields[0])
        for pairs, index, field in zip(self._pairs, self._fields[1:], keys.fields[1:], strict=True):
            right = index.find(field)
            found = pairs.find((slots << 32) | right)
            slots = np.where((slots < 0) | (right < 0), -1, found)
        return slots


class KeyIndex:
    """Gives each distinct key a slot: 0, 1, 2, … in order of first appearance.

    Keys come as a list, a NumPy or Arrow array, or `KeyColumns`.
    """

    def __init__(self) -> None:
        self._index: IntIndex | TextIndex | CompositeIndex | ObjectIndex | None = None

    @property
    def size(self) -> int:
        """How many slots there are."""
        return self._index.size if self._index is not None else 0

    @property
    def keys(self) -> Any:
        """The keys in slot order (size,): int64 array, large_string or large_binary Arrow array, `KeyColumns`, or
        list. Arrays share memory
        with the index, which only ever adds to it."""
        return self._index.keys if self._index is not None else np.empty(0, np.int64)

    def keys_from(self, start: int) -> Any:
        """The keys of the slots from `start` on, in the same form."""
        return self._index.keys_from(start) if self._index is not None else np.empty(0, np.int64)

    def take(self, slots: IntArray) -> Any:
        """The keys of some slots (n,), in the same form."""
        return self._index.take(slots) if isinstance(self._index, CompositeIndex) else take_keys(self.keys, slots)

    def lazy_keys_from(self, start: int) -> Callable[[], Any]:
        """A function that gives these keys later, in any thread, whatever is added meanwhile."""
        if isinstance(self._index, CompositeIndex):
            return self._index.lazy_keys(np.arange(start, self.size))
        keys = self.keys_from(start)
        return lambda: keys

    def slots(self, keys: Any) -> IntArray:
        """The slot of each key, new keys getting new slots; int64 (n,)."""
        if len(keys) == 0:
            return np.empty(0, np.int64)
        compiled = _compiled_form(keys)
        index = self._index
        if index is None:
            index = self._index = _index_for(compiled)
        if not _fits(index, compiled):
            index = self._index = ObjectIndex(as_list(index.keys))
        return index.slots(keys if isinstance(index, ObjectIndex) else compiled)

    def find(self, keys: Any) -> IntArray:
        """The slot of each key, -1 for unknown keys; int64 (n,)."""
        if len(keys) == 0 or self._index is None:
            return np.full(len(keys), -1, np.int64)
        compiled = _compiled_form(keys)
        if isinstance(self._index, ObjectIndex):
            return self._index.find(keys)
        if not _fits(self._index, compiled):
            return ObjectIndex(as_list(self._index.keys)).find(keys)
        return self._index.find(compiled)

    def find_one(self, key: Any) -> int:
        """The slot of one key, -1 if it is unknown; also at once where the key is of a form that no key here has."""
        if isinstance(key, bool):
            key = int(key)
        compiled = _compiled_form([key])
        if self._index is None or not (isinstance(self._index, ObjectIndex) or _fits(self._index, compiled)):
            return -1
        return int(self.find([key])[0])


def _index_for(keys: Any) -> IntIndex | TextIndex | CompositeIndex | ObjectIndex:
    if isinstance(keys, np.ndarray):
        return IntIndex()
    if isinstance(keys, pa.Array):
        return TextIndex(is_binary=is_binary(keys.type))
    return CompositeIndex(len(keys.fields)) if isinstance(keys, KeyColumns) else ObjectIndex()


def _fits(index: IntIndex | TextIndex | CompositeIndex | ObjectIndex, keys: Any) -> bool:
    if isinstance(index, IntIndex):
        return isinstance(keys, np.ndarray)
    if isinstance(index, TextIndex):
        if isinstance(keys, np.ndarray) or not isinstance(keys, pa.Array):
            return False
        return is_binary(keys.type) == index.is_binary
    if isinstance(index, CompositeIndex):
        return isinstance(keys, KeyColumns) and len(keys.fields) == index.width
    return True


def _compiled_form(keys: Any) -> Any:
    """The keys as a compiled index takes them - an int64 array, an Arrow array of text, `KeyColumns` - or None."""
    if isinstance(keys, KeyColumns):
        return keys
    if isinstance(keys, np.ndarray):
        if keys.dtype.kind in "ib" or (keys.dtype.kind == "u" and (keys.itemsize < 8 or keys.max() <= _INT64.max)):
            return keys.astype(np.int64, copy=False)
        return pa.array(keys.tolist(), pa.string()) if keys.dtype.kind == "U" else None
    if isinstance(keys, pa.Array):
        if is_text(keys.type):
            return keys
        is_number = pa.types.is_integer(keys.type) and keys.null_count == 0
        return _compiled_form(keys.to_numpy()) if is_number else None
    return _compiled_list(keys)


def _compiled_list(keys: list[Any]) -> Any:
    kinds = set(map(type, keys))
    try:
        if kinds == {int}:
            return np.array(keys, np.int64)
        if kinds <= {str, type(None)}:
            return pa.array(keys, pa.large_string())
        if kinds <= {bytes, type(None)}:
            return pa.array(keys, pa.large_binary())
    except (OverflowError, UnicodeEncodeError):
        return None
    if kinds == {tuple} and keys[0] and len(set(map(len, keys))) == 1:
        return KeyColumns([list(field) for field in zip(*keys, strict=True)])
    return None


def _one_nan(keys: list[Any]) -> list[Any]:
    """The keys with one object for NaN: a dictionary finds it by identity alone, and every record brings its own."""
    return [_NAN if key != key else key for key in keys]  # noqa: PLR0124 - true for NaN alone


def _encoded(keys: pa.Array) -> tuple[list[Any], IntArray]:
    """The distinct keys in order of first appearance, and each record's place among them."""
    plain = keys.dictionary_decode() if pa.types.is_dictionary(keys.type) else keys
    encoded = plain.dictionary_encode(null_encoding="encode")
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def _composed(slots: IntArray, fields: list[Any], pairs: list[IntArray]) -> KeyColumns:
    """The keys of slots of a composite index: the last index of pairs leads to the last field and the one before."""
    columns = []
    for packed, field in zip(pairs[::-1], fields[:0:-1], strict=True):
        pair = packed[slots]
        columns.append(take_keys(field, pair & 0xFFFFFFFF))
        slots = pair >> 32
    columns.append(take_keys(fields[0], slots))
    return KeyColumns(columns[::-1])


def take_keys(keys: Any, rows: IntArray) -> Any:
    """Keys at the given places, in the form that they have."""
    if isinstance(keys, np.ndarray):
        return keys[rows]
    if isinstance(keys, pa.Array):
        return keys.take(pa.array(rows))
    if isinstance(keys, KeyColumns):
        return KeyColumns([take_keys(field, rows) for field in keys.fields])
    return [keys[row] for row in rows.tolist()]


def concat_keys(parts: Sequence[Any]) -> Any:
    """All keys of the parts in order; in the form that they have if it is one, else as a list."""
    parts = [part for part in parts if len(part)] or parts[:1]
    first = parts[0]
    if len(parts) == 1:
        return first
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    if all(isinstance(part, pa.Array) and part.type == first.type for part in parts):
        return pa.concat_arrays(parts)
    if all(isinstance(part, KeyColumns) and len(part.fields) == len(first.fields) for part in parts):
        return KeyColumns([concat_keys(fields) for fields in zip(*(part.fields for part in parts), strict=True)])
    return [key for part in parts for key in as_list(part)]
