"""Where CSV records begin and end."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt


class CsvRecords:
    """Where CSV records end: at a line end outside quotes. A quote opens only as the first byte of a field."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = ord(delimiter)
        d = re.escape(delimiter.encode())
        field = rb'(?:"[^"]*+(?:""[^"]*+)*"(?!")[^%b\r\n]*+|[^"%b\r\n][^%b\r\n]*+)?' % (d, d, d)
        self._record = re.compile(rb"(%b(?:%b%b)*)(\r\n|\r|\n|\Z)" % (field, d, field))

    def end(self, data: bytes) -> int:
        """Where the last complete record of `data` ends; 0 when none does."""
        end = data.rfind(b"\n") + 1
        if data.find(b'"', 0, end) < 0:
            return end
        quotes = self._plain_quotes(data)
        if quotes is None:
            return self._end_by_records(data)
        while end and (before := int(np.searchsorted(quotes, end))) % 2:
            end = data.rfind(b"\n", 0, int(quotes[before - 1])) + 1
        return end

    def spans(self, data: bytes) -> tuple[list[tuple[int, int]], int]:
        """Start and end (line end left out) of each record that isn't a blank line, and where a record
        with a quote that is never closed begins: the length of `data` when there is none."""
        spans: list[tuple[int, int]] = []
        position = 0
        while position < len(data) and (match := self._record.match(data, position)):
            if match.end(1) > position:
                spans.append(match.span(1))
            position = match.end()
        return spans, position

    def _plain_quotes(self, data: bytes) -> npt.NDArray[np.int64] | None:
        """The places of all quotes if each one that is in turn to open a field does (or is the second of a
        doubled quote), so that counting is enough; else None."""
        content = np.frombuffer(data, np.uint8)
        quotes = np.flatnonzero(content == ord('"'))
        before = content[(quotes[2::2] if quotes[0] == 0 else quotes[::2]) - 1]
        opens = (before == self._delimiter) | (before == ord("\n")) | (before == ord("\r")) | (before == ord('"'))
        return quotes if opens.all() else None

    def _end_by_records(self, data: bytes) -> int:
        end = position = 0
        while position < len(data) and (match := self._record.match(data, position)):
            position = match.end()
            if match[2].endswith(b"\n"):
                end = position
        return end
