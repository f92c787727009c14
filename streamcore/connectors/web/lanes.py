"""Queues of requests: one for all workers, or one for each, where records have to stay in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Request:
    """The records of one request, each as JSON, with the numbers that `Progress` gave them."""

    records: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    key: str | None = None


class Lane:
    """Gathers records into requests of up to `batch`; `next` gives them out in order.

    Args:
        linger_s: seconds after which a request is given out that isn't full; 0: at once.
        call_later: the event loop's.
    """

    def __init__(
        self, batch: int, linger_s: float, call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle]
    ) -> None:
        self._batch = batch
        self._linger_s = linger_s
        self._call_later = call_later
        self._open = Request()
        self._timer: asyncio.TimerHandle | None = None
        self._queue: asyncio.Queue[Request] = asyncio.Queue()

    def add(self, record: bytes, number: int, key: str | None) -> None:
        """Puts a record into the open request."""
        request = self._open
        request.records.append(record)
        request.numbers.append(number)
        request.key = key
        if len(request.records) >= self._batch:
            self.seal()
        elif self._timer is None:
            self._timer = self._call_later(self._linger_s, self.seal)

    def seal(self) -> None:
        """Gives the open request out as it is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._open.records:
            self._queue.put_nowait(self._open)
            self._open = Request()

    async def next(self) -> Request:
        """The next request, when there is one."""
        return await self._queue.get()
