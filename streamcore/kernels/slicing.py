"""Cutting event time into slices."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore.kernels.compile import kernel


@kernel
def slice_numbers(times: Any, offset: Any, every: Any, rest: Any) -> Any:
    """The slice of each time. Stretches of `every` begin at `offset`; with `rest` > 0 each is cut in two at `rest`, else
    it is one slice. Neighbours mostly fall together: they cost no division.

    Args:
        times: int64 (n,); with offset and every, at most 2**62 + 2**61 away from 0.

    Returns:
        int64 (n,): the number of the stretch, or with `rest` twice that, plus 1 in the second part.
    """
    out = np.empty(len(times), np.int64)
    number, low, high = np.int64(0), np.int64(0), np.int64(0)
    for i in range(len(times)):
        time = times[i] - offset
        if time < low or time >= high:
            number = time // every
            low = number * every
            high = low + every
            if rest > 0:
                number *= 2
                if time < low + rest:
                    high = low + rest
                else:
                    low += rest
                    number += 1
        out[i] = number
    return out
