"""Arrow arrays of text as NumPy arrays for kernels: no copies, and never past what the array owns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

_NO_BYTES = np.empty(0, np.uint8)


def is_text(type_: pa.DataType) -> bool:
    """Whether the type is that of strings, bytes, or a dictionary of either."""
    if pa.types.is_dictionary(type_):
        return is_text(type_.value_type)
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or is_binary(type_))


def is_binary(type_: pa.DataType) -> bool:
    """Whether the type is that of bytes, or a dictionary of bytes."""
    if pa.types.is_dictionary(type_):
        return is_binary(type_.value_type)
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def text_parts(words: pa.Array) -> tuple[Any, Any]:
    """(offsets, bytes): word i is bytes[offsets[i]:offsets[i + 1]]; int32 or int64 (n + 1,), uint8 (any length)."""
    if len(words) == 0:
        return np.zeros(1, np.int32), np.frombuffer(b"", np.uint8)
    _, offsets, data = words.buffers()
    wide = pa.types.is_large_string(words.type) or pa.types.is_large_binary(words.type)
    starts = np.frombuffer(offsets, np.int64 if wide else np.int32)[words.offset : words.offset + len(words) + 1]
    return starts, np.frombuffer(data if data is not None and data.size else b"", np.uint8)


def validity(array: pa.Array) -> tuple[Any, int]:
    """(bits, position of the first value's bit); no bits at all when no value is missing."""
    bits = array.buffers()[0] if len(array) else None
    return (np.frombuffer(bits, np.uint8), array.offset) if array.null_count and bits is not None else (_NO_BYTES, 0)


def dictionary_codes(indices: pa.Array) -> Any:
    """A dictionary array's indices; int32 or int64 (n,), of any value where one is missing."""
    if len(indices) == 0:
        return np.empty(0, np.int32)
    width = indices.type.bit_width
    kind = np.dtype(f"{'i' if pa.types.is_signed_integer(indices.type) else 'u'}{width // 8}")
    codes = np.frombuffer(indices.buffers()[1], kind)[indices.offset : indices.offset + len(indices)]
    return codes if kind in (np.int32, np.int64) else codes.astype(np.int32 if width < 32 else np.int64)


def identity_of(array: pa.Array) -> tuple[int, ...]:
    """Where an array's content lies: equal for two array objects over the same memory, as long as one is held."""
    return len(array), array.offset, *(buffer.address if buffer is not None else 0 for buffer in array.buffers())
