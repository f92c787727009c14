"""What the options of all connectors have in common."""

from __future__ import annotations

from collections.abc import Sequence

from streamcore.errors import UsageError


def check_choice(name: str, value: object, known: Sequence[str]) -> None:
    """Checks an option that has one of a few values.

    Raises:
        UsageError: it has another; the hint names them.
    """
    if value not in known:
        raise UsageError(f"{name}={value!r} is unknown", hint=f"use one of: {', '.join(known)}")
