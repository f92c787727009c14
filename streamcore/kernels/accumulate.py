"""Accumulators in arrays: one pass over a batch per accumulator."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore.kernels.compile import kernel


@kernel
def add_ones(totals: Any, entries: Any) -> None:
    """totals[entries[i]] += 1."""
    for i in range(len(entries)):
        totals[entries[i]] += 1


@kernel
def set_all(totals: Any, entries: Any, value: Any) -> None:
    """totals[entries[i]] = value."""
    for i in range(len(entries)):
        totals[entries[i]] = value


@kernel
def add_values(totals: Any, entries: Any, values: Any) -> None:
    """totals[entries[i]] += values[i], in order."""
    for i in range(len(entries)):
        totals[entries[i]] += values[i]


@kernel
def keep_lowest(lowest: Any, entries: Any, values: Any) -> None:
    """lowest[entries[i]] = min(lowest[entries[i]], values[i]); NaN stands for nothing yet."""
    for i in range(len(entries)):
        before, value = lowest[entries[i]], values[i]
        # without a branch, which could not be foretold
        lowest[entries[i]] = value if (value < before) | (before != before) else before  # noqa: PLR0124 - true for NaN


@kernel
def keep_highest(highest: Any, entries: Any, values: Any) -> None:
    """highest[entries[i]] = max(highest[entries[i]], values[i]); NaN stands for nothing yet."""
    for i in range(len(entries)):
        before, value = highest[entries[i]], values[i]
        highest[entries[i]] = value if (value > before) | (before != before) else before  # noqa: PLR0124


@kernel
def add_moments(counts: Any, means: Any, squares: Any, entries: Any, values: Any) -> None:
    """Adds values[i] to the number, mean, and sum of squared distances from the mean of entries[i] (Welford 1962)."""
    for i in range(len(entries)):
        entry = entries[i]
        counts[entry] += 1
        before = values[i] - means[entry]
        means[entry] += before / counts[entry]
        squares[entry] += before * (values[i] - means[entry])


@kernel
def merge_moments(
    counts: Any, means: Any, squares: Any, entries: Any, more: Any, more_means: Any, more_squares: Any
) -> None:
    """Adds the moments of other values to those of entries[i] (Chan, Golub and LeVeque 1979)."""
    for i in range(len(entries)):
        entry = entries[i]
        if more[i] == 0:
            continue
        if counts[entry] == 0:
            counts[entry], means[entry], squares[entry] = more[i], more_means[i], more_squares[i]
            continue
        total = counts[entry] + more[i]
        apart = more_means[i] - means[entry]
        means[entry] += apart * (more[i] / total)
        squares[entry] += more_squares[i] + apart * apart * (counts[entry] * (more[i] / total))
        counts[entry] = total


@kernel
def floor_divide(values: Any, offset: Any, divisor: Any) -> Any:
    """(values[i] - offset) // divisor, rounded down; int64 (n,). Neighbours mostly fall together: they cost no
    division."""
    out = np.empty(len(values), np.int64)
    quotient, low, high = np.int64(0), np.int64(0), np.int64(0)
    for i in range(len(values)):
        value = values[i] - offset
        if value < low or value >= high:
            quotient = value // divisor
            low = quotient * divisor
            high = low + divisor
        out[i] = quotient
    return out


@kernel
def number_rows(keys: Any, row_of: Any, distinct: Any, count: Any) -> Any:
    """Numbers the distinct keys in order of first appearance, from `count` on.

    Args:
        keys: int64 (n,), each below len(row_of).
        row_of: int64, the number of each key that has one, else -1; is added to.
        distinct: int64, the keys by number; is added to, and has room for n more.
        count: how many keys have a number.

    Returns:
        (rows, count): int64 (n,) the number of each key, and how many have one now.
    """
    rows = np.empty(len(keys), np.int64)
    for i in range(len(keys)):
        row = row_of[keys[i]]
        if row < 0:
            row = count
            row_of[keys[i]] = row
            distinct[count] = keys[i]
            count += 1
        rows[i] = row
    return rows, count


@kernel
def rows_by_key(keys: Any, row_of: Any, distinct: Any) -> Any:
    """Numbers the distinct keys in order of first appearance.

    Args:
        keys: int64 (n,), each below len(row_of).
        row_of: int64, all -1; left so again.
        distinct: int64 (n,), receives the distinct keys.

    Returns:
        (rows, count): int64 (n,) the number of each key, and how many there are.
    """
    rows, count = number_rows(keys, row_of, distinct, 0)
    for i in range(count):
        row_of[distinct[i]] = -1
    return rows, count
