"""Why a function is not compiled, and how compiled code gives up on one record."""

from __future__ import annotations

from numba.core.errors import TypingError


class NotCompilableError(Exception):
    """The function can't be compiled so that its results would be those of the interpreter."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


class BailOutError(Exception):
    """Raised by compiled code where Python's result might differ: the interpreter decides about the record."""


_refused: list[NotCompilableError] = []
"""What the compilation at hand refused. Numba buries the exceptions of typing in long texts of its own."""


def refuse_type(reason: str) -> TypingError:
    """The exception to raise while numba types an expression; the reason is kept for `last_refusal`."""
    _refused.append(NotCompilableError(reason))
    return TypingError(reason)


def last_refusal() -> NotCompilableError | None:
    """The reason that typing gave last since `forget_refusals`."""
    return _refused[-1] if _refused else None


def forget_refusals() -> None:
    """Begins a new compilation."""
    _refused.clear()
