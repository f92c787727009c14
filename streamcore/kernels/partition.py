"""Partitioning a batch to N targets in one pass: a counting sort of the row positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore.kernels.compile import kernel

IntArray = np.ndarray[Any, np.dtype[np.int64]]


def group_rows(targets: np.ndarray[Any, Any], n_targets: int) -> tuple[IntArray, IntArray]:
    """Row positions grouped by target, stable within each.

    Args:
        targets: integer (n,), each in [0, n_targets).

    Returns:
        (order, starts): int64 (n,) positions, and int64 (n_targets + 1,) where each target's run begins.
    """
    result: tuple[IntArray, IntArray] = _counting_sort(targets, n_targets)
    return result


@kernel
def _counting_sort(targets: Any, n_targets: Any) -> Any:
    starts = np.zeros(n_targets + 1, np.int64)
    for i in range(len(targets)):
        starts[targets[i] + 1] += 1
    for t in range(n_targets):
        starts[t + 1] += starts[t]
    place = starts.copy()
    order = np.empty(len(targets), np.int64)
    for i in range(len(targets)):
        t = targets[i]
        order[place[t]] = i
        place[t] += 1
    return order, starts


@kernel
def assign_targets(hashes: Any, max_parallelism: Any, parallelism: Any) -> Any:
    """The subtask of each key hash: key group = hash % max_parallelism, then the group's subtask; int32 (n,)."""
    by_group = np.empty(max_parallelism, np.int32)
    for group in range(max_parallelism):
        by_group[group] = group * parallelism // max_parallelism
    out = np.empty(len(hashes), np.int32)
    if max_parallelism & (max_parallelism - 1) == 0:  # a division costs more than all the rest
        for i in range(len(hashes)):
            out[i] = by_group[hashes[i] & np.uint64(max_parallelism - 1)]
    else:
        for i in range(len(hashes)):
            out[i] = by_group[hashes[i] % np.uint64(max_parallelism)]
    return out
