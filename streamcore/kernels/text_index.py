"""The compiled key → slot index for text: strings or bytes, read where Arrow has them.

Open addressing with linear probing. A place of the table is two numbers: the word's 64-bit hash, and its slot and
length. The hash of a word of up to 8 bytes can be inverted, so that for those equal hash and length mean equal
words; only longer ones are compared byte by byte.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pyarrow as pa
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from streamcore.kernels.arrow_text import dictionary_codes, identity_of, text_parts, validity
from streamcore.kernels.compile import kernel

IntArray = np.ndarray[Any, np.dtype[np.int64]]

_SIZE, _HEAP_USED, _NULL_SLOT = range(3)  # what `_state` holds
_MARGIN = 8  # bytes kept free behind the heap's words, so that any word can be read 8 bytes at a time
_LONGEST = 0xFFFF  # lengths above this are not told apart by the table, only by the bytes
_DICTIONARIES_KEPT = 16


class TextIndex:
    """Gives each distinct word a slot: 0, 1, 2, … in order of first appearance. A missing value is a word too.

    Args:
        is_binary: the words are bytes, not strings.
    """

    def __init__(self, *, is_binary: bool = False, capacity: int = 64) -> None:
        self.is_binary = is_binary
        self._table = np.zeros(2 * capacity, np.uint64)  # of each place: hash, (slot + 1) << 16 | length; 0: free
        self._heap = np.empty(8 * capacity + _MARGIN, np.uint8)
        self._offsets = np.zeros(capacity + 1, np.int64)
        self._state = np.array([0, 0, -1], np.int64)
        self._dictionaries: OrderedDict[tuple[int, ...], tuple[pa.Array, IntArray]] = OrderedDict()

    @property
    def size(self) -> int:
        """How many slots there are."""
        return int(self._state[_SIZE])

    @property
    def keys(self) -> pa.Array:
        """The words in slot order; large_string or large_binary (size,)."""
        return self.keys_from(0)

    def keys_from(self, start: int) -> pa.Array:
        """The words of the slots from `start` on; large_string or large_binary (size - start,). Shares memory with the
        index, which only ever adds to it."""
        size = self.size
        valid, null_slot = None, int(self._state[_NULL_SLOT])
        if null_slot >= start:
            bits = np.ones(size - start, np.uint8)
            bits[null_slot - start] = 0
            valid = pa.py_buffer(np.packbits(bits, bitorder="little"))
        buffers = [valid, pa.py_buffer(self._offsets[start : size + 1]), pa.py_buffer(self._heap)]
        return pa.Array.from_buffers(pa.large_binary() if self.is_binary else pa.large_string(), size - start, buffers)

    def slots(self, words: pa.Array) -> IntArray:
        """The slot of each word, new ones getting new slots; int64 (n,).

        A dictionary's entries get slots only when a record has them, and are looked up once per dictionary, not
        once per batch.
        """
        out = np.empty(len(words), np.int64)
        if pa.types.is_dictionary(words.type):
            known = self._known_slots(words.dictionary)
            codes, dictionary = dictionary_codes(words.indices), words.dictionary
            present = (*validity(words.indices), known, *text_parts(dictionary), *validity(dictionary))
            done = 0
            while True:
                done = _slots_of_codes(
                    codes, *present, done, out,
                    self._table, self._heap, self._offsets, self._state,
                )  # fmt: skip
                if done == len(words):
                    return out
                self._grow()
        texts = text_parts(words)
        missing = validity(words)
        done = 0
        while True:
            done = _slots_of_words(*texts, *missing, done, out, self._table, self._heap, self._offsets, self._state)
            if done == len(words):
                return out
            self._grow()

    def find(self, words: pa.Array) -> IntArray:
        """The slot of each word, -1 for unknown ones; int64 (n,)."""
        if pa.types.is_dictionary(words.type):
            words = words.dictionary_decode()
        result: IntArray = _find(
            *text_parts(words), *validity(words), self._table, self._heap, self._offsets, self._state
        )
        return result

    def _known_slots(self, dictionary: pa.Array) -> IntArray:
        """The slots that the entries of a dictionary have got so far, -1: none yet. The dictionary is recognised
        by where it lies in memory (it is held, so nothing else can come to lie there), and one that has grown by
        what it begins with."""
        cache = self._dictionaries
        identity = identity_of(dictionary)
        if identity in cache:
            cache.move_to_end(identity)
            return cache[identity][1]
        known = np.full(len(dictionary), -1, np.int64)
        if cache:
            newest = next(reversed(cache))
            shorter, its_slots = cache[newest]
            if len(shorter) <= len(dictionary) and dictionary.slice(0, len(shorter)).equals(shorter):
                known[: len(its_slots)] = its_slots
                del cache[newest]
        cache[identity] = dictionary, known
        if len(cache) > _DICTIONARIES_KEPT:
            cache.popitem(last=False)
        return known

    def _grow(self) -> None:
        """Room for as much again, of slots or of bytes, whichever had run out."""
        size, used = self.size, int(self._state[_HEAP_USED])
        if 2 * (size + 1) > len(self._offsets) - 1:
            bigger = np.zeros(2 * len(self._offsets) - 1, np.int64)
            bigger[: size + 1] = self._offsets[: size + 1]
            self._offsets = bigger
            table = np.zeros(2 * len(self._table), np.uint64)
            _rehash(self._table, table)
            self._table = table
        else:
            heap = np.empty(2 * len(self._heap) + _LONGEST, np.uint8)
            heap[:used] = self._heap[:used]
            self._heap = heap


def _typed_load(typing_context: Any, array: Any, position: Any) -> Any:
    """The 8 bytes at a position of a uint8 array, which need not be aligned, as one uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.gep(data, [arguments[1]])
        return builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(array, types.int64), generate


_load: Any = intrinsic(_typed_load)


@kernel
def _hash(data: Any, start: Any, length: Any) -> Any:
    h = np.uint64(length) * np.uint64(0x9E3779B97F4A7C15)
    if length <= 8:
        word = np.uint64(0)
        if length == 0:
            pass
        elif start + 8 <= len(data):
            word = _load(data, start) & (np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - 8 * length))
        else:
            for i in range(length):
                word |= np.uint64(data[start + i]) << np.uint64(8 * i)
        h ^= word
    else:
        position = start
        while position < start + length - 8:
            h = (h ^ _load(data, position)) * np.uint64(0xFF51AFD7ED558CCD)
            h ^= h >> np.uint64(32)
            position += 8
        h ^= _load(data, start + length - 8)
    # the finaliser of MurmurHash3 (Appleby), short by a step: a bijection
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(29))


@kernel
def _equal(data: Any, start: Any, length: Any, heap: Any, offset: Any) -> Any:
    """Whether a word of more than 8 bytes is the heap's at `offset`."""
    for i in range(0, length - 8, 8):
        if _load(data, start + i) != _load(heap, offset + i):
            return False
    return _load(data, start + length - 8) == _load(heap, offset + length - 8)


@kernel
def _look_up(data: Any, start: Any, length: Any, table: Any, heap: Any, offsets: Any, state: Any, insert: Any) -> Any:
    """The slot of a word; when it is new, -1 without `insert`, -2 where there is no room for it."""
    places = len(table) // 2
    mask = np.uint64(places - 1)
    h = _hash(data, start, length)
    tag = np.uint64(min(length, 0xFFFF))
    place = (h >> np.uint64(20)) & mask
    while True:
        entry = table[np.uint64(2) * place + np.uint64(1)]
        if entry == np.uint64(0):
            break
        if table[np.uint64(2) * place] == h and (entry & np.uint64(0xFFFF)) == tag:
            slot = np.int64(entry >> np.uint64(16)) - 1
            if length <= 8 or (
                offsets[slot + 1] - offsets[slot] == length and _equal(data, start, length, heap, offsets[slot])
            ):
                return slot
        place = (place + np.uint64(1)) & mask
    if not insert:
        return np.int64(-1)
    size, used = state[0], state[1]
    if 2 * (size + 1) > places or used + length + 8 > len(heap):
        return np.int64(-2)
    for i in range(length):
        heap[used + i] = data[start + i]
    offsets[size + 1] = used + length
    table[np.uint64(2) * place] = h
    table[np.uint64(2) * place + np.uint64(1)] = (np.uint64(size + 1) << np.uint64(16)) | tag
    state[0] = size + 1
    state[1] = used + length
    return size


@kernel
def _is_missing(bits: Any, position: Any) -> Any:
    return len(bits) > 0 and not (bits[position >> 3] >> (position & 7)) & 1


@kernel
def _slot_of_missing(offsets: Any, state: Any) -> Any:
    if state[2] < 0:
        size = state[0]
        if 2 * (size + 1) > len(offsets) - 1:
            return np.int64(-2)
        offsets[size + 1] = state[1]
        state[0] = size + 1
        state[2] = size
    return state[2]


@kernel
def _slots_of_words(
    starts: Any, data: Any, bits: Any, bit: Any, begin: Any, out: Any, table: Any, heap: Any, offsets: Any, state: Any
) -> Any:
    for i in range(begin, len(out)):
        if _is_missing(bits, bit + i):
            slot = _slot_of_missing(offsets, state)
        else:
            start = np.int64(starts[i])
            slot = _look_up(data, start, np.int64(starts[i + 1]) - start, table, heap, offsets, state, True)
        if slot < 0:
            return i
        out[i] = slot
    return len(out)


@kernel
def _slots_of_codes(
    codes: Any, code_bits: Any, code_bit: Any, known: Any, starts: Any, data: Any, bits: Any, bit: Any,
    begin: Any, out: Any, table: Any, heap: Any, offsets: Any, state: Any,
) -> Any:  # fmt: skip
    for i in range(begin, len(out)):
        if _is_missing(code_bits, code_bit + i):
            slot = _slot_of_missing(offsets, state)
        else:
            code = codes[i]
            slot = known[code]
            if slot < 0:
                if _is_missing(bits, bit + code):
                    slot = _slot_of_missing(offsets, state)
                else:
                    start = np.int64(starts[code])
                    length = np.int64(starts[code + 1]) - start
                    slot = _look_up(data, start, length, table, heap, offsets, state, True)
                known[code] = slot
        if slot < 0:
            return i
        out[i] = slot
    return len(out)


@kernel
def _find(starts: Any, data: Any, bits: Any, bit: Any, table: Any, heap: Any, offsets: Any, state: Any) -> Any:
    out = np.empty(len(starts) - 1, np.int64)
    for i in range(len(out)):
        if _is_missing(bits, bit + i):
            out[i] = state[2]
        else:
            start = np.int64(starts[i])
            out[i] = _look_up(data, start, np.int64(starts[i + 1]) - start, table, heap, offsets, state, False)
    return out


@kernel
def _rehash(old: Any, table: Any) -> Any:
    mask = np.uint64(len(table) // 2 - 1)
    for i in range(0, len(old), 2):
        if old[i + 1] != np.uint64(0):
            place = (old[i] >> np.uint64(20)) & mask
            while table[np.uint64(2) * place + np.uint64(1)] != np.uint64(0):
                place = (place + np.uint64(1)) & mask
            table[np.uint64(2) * place] = old[i]
            table[np.uint64(2) * place + np.uint64(1)] = old[i + 1]
