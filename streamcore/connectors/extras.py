"""Packages that only some connectors need."""

from __future__ import annotations

import importlib.util

from streamcore.errors import UsageError


def need(package: str, extra: str, who: str) -> None:
    """Checks that a package is installed, without importing it.

    Raises:
        UsageError: it isn't; the hint says how to install it.
    """
    if importlib.util.find_spec(package) is None:
        raise UsageError(f"{who} needs the package {package}", hint=f"pip install 'streamcore[{extra}]'")
