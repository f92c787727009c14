"""Which failures of a connection are an outage, to be waited for, and what to call them."""

from __future__ import annotations

import ssl

import aiohttp


def is_outage(error: Exception) -> bool:
    """Whether the same request may succeed later; what can't: a certificate that isn't trusted."""
    return not isinstance(error, aiohttp.ClientSSLError | aiohttp.InvalidURL | ssl.SSLError)


def explain(error: Exception) -> str:
    """A few words for people; never a URL, which may have a secret in it."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its name can't be resolved"
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return f"TLS: {_system_text(error)}"
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection"
        case OSError():
            return _system_text(error)
        case _:
            return type(error).__name__


def _system_text(error: Exception) -> str:
    """The operating system's or OpenSSL's own words, without aiohttp's."""
    inner = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    return getattr(inner, "strerror", None) or getattr(inner, "reason", None) or type(inner).__name__
