"""Cutting event time into slices."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore.kernels.compile import kernel


@kernel
def slice_numbers(times: Any, offset: Any, every: Any, rest: Any) -> Any:
    """The slice of each time. Stretches of `every` begin at `offset`; each is one slice, or with `rest` > 0 two, cut at
    `rest`.

    Times near the edge of a slice come in any order, so branches could not be foretold: there are none, and the
    quotient is that of float64, put right by what is left.

    Args:
        times: int64 (n,); with offset and every, at most 2**62 + 2**61 away from 0.

    Returns:
        int64 (n,): the number of the stretch, or with `rest` twice that, plus 1 in the second part.
    """
    out = np.empty(len(times), np.int64)
    inverse = 1.0 / every
    far = every << 49 if every < 4096 else np.int64(1 << 62)  # up to there the quotient is wrong by 1 at most
    for i in range(len(times)):
        time = times[i] - offset
        if -far < time < far:
            number = np.int64(np.floor(time * inverse))
            left = time - number * every
            late, early = np.int64(left >= every), np.int64(left < 0)
            number += late - early
            left += (early - late) * every
        else:
            number = time // every
            left = time - number * every
        out[i] = 2 * number + np.int64(left >= rest) if rest > 0 else number
    return out
