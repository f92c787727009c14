"""Server-sent events, as the HTML standard defines them ("9.2.6 Interpreting an event stream").

::

    line        what it does
    ----------  ------------------------------------------------------------------
    data: x     adds a line to the data of the event
    event: x    its type
    id: x       the last event id from here on (ignored with a NUL in it)
    retry: 100  the wait before connecting again, in milliseconds (up to 9 digits and nothing else)
    : x         a comment, to keep the connection alive
    (empty)     the event is complete; without data it is dropped

Lines end with CR, LF or CRLF, and a BOM at the start is left out. What is not complete when the connection ends is no
event.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_MOST_DIGITS = 9  # eleven days


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `last_id`: the last event id when it was complete, None if there has never been one."""

    data: bytes
    type: str
    last_id: str | None


class EventParser:
    """Parses one connection's stream.

    Args:
        last_id: the last event id of the connection before it.

    Attributes:
        last_id: as the stream has set it.
        retry_s: seconds before connecting again, if the stream has said so.
    """

    def __init__(self, last_id: str | None = None) -> None:
        self.last_id = last_id
        self.retry_s: float | None = None
        self._event_id = last_id
        self._rest = b""
        self._is_first = True
        self._data: list[bytes] = []
        self._type = ""

    @property
    def size(self) -> int:
        """Bytes of the event that isn't complete yet, with a line end for each line of its data."""
        return len(self._rest) + sum(map(len, self._data)) + len(self._data)

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are complete with these bytes."""
        data = self._rest + chunk
        if self._is_first:
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._rest = data
                return []
            data = data.removeprefix(_BOM)
            self._is_first = False
        # a CR at the end may be half of a CRLF
        whole, held = (data[:-1], b"\r") if data.endswith(b"\r") else (data, b"")
        *lines, rest = _LINE_END.split(whole)
        self._rest = rest + held
        found = [self._line(line) for line in lines]
        return [event for event in found if event is not None]

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._complete()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
            case b"event":
                self._type = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._event_id = value.decode("utf-8", "replace")
            case b"retry" if value.isdigit() and len(value) <= _MOST_DIGITS:
                self.retry_s = int(value) / 1000
        return None

    def _complete(self) -> Event | None:
        self.last_id = self._event_id
        data, self._data = self._data, []
        kind, self._type = self._type or "message", ""
        return Event(b"\n".join(data), kind, self.last_id) if data else None
