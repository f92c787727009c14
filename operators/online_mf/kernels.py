"""The compiled inner loops of online matrix factorisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore import kernel


@kernel
def initial_vectors(keys: Any, width: Any, salt: Any, scale: Any) -> Any:
    """Vectors from a hash of their key, uniform in ±scale/2; the bias, in the last column, is 0. float32 (n, width)."""
    out = np.zeros((len(keys), width), np.float32)
    for i in range(len(keys)):
        state = np.uint64(keys[i]) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
        for j in range(width - 1):
            state += np.uint64(0x9E3779B97F4A7C15)
            x = state
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x = x ^ (x >> np.uint64(31))
            out[i, j] = (np.float64(x >> np.uint64(11)) / 9007199254740992.0 - 0.5) * scale
    return out


@kernel
def lend(
    candidates: Any,
    window: Any,
    vectors: Any,
    out_count: Any,
    item: Any,
    rating: Any,
    lane: Any,
    following: Any,
    free: Any,
    first: Any,
    last: Any,
    limit: Any,
) -> Any:
    """Sends the vectors that are at home on their way with the first ratings that wait for them.

    Of a user's first `window` waiting ratings, those for the lane of the very first go, in order. A vector is
    away once at most, so it is never stale; a rating overtakes at most `window` - 1 older ones of its user.

    Returns:
        (slot int64, item int64, rating float32, vector float32 (n, width)) of the visits, a user's in a row.
    """
    slots, items = np.empty(limit, np.int64), np.empty(limit, np.int64)
    ratings, copies = np.empty(limit, np.float32), np.empty((limit, vectors.shape[1]), np.float32)
    n = 0
    for c in range(len(candidates)):
        slot = candidates[c]
        if out_count[slot] > 0 or first[slot] < 0:
            continue
        target, place, before, seen = lane[first[slot]], first[slot], -1, 0
        while place >= 0 and seen < window:
            after = following[place]
            seen += 1
            if lane[place] == target:
                slots[n], items[n], ratings[n] = slot, item[place], rating[place]
                copies[n] = vectors[slot]
                n += 1
                out_count[slot] += 1
                if before < 0:
                    first[slot] = after
                else:
                    following[before] = after
                if after < 0:
                    last[slot] = before
                following[place] = free[0]
                free[0] = place
            else:
                before = place
            place = after
    return slots[:n], items[:n], ratings[:n], copies[:n]


@kernel
def come_home(slots: Any, deltas: Any, counts: Any, vectors: Any, out_count: Any, seen: Any) -> Any:
    """Adds returned deltas to the users' vectors; a vector is home when all its ratings have been accounted for."""
    for i in range(len(slots)):
        slot = slots[i]
        for j in range(vectors.shape[1]):
            vectors[slot, j] += deltas[i, j]
        out_count[slot] -= counts[i]
        seen[slot] += counts[i]


@kernel
def visit(
    users: Any, slots: Any, ratings: Any, copies: Any, vectors: Any, seen: Any, step: Any, l2: Any, mean: Any
) -> Any:
    """Biased matrix factorisation by SGD: each rating updates its item's vector and the visiting copy of the user's.

    Rows of one user that follow each other are one visit: its copy is updated in order, and one delta goes back.

    Returns:
        (user int64, delta float32 (m, width), count int64) of the m visits, and the sum of squared errors of
        the predictions, each made before its rating was learned.
    """
    n, width = copies.shape
    k = width - 1
    back_users, back_counts = np.empty(n, np.int64), np.zeros(n, np.int64)
    deltas = np.empty((n, width), np.float32)
    copy = np.empty(width, np.float32)
    squared, m, start = 0.0, -1, 0
    for i in range(n):
        if i == 0 or users[i] != users[i - 1]:
            if m >= 0:
                deltas[m] = copy - copies[start]
            m += 1
            start = i
            back_users[m] = users[i]
            copy[:] = copies[i]
        back_counts[m] += 1
        slot = slots[i]
        seen[slot] += 1
        predicted = mean + copy[k] + vectors[slot, k]
        for j in range(k):
            predicted += copy[j] * vectors[slot, j]
        error = ratings[i] - predicted
        squared += np.float64(error) * np.float64(error)
        for j in range(k):
            u, v = copy[j], vectors[slot, j]
            copy[j] = u + step * (error * v - l2 * u)
            vectors[slot, j] = v + step * (error * u - l2 * v)
        copy[k] += step * (error - l2 * copy[k])
        vectors[slot, k] += step * (error - l2 * vectors[slot, k])
    if m >= 0:
        deltas[m] = copy - copies[start]
    return back_users[: m + 1], deltas[: m + 1], back_counts[: m + 1], squared
