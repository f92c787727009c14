"""The frame that serializers with a schema registry put before a value: a zero, the schema's id in four bytes, and for
Protobuf which of the schema's messages it is."""

from __future__ import annotations

import struct

_FRAME = struct.Struct(">bI")


def unframe(data: bytes) -> tuple[int, bytes]:
    """The schema's id, and what follows.

    Raises:
        ValueError: there is no frame.
    """
    if len(data) < _FRAME.size or data[0] != 0:
        raise ValueError("not framed for a schema registry (a zero and the schema's id)")
    return _FRAME.unpack_from(data)[1], data[_FRAME.size :]


def skip_message_indexes(data: bytes) -> bytes:
    """What follows the list of indexes: zigzag numbers, the first of them how many there are.

    Raises:
        ValueError: it is cut off.
    """
    count, at = _zigzag(data, 0)
    for _ in range(count):
        _, at = _zigzag(data, at)
    return data[at:]


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("the frame is cut off")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), at
