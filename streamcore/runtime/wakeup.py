"""A wake-up for one waiting task: notifications before the wait are not lost."""

from __future__ import annotations

import asyncio


class Wakeup:
    """Lets one task sleep until it is notified or a deadline has come."""

    __slots__ = ("_notified", "_waiter")

    def __init__(self) -> None:
        self._notified = False
        self._waiter: asyncio.Future[None] | None = None

    def notify(self) -> None:
        """Wakes the task, now or at its next wait."""
        self._notified = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait(self, deadline: float | None = None) -> None:
        """Sleeps until notified, or until the loop's clock reaches `deadline` seconds."""
        if not self._notified:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            alarm = loop.call_at(deadline, self.notify) if deadline is not None else None
            try:
                await self._waiter
            finally:
                self._waiter = None
                if alarm is not None:
                    alarm.cancel()
        self._notified = False
