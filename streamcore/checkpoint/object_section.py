"""State of Python objects in a table file, and what a chain of such files stands for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from streamcore.batch import plain
from streamcore.checkpoint.storage import Buffer
from streamcore.errors import DamagedCheckpointError, StateCodecError
from streamcore.state.object_capture import Entries, SavedObjects

_PAIR = b"\x92"
"""How MessagePack begins an array of two."""
_PAIRS: msgspec.msgpack.Decoder[list[tuple[msgspec.Raw, msgspec.Raw]]] = msgspec.msgpack.Decoder(
    list[tuple[msgspec.Raw, msgspec.Raw]]
)
_KEYS: msgspec.msgpack.Decoder[list[msgspec.Raw]] = msgspec.msgpack.Decoder(list[msgspec.Raw])

Section = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]
"""Key groups, entries in each, bytes of each; int64 (n,)."""


def section_of(entries: Entries) -> tuple[Section, list[Buffer]]:
    """Entries as arrays, and the bytes of all groups one after the other, in pieces."""
    groups = list(entries.bodies)
    numbers = (groups, [entries.counts[group] for group in groups], [len(entries.bodies[group]) for group in groups])
    first, second, third = (np.array(column, np.int64) for column in numbers)
    return (first, second, third), [memoryview(body) for body in entries.bodies.values()]


def entries_of(section: Section, body: memoryview) -> Entries:
    """What `section_of` was given."""
    entries, start = Entries(), 0
    for group, count, size in zip(*(column.tolist() for column in section), strict=True):
        entries.counts[group], entries.bodies[group] = count, bytearray(body[start : start + size])
        start += size
    return entries


def assemble_objects(chain: Sequence[SavedObjects], *, allow_pickle: bool) -> dict[str, Any]:
    """The state that a whole table and its increments stand for, oldest first:
    `{"kind", "groups": {group: bytes of [[key, value], ...]}}`."""
    whole, *increments = chain
    bodies = {group: _listed(count, [whole.entries.bodies[group]]) for group, count in whole.entries.counts.items()}
    changed = {group for part in increments for side in (part.entries, part.removed) for group in side.counts}
    for group in changed:
        pairs: dict[Any, bytes] = {}
        for part in chain:
            for key in _keys_in(part.removed, group):
                pairs.pop(_identity(key, allow_pickle), None)
            for key, value in _pairs_in(part.entries, group):
                identity = _identity(key, allow_pickle)
                pairs.pop(identity, None)  # or it would go on by its older key, which is equal and may look different
                pairs[identity] = b"".join((_PAIR, key, value))
        bodies[group] = _listed(len(pairs), pairs.values())
    return {"kind": whole.kind, "groups": {group: body for group, body in bodies.items() if body != _EMPTY}}


def _identity(key: msgspec.Raw, allow_pickle: bool) -> Any:
    """What tells keys apart as a dictionary does: 1, 1.0 and True are one. A key of a class that isn't loaded is told
    by its bytes."""
    try:
        return plain.decode(bytes(key), allow_pickle=allow_pickle)
    except StateCodecError:
        return bytes(key)


def _pairs_in(entries: Entries, group: int) -> list[tuple[msgspec.Raw, msgspec.Raw]]:
    pairs: list[tuple[msgspec.Raw, msgspec.Raw]] = _decoded(_PAIRS, entries, group)
    return pairs


def _keys_in(entries: Entries, group: int) -> list[msgspec.Raw]:
    keys: list[msgspec.Raw] = _decoded(_KEYS, entries, group)
    return keys


def _decoded(decoder: Any, entries: Entries, group: int) -> Any:
    if group not in entries.counts:
        return []
    try:
        return decoder.decode(_listed(entries.counts[group], [entries.bodies[group]]))
    except msgspec.DecodeError as error:
        raise DamagedCheckpointError(f"the entries of key group {group} are damaged: {error}") from error


def _listed(count: int, entries: Iterable[Buffer | bytearray]) -> bytes:
    """Entries as MessagePack has a list of them."""
    if count < 16:
        head = bytes([0x90 | count])
    elif count < 1 << 16:
        head = b"\xdc" + count.to_bytes(2, "big")
    else:
        head = b"\xdd" + count.to_bytes(4, "big")
    return b"".join((head, *entries))


_EMPTY = _listed(0, ())
