"""Full batches on their way to the brokers: in order within a partition, all partitions beside each other."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from streamcore.connectors.kafka.connection import is_outage
from streamcore.connectors.kafka.session import Session

_PAUSE_S = 0.1

Place = tuple[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Outgoing:
    """A batch and where it goes to."""

    topic: str
    partition: int
    batch: Any
    records: int
    size_bytes: int


class Outbox:
    """The batches of one session. They wait until there is a session, and count until they are acknowledged.

    Args:
        on_progress: called when a batch has been acknowledged.
        on_failure: called with what went wrong with a batch; says whether to go on without it. If not, nothing more
            is sent.
    """

    def __init__(self, on_progress: Callable[[], None], on_failure: Callable[[Exception, Outgoing], bool]) -> None:
        self.waiting_bytes = 0
        """Bytes that are not acknowledged."""
        self.example: tuple[str, int, int] | None = None
        """(topic, partition, offset) of some record that was acknowledged."""
        self._on_progress = on_progress
        self._on_failure = on_failure
        self._session: Session | None = None
        self._queues: dict[Place, deque[tuple[Outgoing, asyncio.Future[None]]]] = {}
        self._senders: dict[Place, asyncio.Task[None]] = {}
        self._unacknowledged: set[asyncio.Future[None]] = set()
        self._is_broken = False

    @property
    def is_idle(self) -> bool:
        """Whether all is acknowledged."""
        return not self._unacknowledged

    def put(self, outgoing: Outgoing) -> None:
        """Takes a batch; it is sent when the partition's earlier ones have been."""
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unacknowledged.add(acknowledged)
        self.waiting_bytes += outgoing.size_bytes
        place = outgoing.topic, outgoing.partition
        self._queues.setdefault(place, deque()).append((outgoing, acknowledged))
        self._send_from(place)

    def attach(self, session: Session) -> None:
        """From now on batches are sent, by this session."""
        self._session = session
        for place in self._queues:
            self._send_from(place)

    async def acknowledged(self) -> None:
        """Waits until all that was put in before is acknowledged: for ever, if something has failed."""
        if self._unacknowledged:
            await asyncio.wait(set(self._unacknowledged))

    async def close(self) -> None:
        """Stops sending."""
        self._is_broken = True
        senders = list(self._senders.values())
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)

    def _send_from(self, place: Place) -> None:
        if self._session is not None and place not in self._senders and not self._is_broken:
            sender = asyncio.get_running_loop().create_task(self._send(place, self._session))
            self._senders[place] = sender

    async def _send(self, place: Place, session: Session) -> None:
        queue = self._queues[place]
        try:
            while queue and not self._is_broken:
                outgoing, acknowledged = queue.popleft()
                sent = await self._hand_over(outgoing, session)
                if sent is None:
                    self._settle(acknowledged, outgoing)
                else:
                    sent.add_done_callback(partial(self._answered, outgoing, acknowledged))
        finally:
            del self._senders[place]

    async def _hand_over(self, outgoing: Outgoing, session: Session) -> asyncio.Future[Any] | None:
        while True:
            try:
                return await session.send(outgoing.batch, outgoing.topic, outgoing.partition)
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody is told
                if is_outage(error):  # the producer holds earlier batches still, and tries to send them
                    await asyncio.sleep(_PAUSE_S)
                    continue
                if not self._failed(error, outgoing):
                    await asyncio.get_running_loop().create_future()  # until this is closed
                return None

    def _answered(self, outgoing: Outgoing, acknowledged: asyncio.Future[None], answer: asyncio.Future[Any]) -> None:
        if answer.cancelled():
            return
        error = answer.exception()
        if error is None:
            metadata = answer.result()
            if self.example is None and metadata.offset >= 0:
                self.example = outgoing.topic, outgoing.partition, metadata.offset
        elif not isinstance(error, Exception) or not self._failed(error, outgoing):
            return
        self._settle(acknowledged, outgoing)

    def _settle(self, acknowledged: asyncio.Future[None], outgoing: Outgoing) -> None:
        self.waiting_bytes -= outgoing.size_bytes
        self._unacknowledged.discard(acknowledged)
        if not acknowledged.done():
            acknowledged.set_result(None)
        self._on_progress()

    def _failed(self, error: Exception, outgoing: Outgoing) -> bool:
        if self._is_broken:
            return False
        goes_on = self._on_failure(error, outgoing)
        self._is_broken = not goes_on
        return goes_on
