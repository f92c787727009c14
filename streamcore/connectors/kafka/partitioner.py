"""Which partition a record goes to: the same as with Kafka's Java client, so that a key's records are where every other
client puts and expects them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamcore.kernels.murmur2 import murmur2_column

_POSITIVE = np.uint32(0x7FFFFFFF)


def partitions_of(keys: Sequence[bytes | None], count: int, sticky: int) -> list[int]:
    """The partition of each key, of `count`; `sticky` where there is no key."""
    given: Any = keys
    try:
        data = b"".join(given)
    except TypeError:  # cheaper than to look for None in every batch
        hashed = iter(partitions_of([key for key in keys if key is not None], count, sticky))
        return [sticky if key is None else next(hashed) for key in keys]
    offsets = np.zeros(len(keys) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, given), np.int64, len(keys)), out=offsets[1:])
    hashes: Any = murmur2_column(offsets, np.frombuffer(data, np.uint8))
    partitions: list[int] = ((hashes & _POSITIVE) % np.uint32(count)).tolist()
    return partitions
