"""Dictionary-encoded columns: a text column may be held as indices (int32) into an array of its distinct values.

The field's type stays that of the values. Work on the distinct values (hashing them, looking them up) is then done
once a dictionary instead of once a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa


def is_dictionary(array: Any) -> bool:
    """Whether the column is held as indices into a dictionary."""
    return isinstance(array, pa.DictionaryArray)


def decoded(array: Any) -> Any:
    """The column as a plain array; itself if it is one."""
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


def normal_form(array: Any) -> Any:
    """The column as columns hold it: a dictionary has int32 indices, and what is missing is missing in the indices."""
    if not isinstance(array, pa.DictionaryArray):
        return array
    if array.dictionary.null_count:
        return array.dictionary_decode()
    if array.indices.type == pa.int32():
        return array
    return pa.DictionaryArray.from_arrays(array.indices.cast(pa.int32()), array.dictionary)


def take_rows(array: pa.Array, rows: Any) -> pa.Array:
    """The values at some positions, in that order; int64 (n,)."""
    if isinstance(array, pa.DictionaryArray) and array.null_count == 0:
        indices = array.indices.to_numpy()[rows]  # a third of what take costs for a few rows
        return pa.DictionaryArray.from_arrays(indices, array.dictionary, safe=False)
    return array.take(pa.array(rows))


def dictionary_id(array: pa.DictionaryArray) -> tuple[int, ...]:
    """What two arrays have in common that share one dictionary: where it lies. Good while one of them lives."""
    dictionary = array.dictionary
    addresses = (buffer.address if buffer is not None else 0 for buffer in dictionary.buffers())
    return (len(dictionary), dictionary.offset, *addresses)


def concat_arrays(pieces: Sequence[pa.Array]) -> pa.Array:
    """The pieces, plain or dictionary-encoded, one after another.

    Pieces of one dictionary keep it. Different dictionaries are made one where that costs less than to write out
    the values: when they have fewer entries than the pieces have records.
    """
    dictionaries = {dictionary_id(p): len(p.dictionary) for p in pieces if isinstance(p, pa.DictionaryArray)}
    if dictionaries:
        all_encoded = all(map(is_dictionary, pieces))
        if not all_encoded or (len(dictionaries) > 1 and sum(dictionaries.values()) > sum(map(len, pieces))):
            pieces = [decoded(piece) for piece in pieces]
    return pa.concat_arrays(pieces)


class DictionaryUse:
    """Says when work on a whole dictionary pays: as soon as the records that came with it outnumber its entries.

    Until then a batch's own values cost less, so the total is never more than twice the cheaper way's. Remembers the
    last dictionary only: a file brings one after another.
    """

    __slots__ = ("_id", "_records", "dictionary")

    def __init__(self) -> None:
        self._id: tuple[int, ...] = ()
        self._records = 0
        self.dictionary: pa.Array | None = None
        """The dictionary of the last array; held, so that no other can come to lie at its address."""

    def meets(self, array: pa.DictionaryArray) -> bool:
        """Takes note of the array; returns whether it has the dictionary of the one before."""
        found = dictionary_id(array)
        is_same = found == self._id
        if not is_same:
            self._id, self._records, self.dictionary = found, 0, array.dictionary
        self._records += len(array)
        return is_same

    @property
    def pays(self) -> bool:
        """Whether work on the whole dictionary costs no more than what was done record by record so far."""
        return self.dictionary is not None and self._records >= len(self.dictionary)
