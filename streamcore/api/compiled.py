"""Compile or interpret: what becomes of a function of one record when the topology is built."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba

from streamcore.api.callsite import user_line
from streamcore.batch import Schema
from streamcore.errors import TopologyError
from streamcore.kernels.functions.program import Program, describe
from streamcore.kernels.functions.refusal import NotCompilableError

log = logging.getLogger("streamcore.compile")

_noticed: set[str] = set()


def compiled_or_none(
    what: str,
    function: Any,
    compiled: bool | None,
    schema: Schema | None,
    build: Callable[[], Program],
    *,
    result: Schema | None,
) -> Program | None:
    """The program of a user's function, or None when it is to be interpreted.

    Args:
        what: the method's name.
        compiled: True: it must be compiled; None: if possible; False: no.
        schema, result: of the stream and of what becomes of it; both must have one.

    Raises:
        TopologyError: `compiled` is true and the function can't be compiled; names it, its line and the reason.
    """
    if compiled is False:
        return None
    try:
        if schema is None:
            raise NotCompilableError("the stream has no type")
        if result is None:
            raise NotCompilableError("the result has no type; give returns=Type")
        if numba.config.DISABLE_JIT:
            raise NotCompilableError("NUMBA_DISABLE_JIT is set")
        return build()
    except NotCompilableError as refused:
        line = f" (line {refused.line})" if refused.line else ""
        reason = f"{describe(function)} can't be compiled: {refused.reason}{line}"
        if compiled:
            raise TopologyError(
                f"{what} ({user_line()}): {reason}", hint="change the function, or leave out compiled=True"
            ) from None
        if schema is not None:
            _notice(what, describe(function), reason, is_untyped=result is None)
        return None


def need(schema: Schema | None) -> Schema:
    """The schema, which `compiled_or_none` has seen to be there."""
    assert schema is not None, "a function is compiled for columns without schema"
    return schema


def _notice(what: str, name: str, reason: str, *, is_untyped: bool) -> None:
    """Says once per function that it is interpreted; more quietly where the user has asked for untyped results."""
    if name in _noticed:
        return
    _noticed.add(name)
    log.log(
        logging.INFO if is_untyped else logging.WARNING,
        "%s: %s; it runs interpreted (compiled=False says that this is meant)",
        what,
        reason,
    )
