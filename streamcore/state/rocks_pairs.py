"""What entries of RocksDB mean: the keys and values of a state in a key group, in the order of the database.

::

    value   an entry per key
    list    an entry per key: how many chunks (4 bytes), how many values (2), the last values; and one for each chunk,
            under the key and its number (4 bytes)
    map     an entry per key of the map, under the key and that; a key that its bytes only equal has one more

Saved values follow each other without more: MessagePack tells where each ends.
"""

from __future__ import annotations

import itertools
import operator
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from streamcore.batch import plain
from streamcore.state.rocks_keys import cut_length, split_key

Entry = tuple[bytes, bytes]

_LIST_HEAD = struct.Struct(">IH")
_ARRAY = b"\xdc"
"""MessagePack's head of an array whose length is in the next two bytes."""
_LONG_ARRAY = struct.Struct(">BI")
_PAIR = b"\x92"
"""MessagePack's head of an array of two."""


class ListHead:
    """The entry of a list: its last values, which may be added to, and how many chunks there are before them."""

    __slots__ = ("chunks", "count", "values")

    def __init__(self, data: bytes | None) -> None:
        self.chunks, self.count = (0, 0) if data is None else _LIST_HEAD.unpack_from(data)
        self.values = b"" if data is None else data[_LIST_HEAD.size :]

    def encoded(self) -> bytes:
        """The entry's value."""
        return _LIST_HEAD.pack(self.chunks, self.count) + self.values

    def as_chunk(self) -> bytes:
        """The last values as the value of a chunk's entry."""
        return _ARRAY + struct.pack(">H", self.count) + self.values


def value_of(data: bytes) -> bytes:
    """The saved value, without the key that may be beside it."""
    return split_key(data)[1]


def pairs(kind: str, entries: Iterable[Entry], start: int, *, allow_pickle: bool) -> Iterator[tuple[Any, Any]]:
    """The keys and values of entries in order.

    Args:
        start: where keys begin in the entries.
    """
    if kind == "value":
        for entry, data in entries:
            own, value = split_key(data)
            key = entry[start:] if own is None else own
            yield plain.decode(key, allow_pickle=allow_pickle), plain.decode(value, allow_pickle=allow_pickle)
        return
    gather = _list_of if kind == "list" else _map_of
    for saved, parts in _by_key(entries, start):
        own, gathered = gather(parts, allow_pickle=allow_pickle)
        if gathered is not None:
            yield plain.decode(saved if own is None else own, allow_pickle=allow_pickle), gathered


def saved_pairs(kind: str, entries: Iterable[Entry], start: int) -> Iterator[bytes]:
    """Each key with its value as the plain codec has `[key, value]`, put together of what is saved without a look into
    it."""
    if kind == "value":
        for entry, data in entries:
            own, value = split_key(data)
            yield _PAIR + (entry[start:] if own is None else own) + value
        return
    for key, parts in _by_key(entries, start):
        own, values = _saved_list(parts) if kind == "list" else _saved_map(parts)
        if values:
            yield _PAIR + (key if own is None else own) + values


def array_of(saved: list[bytes]) -> bytes:
    """A list in the plain codec, of its saved items."""
    return _LONG_ARRAY.pack(0xDD, len(saved)) + b"".join(saved)


def keys(kind: str, entries: Iterable[Entry], start: int, *, allow_pickle: bool) -> Iterator[Any]:
    """The keys of entries in order, without looking into the values."""
    if kind == "value":
        for entry, data in entries:
            own = split_key(data)[0]
            yield plain.decode(entry[start:] if own is None else own, allow_pickle=allow_pickle)
        return
    for key, parts in _by_key(entries, start):
        suffix, data = next(parts)
        own = split_key(data)[0] if not suffix else None
        if kind == "list" or suffix or next(parts, None) is not None:
            yield plain.decode(key if own is None else own, allow_pickle=allow_pickle)


def map_pairs(entries: Iterable[Entry], start: int, *, allow_pickle: bool) -> Iterator[tuple[Any, Any]]:
    """The pairs of one key's map.

    Args:
        start: where the map's keys begin in the entries.
    """
    for entry, data in entries:
        if len(entry) > start:
            own, value = split_key(data)
            key = entry[start:] if own is None else own
            yield plain.decode(key, allow_pickle=allow_pickle), plain.decode(value, allow_pickle=allow_pickle)


def _by_key(entries: Iterable[Entry], start: int) -> Iterator[tuple[bytes, Iterator[Entry]]]:
    """(a key, its entries as (what follows the key, value)) for each key."""
    cut = ((*cut_length(entry, start), data) for entry, data in entries)
    for key, parts in itertools.groupby(cut, operator.itemgetter(0)):
        yield key, ((suffix, data) for _, suffix, data in parts)


def _list_of(parts: Iterator[Entry], *, allow_pickle: bool) -> tuple[bytes | None, Any]:
    own, data = split_key(next(parts)[1])
    head = ListHead(data)
    values = [value for _, chunk in parts for value in plain.decode(chunk, allow_pickle=allow_pickle)]
    return own, [*values, *plain.decode(head.as_chunk(), allow_pickle=allow_pickle)]


def _saved_list(parts: Iterator[Entry]) -> tuple[bytes | None, bytes]:
    own, data = split_key(next(parts)[1])
    head = ListHead(data)
    chunks = [chunk for _, chunk in parts]
    count = sum(_count_of(chunk) for chunk in chunks) + head.count
    return own, _LONG_ARRAY.pack(0xDD, count) + b"".join(chunk[3:] for chunk in chunks) + head.values


def _saved_map(parts: Iterator[Entry]) -> tuple[bytes | None, bytes]:
    """(the key beside, the map; empty if all that was in it is gone)."""
    own: bytes | None = None
    pairs: list[bytes] = []
    for suffix, data in parts:
        beside, value = split_key(data)
        if suffix:
            pairs.append(_PAIR + (suffix if beside is None else beside) + value)
        else:
            own = beside
    return own, plain.dict_of_saved(array_of(pairs)) if pairs else b""


def _count_of(chunk: bytes) -> int:
    count: int = struct.unpack_from(">H", chunk, 1)[0]
    return count


def _map_of(parts: Iterator[Entry], *, allow_pickle: bool) -> tuple[bytes | None, Any]:
    """(the key beside, the map; None if all that was in it is gone)."""
    own: bytes | None = None
    values: dict[Any, Any] = {}
    for suffix, data in parts:
        beside, value = split_key(data)
        if suffix:
            key = plain.decode(suffix if beside is None else beside, allow_pickle=allow_pickle)
            values[key] = plain.decode(value, allow_pickle=allow_pickle)
        else:
            own = beside
    return own, values or None
