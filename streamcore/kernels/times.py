"""Event times of a batch, one after the other where their order counts."""

from __future__ import annotations

from typing import Any

from streamcore.kernels.compile import kernel
from streamcore.time import MIN_TIME

_NONE = MIN_TIME


@kernel
def refuse_jumps(times: Any, good: Any, latest: Any, ahead: Any) -> Any:
    """Sets good[i] to false where times[i] is more than `ahead` after the latest good time before it.

    Args:
        times: int64 (n,), the good ones within ±2**62.
        good: bool (n,); what is false already is passed over.
        latest: the latest good time before the batch; MIN_TIME: none, and then the first good one is taken as it is.
        ahead: milliseconds, at most 2**62.

    Returns:
        The latest good time of all.
    """
    for i in range(len(times)):
        if good[i]:
            if latest != _NONE and times[i] > latest + ahead:
                good[i] = False
            elif times[i] > latest:
                latest = times[i]
    return latest
