"""The key → slot index for keys of any form: chooses a compiled index by what the first keys are.

An index that was chosen too narrowly (text turns up among numbers) gives way to the dictionary of `ObjectIndex`,
with the same slots. Keys that are equal in Python share a slot, in whatever form they come.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.kernels.arrow_text import is_binary, is_text
from streamcore.kernels.index import IntArray, IntIndex
from streamcore.kernels.key_columns import KeyColumns, as_list
from streamcore.kernels.text_index import TextIndex

_INT64 = np.iinfo(np.int64)


class ObjectIndex:
    """Slots for keys without a compiled index: a dictionary, asked once per distinct key of an Arrow batch."""

    def __init__(self, keys: list[Any] | None = None) -> None:
        self._slots: dict[Any, int] = {key: slot for slot, key in enumerate(keys or [])}

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
        return list(itertools.islice(reversed(self._slots), self.size - start))[::-1]

    def slots(self, keys: Any) -> IntArray:
        """The slot of each key (a list, NumPy or Arrow array, `KeyColumns`), new keys getting new slots; int64 (n,)."""
        known = self._slots
        if isinstance(keys, pa.Array):
            distinct, codes = _encoded(keys)
            return np.array([known.setdefault(key, len(known)) for key in distinct], np.int64)[codes]
        return np.array([known.setdefault(key, len(known)) for key in as_list(keys)], np.int64)

    def find(self, keys: Any) -> IntArray:
        """The slot of each key, -1 for unknown keys; int64 (n,)."""
        return np.array([self._slots.get(key, -1) for key in as_list(keys)], np.int64)


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
        fields = []
        for pairs, field in zip(self._pairs[::-1], self._fields[:0:-1], strict=True):
            packed = pairs.keys[slots]
            fields.append(_taken(field.keys, packed & 0xFFFFFFFF))
            slots = packed >> 32
        fields.append(_taken(self._fields[0].keys, slots))
        return KeyColumns(fields[::-1])

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
        return self._index.take(slots) if isinstance(self._index, CompositeIndex) else _taken(self.keys, slots)

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


def _encoded(keys: pa.Array) -> tuple[list[Any], IntArray]:
    """The distinct keys in order of first appearance, and each record's place among them."""
    plain = keys.dictionary_decode() if pa.types.is_dictionary(keys.type) else keys
    encoded = plain.dictionary_encode(null_encoding="encode")
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def _taken(keys: Any, slots: IntArray) -> Any:
    if isinstance(keys, np.ndarray):
        return keys[slots]
    if isinstance(keys, pa.Array):
        return keys.take(pa.array(slots))
    if isinstance(keys, KeyColumns):
        return KeyColumns([_taken(field, slots) for field in keys.fields]).to_pylist()
    return [keys[slot] for slot in slots.tolist()]
