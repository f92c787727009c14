"""Partitioning a batch to N targets in one pass: a counting sort of the row positions."""

from __future__ import annotations

import itertools
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


def split_by_number(values: IntArray, numbers: IntArray) -> list[tuple[int, IntArray]]:
    """The values of each number, in the order in which they came.

    Args:
        values, numbers: int64 (n,), n > 0; numbers that lie close together cost less.

    Returns:
        (number, its values, int64) for each number there is, ascending.
    """
    lowest, grouped, starts = _grouped(values, numbers)
    if len(starts):
        bounds = starts.tolist()
        pairs = enumerate(itertools.pairwise(bounds), lowest)
        return [(number, grouped[start:stop]) for number, (start, stop) in pairs if start < stop]
    distinct, ranks = np.unique(numbers, return_inverse=True)
    order, starts = group_rows(ranks, len(distinct))
    return list(zip(distinct.tolist(), np.split(values[order], starts[1:-1]), strict=True))


@kernel
def _grouped(values: Any, numbers: Any) -> Any:
    """(the lowest number, the values grouped by number, where the group of each number from there on begins), the last
    empty where the numbers lie so far apart that there would be more groups than values."""
    lowest, highest = numbers[0], numbers[0]
    for i in range(len(numbers)):
        lowest, highest = min(lowest, numbers[i]), max(highest, numbers[i])
    if lowest == highest:
        return lowest, values.copy(), np.array([0, len(values)])
    if np.uint64(highest) - np.uint64(lowest) > np.uint64(len(numbers)):  # the distance may be beyond int64
        return lowest, values, np.empty(0, np.int64)
    starts = np.zeros(highest - lowest + 2, np.int64)
    for i in range(len(numbers)):
        starts[numbers[i] - lowest + 1] += 1
    for k in range(1, len(starts)):
        starts[k] += starts[k - 1]
    place, grouped = starts.copy(), np.empty(len(values), np.int64)
    for i in range(len(numbers)):
        k = numbers[i] - lowest
        grouped[place[k]] = values[i]
        place[k] += 1
    return lowest, grouped, starts


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
