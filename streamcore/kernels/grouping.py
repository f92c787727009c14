"""Rows of a batch by entry: which belong together, which is the best of each, and quantiles of groups."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore.kernels.compile import kernel
from streamcore.kernels.hashing import _mix_one


@kernel
def number_entries(entries: Any) -> Any:
    """Numbers the distinct entries of a batch in order of first appearance.

    Args:
        entries: int64 (n,), however large.

    Returns:
        (distinct, numbers): int64 (g,), and the number of each row's entry among them, int64 (n,).
    """
    n = len(entries)
    size = 2
    while size < 2 * n:
        size *= 2
    mask = np.uint64(size - 1)
    table = np.full(size, -1, np.int64)
    distinct, numbers = np.empty(n, np.int64), np.empty(n, np.int64)
    count = 0
    for i in range(n):
        entry = entries[i]
        if i > 0 and entries[i - 1] == entry:
            numbers[i] = numbers[i - 1]
            continue
        place = (_mix_one(np.uint64(entry)) >> np.uint64(17)) & mask
        while True:
            number = table[place]
            if number < 0:
                number = count
                table[place] = number
                distinct[count] = entry
                count += 1
                break
            if distinct[number] == entry:
                break
            place = (place + np.uint64(1)) & mask
        numbers[i] = number
    return distinct[:count], numbers


@kernel
def keep_better(counts: Any, best: Any, entries: Any, order: Any, weights: Any, lowest: Any, last: Any) -> Any:
    """Keeps the best order of each entry, and says which rows brought it.

    best[entries[i]] becomes order[i] where it is lower (`lowest`) or higher, or equal if `last`; counts[entries[i]]
    grows by weights[i], and where it is 0 there is nothing yet. Rows of weight 0 are passed over.

    Returns:
        The rows that were better than all before them, ascending; int64 (m,). The last of an entry is its best.
    """
    winners = np.empty(len(entries), np.int64)
    found = 0
    for i in range(len(entries)):
        if weights[i] == 0:
            continue
        entry, new = entries[i], order[i]
        old = best[entry]
        if counts[entry] == 0 or (new < old if lowest else new > old) or (last and new == old):
            best[entry] = new
            winners[found] = i
            found += 1
        counts[entry] += weights[i]
    return winners[:found]


@kernel
def interpolated_quantiles(values: Any, starts: Any, q: Any) -> Any:
    """The q-quantile of each group of values, between neighbours in proportion (Hyndman and Fan 1996, number 7).

    Args:
        values: float64 (n,) without NaN.
        starts: int64 (g + 1,); group j is values[starts[j]:starts[j + 1]].
        q: from 0 to 1.

    Returns:
        float64 (g,); NaN for an empty group.
    """
    out = np.empty(len(starts) - 1, np.float64)
    for j in range(len(out)):
        group = np.sort(values[starts[j] : starts[j + 1]])
        if len(group) == 0:
            out[j] = np.nan
            continue
        place = q * (len(group) - 1)
        below = int(np.floor(place))
        above = min(below + 1, len(group) - 1)
        low, high = group[below], group[above]
        out[j] = low if low == high or place == below else low + (high - low) * (place - below)
    return out
