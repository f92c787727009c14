"""Turns an exception inside a subtask into the one error that the user sees."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from streamcore.errors import JobFailedError, StreamcoreError, UserFunctionError

_ENGINE = Path(__file__).parent.parent
_RECORD_VARIABLE = "record"  # the loops over rows in runtime.operators use this name


def is_engine_file(filename: str) -> bool:
    """Whether a source file is part of the engine (apps and reusable operators are users of it)."""
    path = Path(filename)
    if not path.is_relative_to(_ENGINE):
        return False
    return path.relative_to(_ENGINE).parts[0] not in ("apps", "operators")


def describe_failure(what: str, location: str, error: Exception) -> StreamcoreError:
    """The error to raise for an exception that passed through an operator, or the key function of an edge.

    An error of the engine's own gets the operator's name and the user's line; anything else came from the
    user's function and becomes a UserFunctionError with the traceback of the user's frames and the record.
    """
    place = f"{what} ({location})" if location else what
    if isinstance(error, StreamcoreError):
        if not hasattr(error, "operator"):
            error.operator = place  # type: ignore[attr-defined]
            error.message = f"{place}: {error.message}"
        return error
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not is_engine_file(frame.filename)]
    text = "".join([*traceback.format_list(own), *traceback.format_exception_only(error)])
    record = _record_at_fault(error.__traceback__)
    shown = f" on record {record}" if record else ""
    wrapped = UserFunctionError(f"{place}: {type(error).__name__}: {error}{shown}", hint="", traceback_text=text)
    wrapped.operator = place  # type: ignore[attr-defined]
    wrapped.__cause__ = error
    return wrapped


def as_failure(error: Exception, place: str) -> StreamcoreError:
    """The error of a message that any process of the job can read: one of `streamcore.errors`."""
    if isinstance(error, StreamcoreError):
        if type(error).__module__ == StreamcoreError.__module__:
            return error
        bases: list[type[StreamcoreError]] = [cls for cls in type(error).__mro__ if issubclass(cls, StreamcoreError)]
        known = next(cls for cls in bases if cls.__module__ == StreamcoreError.__module__)
        return known(error.message, hint=error.hint)
    failure = JobFailedError(f"{place}: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _record_at_fault(tb: TracebackType | None) -> str:
    """The record of the engine's loop that was at work. Comprehensions of Python 3.12 and later keep their variable
    to themselves: there it is the first argument of the user's function."""
    found: str | None = None
    argument: str | None = None
    while tb is not None:
        frame = tb.tb_frame
        if is_engine_file(frame.f_code.co_filename):
            argument = None
            if _RECORD_VARIABLE in frame.f_locals:
                found = repr(frame.f_locals[_RECORD_VARIABLE])
        elif argument is None:
            names = [name for name in frame.f_code.co_varnames[: frame.f_code.co_argcount] if name != "self"]
            argument = repr(frame.f_locals[names[0]]) if names and names[0] in frame.f_locals else ""
        tb = tb.tb_next
    shown = found or argument or ""
    return shown if len(shown) <= 200 else shown[:199] + "…"
