"""The workers of a job: started where missing, told things, listened for, dismissed."""

from __future__ import annotations

import asyncio

from streamcore.job.links import Link, Post, Workers
from streamcore.runtime.messages import Shutdown, ToWorker
from streamcore.time import Clock


class WorkerPool:
    """The workers that are there now, by number."""

    def __init__(self, workers: Workers, clock: Clock, post: Post) -> None:
        self._workers = workers
        self._clock = clock
        self._post = post
        self._links: dict[int, Link] = {}
        self._last_heard: dict[int, float] = {}

    @property
    def numbers(self) -> set[int]:
        """Who is there."""
        return set(self._links)

    @property
    def addresses(self) -> dict[int, str]:
        """The data socket of each worker."""
        return {number: link.data_address for number, link in self._links.items()}

    async def start_missing(self) -> None:
        """Fills every empty place.

        Raises:
            MachineError: a worker can't be started.
        """
        missing = [number for number in range(self._workers.count) if number not in self._links]
        starts = (self._workers.start(number, self._post) for number in missing)
        outcomes = await asyncio.gather(*starts, return_exceptions=True)
        for number, outcome in zip(missing, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                self._links[number] = outcome
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        self._last_heard = dict.fromkeys(self._links, self._clock.monotonic())

    def send(self, number: int, message: ToWorker) -> None:
        """Tells one worker."""
        self._links[number].send(message)

    def broadcast(self, message: ToWorker) -> None:
        """Tells every worker."""
        for link in self._links.values():
            link.send(message)

    def heard(self, number: int) -> None:
        """A worker has given a sign of life."""
        self._last_heard[number] = self._clock.monotonic()

    def silent(self, timeout_s: float) -> int | None:
        """A worker that hasn't been heard of for `timeout_s`; one in this process can't be lost on its own."""
        if self._workers.count > 1:
            for number in sorted(self._links):
                if self._clock.monotonic() - self._last_heard[number] > timeout_s:
                    return number
        return None

    def lose(self, number: int) -> None:
        """A worker is gone."""
        self._links.pop(number, None)

    async def dismiss(self, number: int) -> None:
        """Sends one worker away; a process that doesn't go is killed."""
        link = self._links.pop(number)
        link.send(Shutdown())
        await link.close()

    async def dismiss_all(self) -> None:
        """Sends every worker away and frees what they shared."""
        self.broadcast(Shutdown())
        for link in self._links.values():
            await link.close()
        await self._workers.close()
