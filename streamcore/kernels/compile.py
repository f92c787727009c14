"""The one place where kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compiles a function at its first call, caches the machine code on disk and releases the GIL."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
