"""murmur2 as Kafka's Java client hashes record keys: what puts a key into the partition where every client expects it.

The function is MurmurHash2 of Austin Appleby, 32 bits, with the seed 0x9747b28c.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore.kernels.compile import kernel

_SEED = 0x9747B28C
_LOW = 0xFFFFFFFF
_M = 0x5BD1E995


def murmur2(key: bytes) -> int:
    """The hash of one key, 0 to 2³² - 1 (Java's is the same bits with a sign)."""
    return int(_hash(np.frombuffer(key, np.uint8), 0, len(key)))


def murmur2_column(offsets: Any, data: Any) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The hashes of many keys: key i is data[offsets[i]:offsets[i + 1]].

    Args:
        offsets: int32 or int64 (n + 1,).
        data: uint8 (any length).

    Returns:
        uint32 (n,).
    """
    hashes: np.ndarray[Any, np.dtype[np.uint32]] = _hash_all(offsets, data)
    return hashes


@kernel
def _hash(data: Any, start: int, end: int) -> Any:
    # 64-bit arithmetic cut to 32 bits: numba widens a product of two uint32 anyway
    h = np.uint64(_SEED) ^ np.uint64(end - start)
    whole = start + ((end - start) & ~3)
    for i in range(start, whole, 4):
        k = (
            np.uint64(data[i])
            | np.uint64(data[i + 1]) << np.uint64(8)
            | np.uint64(data[i + 2]) << np.uint64(16)
            | np.uint64(data[i + 3]) << np.uint64(24)
        )
        k = (k * np.uint64(_M)) & np.uint64(_LOW)
        k = ((k ^ (k >> np.uint64(24))) * np.uint64(_M)) & np.uint64(_LOW)
        h = ((h * np.uint64(_M)) & np.uint64(_LOW)) ^ k
    left = end - whole
    if left == 3:
        h ^= np.uint64(data[whole + 2]) << np.uint64(16)
    if left >= 2:
        h ^= np.uint64(data[whole + 1]) << np.uint64(8)
    if left >= 1:
        h = ((h ^ np.uint64(data[whole])) * np.uint64(_M)) & np.uint64(_LOW)
    h = ((h ^ (h >> np.uint64(13))) * np.uint64(_M)) & np.uint64(_LOW)
    return h ^ (h >> np.uint64(15))


@kernel
def _hash_all(offsets: Any, data: Any) -> Any:
    hashes = np.empty(len(offsets) - 1, np.uint32)
    for i in range(len(hashes)):
        hashes[i] = _hash(data, offsets[i], offsets[i + 1])
    return hashes
