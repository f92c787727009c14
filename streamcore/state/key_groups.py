"""Key groups: the unit in which keyed state is placed, saved and moved (as in Apache Flink).

`group = hash(key) % max_parallelism`, `subtask = group * parallelism // max_parallelism`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore.kernels.hashing import hash_keys
from streamcore.kernels.partition import assign_targets, group_rows

DEFAULT_MAX_PARALLELISM = 128
LIMIT_MAX_PARALLELISM = 32768

IntArray = np.ndarray[Any, np.dtype[np.int64]]


def default_max_parallelism(parallelism: int) -> int:
    """Room to grow: the power of two at or above 1.5 x parallelism, at least 128."""
    wanted = parallelism + parallelism // 2
    return min(max(1 << (wanted - 1).bit_length(), DEFAULT_MAX_PARALLELISM), LIMIT_MAX_PARALLELISM)


def groups_of(keys: Any, max_parallelism: int) -> IntArray:
    """The key group of each key (a list, NumPy or Arrow array); int64 (n,)."""
    hashes = hash_keys(keys)
    if max_parallelism & (max_parallelism - 1) == 0:  # a division costs ten times as much
        return (hashes & np.uint64(max_parallelism - 1)).astype(np.int64)
    return (hashes % np.uint64(max_parallelism)).astype(np.int64)


def subtasks_of(
    hashes: np.ndarray[Any, np.dtype[np.uint64]], max_parallelism: int, parallelism: int
) -> np.ndarray[Any, np.dtype[np.int32]]:
    """The subtask that each key hash belongs to; int32 (n,)."""
    result: np.ndarray[Any, np.dtype[np.int32]] = assign_targets(hashes, max_parallelism, parallelism)
    return result


def load_key_kernels() -> None:
    """Loads the compiled code by which records and state find their subtask. numba itself needs 150 ms to come up, once
    in a process: better before the first record than while it waits."""
    keys = np.zeros(1, np.int64)
    groups_of(keys, DEFAULT_MAX_PARALLELISM)
    group_rows(subtasks_of(hash_keys(keys), DEFAULT_MAX_PARALLELISM, 1), 1)


def group_range(subtask: int, parallelism: int, max_parallelism: int) -> range:
    """The key groups of one subtask."""
    start = (subtask * max_parallelism + parallelism - 1) // parallelism
    stop = ((subtask + 1) * max_parallelism + parallelism - 1) // parallelism
    return range(start, stop)
