"""Partitioners: which records of a batch go to which target subtask."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from streamcore.batch import Batch, slice_batch, take, to_rows
from streamcore.errors import UsageError
from streamcore.kernels.partition import group_rows
from streamcore.runtime.spec import Partitioning, Route
from streamcore.state.key_groups import subtasks_of

Split = Iterator[tuple[int, Batch]]
"""Pairs (target subtask, its records)."""

Partitioner = Callable[[Batch], Split]


def make_partitioner(partitioning: Partitioning, subtask: int, targets: int, max_parallelism: int) -> Partitioner:
    """The partitioner of one sending subtask over `targets` receivers."""
    match partitioning.route:
        case Route.FORWARD:
            return lambda batch: iter([(subtask, batch)])
        case Route.BROADCAST:
            return lambda batch: ((target, batch) for target in range(targets))
        case Route.REBALANCE:
            return _Rebalance(subtask, targets)
        case Route.HASH:
            key = partitioning.key
            assert key is not None, "a hash edge without key"
            if targets == 1:
                return lambda batch: iter([(0, batch)])
            return lambda batch: _by_target(batch, subtasks_of(key.hashes(batch), max_parallelism, targets), targets)
        case Route.CUSTOM:
            choose = partitioning.choose
            assert choose is not None, "a custom edge without function"
            return lambda batch: _by_target(batch, _chosen(choose, batch, targets), targets)


class _Rebalance:
    """Deals the batches out evenly: each is cut into one run per target, the longest going round."""

    def __init__(self, subtask: int, targets: int) -> None:
        self._next = subtask
        self._targets = targets

    def __call__(self, batch: Batch) -> Split:
        first, targets, stop = self._next, self._targets, 0
        share, longer = divmod(len(batch), targets)
        self._next = (first + longer) % targets
        for piece in range(targets if share else longer):
            start, stop = stop, stop + share + (piece < longer)
            yield (first + piece) % targets, slice_batch(batch, start, stop)


def _by_target(batch: Batch, chosen: np.ndarray[tuple[int], np.dtype[np.int32]], targets: int) -> Split:
    order, starts = group_rows(chosen, targets)
    grouped = take(batch, order)
    for target in range(targets):
        if starts[target] < starts[target + 1]:
            yield target, slice_batch(grouped, int(starts[target]), int(starts[target + 1]))


def _chosen(
    choose: Callable[[object, int], int], batch: Batch, targets: int
) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    chosen = np.array([choose(record, targets) for record in to_rows(batch)], np.int32)
    wrong = (chosen < 0) | (chosen >= targets)
    if wrong.any():
        raise UsageError(
            f"a custom partitioner chose subtask {int(chosen[wrong][0])} of {targets}",
            hint="return a number from 0 up to, not including, the second argument",
        )
    return chosen
