"""Which partition a record goes to: the same as with Kafka's Java client, so that a key's records are where every other
client puts and expects them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from streamcore.kernels.murmur2 import murmur2_column

_POSITIVE = np.uint32(0x7FFFFFFF)


def partitions_of(keys: Sequence[bytes | None], count: int, sticky: int) -> list[int]:
    """The partition of each key, of `count`; `sticky` where there is no key."""
    if None not in keys:
        return _hashed(keys, count)  # type: ignore[arg-type]
    hashed = iter(_hashed([key for key in keys if key is not None], count))
    return [sticky if key is None else next(hashed) for key in keys]


def _hashed(keys: Sequence[bytes], count: int) -> list[int]:
    offsets = np.zeros(len(keys) + 1, np.int64)
    offsets[1:] = np.fromiter(accumulate(map(len, keys)), np.int64, len(keys))
    hashes: Any = murmur2_column(offsets, np.frombuffer(b"".join(keys), np.uint8))
    partitions: list[int] = ((hashes & _POSITIVE) % np.uint32(count)).tolist()
    return partitions
