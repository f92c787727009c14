"""The URL and the headers of a service: checked, and shown without their secrets."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from streamcore.errors import UsageError

_FORBIDDEN = "\r\n\0"


class Headers(dict[str, str]):
    """Headers of requests; `repr` shows their names only, for there are tokens among the values.

    Raises:
        UsageError: a name or value isn't text, or has a line break in it.
    """

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(headers or {})
        for name, value in self.items():
            if not isinstance(name, str) or not isinstance(value, str) or set(_FORBIDDEN) & set(name + value):
                raise UsageError(f"the header {name!r} can't be sent", hint="names and values are text without breaks")

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: '***'" for name in self) + "}"

    __str__ = __repr__


def check_url(url: str, *schemes: str) -> str:
    """`url` if it is one of these schemes and names a host.

    Raises:
        UsageError: it isn't.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in schemes and parts.hostname and (parts.port is None or parts.port > 0)
        if parts.hostname is not None and parts.hostname.isascii():  # else aiohttp says it
            parts.hostname.encode("idna")  # raises where a label is empty or longer than 63 bytes, as DNS has none
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"{shown(url)!r} is not a URL to use here", hint=f"such as {schemes[0]}://host:8080/path")
    return url


def shown(url: str) -> str:
    """The URL without user, password, query and fragment: what may have a secret in it."""
    head = url.partition("#")[0].partition("?")[0]
    scheme, separator, rest = head.partition("://")
    if not separator:
        return head.rpartition("@")[2]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
