"""What an HTTP status means for who sent the request.

======================  =========================================================================
2xx                     DONE
408 425 429 502-504     LATER: the service is overloaded, restarting or away: for as long as it takes
other 5xx               AGAIN: it failed at this request; a limited number of times
everything else         REFUSED: it will never take this request
======================  =========================================================================
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

_LATER = frozenset({408, 425, 429, 502, 503, 504})
_ABOUT_CONTENT = frozenset({400, 413, 422})


class Verdict(enum.Enum):
    """See the table above."""

    DONE = enum.auto()
    LATER = enum.auto()
    AGAIN = enum.auto()
    REFUSED = enum.auto()


def verdict(status: int) -> Verdict:
    """What is to be done after this status."""
    if 200 <= status < 300:
        return Verdict.DONE
    if status in _LATER:
        return Verdict.LATER
    return Verdict.AGAIN if 500 <= status < 600 else Verdict.REFUSED


def blames_content(status: int) -> bool:
    """Whether the status says that what was sent is at fault, so that sending it again never helps."""
    return status in _ABOUT_CONTENT


def retry_after_s(header: str | None, now: datetime | None = None) -> float:
    """The seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3): a number of them or a date; 0 when there
    is none, or one that can't be understood. `now`: with a time zone; the clock's when None."""
    if header is None:
        return 0.0
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def reason(status: int) -> str:
    """`503 Service Unavailable`."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
