"""The order in which the results of asynchronous calls leave: that of the records, or that of the answers. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any


class Request:
    """A record on its way, and what came of it."""

    __slots__ = ("error", "is_done", "record", "result", "stretch")

    def __init__(self, record: Any, stretch: _Stretch) -> None:
        self.record = record
        self.stretch = stretch
        self.is_done = False
        self.result: Any = None
        self.error: Exception | None = None


class _Stretch:
    """The requests between two watermarks."""

    __slots__ = ("answered", "open", "watermark")

    def __init__(self) -> None:
        # not a dict: to find the first of one whose first ones were taken, it is read from the start
        self.open: OrderedDict[Request, None] = OrderedDict()
        self.answered: deque[Request] = deque()
        self.watermark: int | None = None


class Results:
    """Requests that wait, and watermarks between them, which no record may pass in either direction.

    With `ordered`, results leave in the order of their records; else as they come, within the stretch between two
    watermarks (as Flink's ordered and unordered waiting).
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._stretches: deque[_Stretch] = deque([_Stretch()])
        self._size = 0

    def __len__(self) -> int:
        """How many requests wait, answered or not."""
        return self._size

    @property
    def records(self) -> list[Any]:
        """The records of all requests that wait, in the order in which they came as far as they are to leave in it."""
        return [request.record for stretch in self._stretches for request in (*stretch.answered, *stretch.open)]

    def add(self, record: Any) -> Request:
        """A request that leaves after those before it."""
        request = Request(record, self._stretches[-1])
        request.stretch.open[request] = None
        self._size += 1
        return request

    def add_watermark(self, time_ms: int) -> None:
        """Event time has come to `time_ms` behind the requests so far; it supersedes what directly precedes it."""
        last = self._stretches[-1]
        if not last.open and not last.answered and len(self._stretches) > 1:
            self._stretches[-2].watermark = time_ms
        else:
            last.watermark = time_ms
            self._stretches.append(_Stretch())

    def answered(self, request: Request) -> None:
        """The request is done."""
        request.is_done = True
        if not self._ordered:
            del request.stretch.open[request]
            request.stretch.answered.append(request)

    def take(self) -> Iterator[Request | int]:
        """The requests that may leave now, and the watermarks that have come to the front, in order."""
        while True:
            first = self._stretches[0]
            if self._ordered:
                while first.open and (request := next(iter(first.open))).is_done:
                    del first.open[request]
                    self._size -= 1
                    yield request
            while first.answered:
                self._size -= 1
                yield first.answered.popleft()
            if first.open or first.watermark is None:
                return
            self._stretches.popleft()
            yield first.watermark
