"""What has been sent and what of it is answered: the part of a sink's `prepare` that waits."""

from __future__ import annotations

import asyncio
import heapq


class Progress:
    """Numbers what is sent, takes the answers in any order, and knows when all before a cut are there."""

    def __init__(self) -> None:
        self._next = 0
        self._low = 0  # all below are answered
        self._answered: list[int] = []
        self._waits: list[tuple[int, int, asyncio.Future[None]]] = []
        self._wait_number = 0
        self._error: Exception | None = None

    @property
    def pending(self) -> int:
        """How many aren't answered."""
        return self._next - self._low - len(self._answered)

    def begin(self) -> int:
        """The number of what will be sent next."""
        self._next += 1
        return self._next - 1

    def answered(self, number: int) -> None:
        """What had this number has been answered; to be called once for each."""
        heapq.heappush(self._answered, number)
        while self._answered and self._answered[0] == self._low:
            heapq.heappop(self._answered)
            self._low += 1
        while self._waits and self._waits[0][0] <= self._low:
            future = heapq.heappop(self._waits)[2]
            if not future.done():
                future.set_result(None)

    def fail(self, error: Exception) -> None:
        """There will be no more answers: all cuts that are waited for, and those to come, raise the error."""
        self._error = error
        for _, _, future in self._waits:
            if not future.done():
                future.set_exception(error)
        self._waits.clear()

    def cut(self) -> asyncio.Future[None]:
        """Done when everything that has a number now is answered; to be called in the event loop."""
        future = asyncio.get_running_loop().create_future()
        if self._error is not None:
            future.set_exception(self._error)
        elif self._low == self._next:
            future.set_result(None)
        else:
            self._wait_number += 1
            heapq.heappush(self._waits, (self._next, self._wait_number, future))
        return future
