"""A producer of aiokafka for one transaction, or for all records of a subtask when there are none.

This is the only module that looks into aiokafka: `_txn_manager` for the session's producer id and epoch, which its
interface doesn't give, and `_sender` and `_message_accumulator` to end a producer whose brokers don't answer, for which
`stop` would wait. The versions of aiokafka that have them are those of pyproject.toml; `tests/kafka` holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka

from streamcore.connectors.kafka.connection import Brokers, is_outage

_PAUSE_S = 0.2
_SHORT_PAUSE_S = 0.02
_STOP_S = 0.1
_KNOWN_WITHIN_S = 30.0
"""Seconds in which all brokers have to know a new partition."""


@dataclasses.dataclass(frozen=True, slots=True)
class Transactional:
    """A transactional id and after how long the brokers abort what is open."""

    id: str
    timeout_ms: int


class Session:
    """One producer. With a transactional id it has a session of its own, in which one transaction is open."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self.create_batch = producer.create_batch
        """Gives an empty batch, for any session with the same options."""

    @staticmethod
    async def begin(brokers: Brokers, options: Mapping[str, Any], transaction: Transactional | None) -> Session:
        """Connects, and begins the transaction if there is to be one. Waits for brokers.

        Raises:
            KafkaError: the brokers refuse.
        """
        if transaction is not None:
            options = {
                **options,
                "transactional_id": transaction.id,
                "transaction_timeout_ms": transaction.timeout_ms,
            }
        while True:
            session = Session(AIOKafkaProducer(**{**brokers.client_options(), **options}))
            try:
                await session._producer.start()
                if transaction is not None:
                    await session._producer.begin_transaction()
            except BaseException as error:
                await session.close()
                # what aiokafka doesn't expect of brokers that go away while it asks, it wraps
                if not is_outage(error) and (error.__cause__ is None or not is_outage(error.__cause__)):
                    raise
                await asyncio.sleep(_PAUSE_S)
            else:
                return session

    @property
    def producer_id(self) -> int:
        """The session's producer id."""
        return int(self._producer._txn_manager.producer_id)

    @property
    def epoch(self) -> int:
        """The session's epoch."""
        return int(self._producer._txn_manager.producer_epoch)

    async def send(self, batch: Any, topic: str, partition: int) -> asyncio.Future[Any]:
        """Sends a closed batch as soon as the partition's last one has gone out; the future is done when it is
        acknowledged.

        Raises:
            KafkaError: the session is broken, or the topic or partition is gone.
        """
        asked_until = asyncio.get_running_loop().time() + _KNOWN_WITHIN_S
        while partition not in await self._producer.partitions_for(topic):  # the topic has grown since
            answered = await self._producer.client.force_metadata_update()
            if answered and asyncio.get_running_loop().time() > asked_until:  # or it was made anew with fewer
                raise kafka.UnknownTopicOrPartitionError(f"{topic}-{partition}")
            await asyncio.sleep(_SHORT_PAUSE_S)
        future: asyncio.Future[Any] = await self._producer.send_batch(batch, topic, partition=partition)
        return future

    async def close(self) -> None:
        """Ends the producer, whether or not brokers answer; what is not acknowledged is given up, and an open
        transaction left open."""
        producer = self._producer
        task = producer._sender.sender_task
        while task is not None and not task.done():
            task.cancel()  # once more for each request that is waited for
            await asyncio.wait([task], timeout=_STOP_S)
        producer._closed = True
        with contextlib.suppress(kafka.KafkaError, OSError):
            await producer.client.close()
        accumulator = producer._message_accumulator
        for batches in accumulator._batches.values():
            for batch in batches:
                _look_at(batch._drain_waiter)
        if producer._txn_manager is not None:
            _look_at(producer._txn_manager.wait_for_transaction_end())


def _look_at(future: asyncio.Future[Any] | None) -> None:
    """Keeps asyncio from complaining that nobody has looked at an exception."""
    if future is not None and future.done() and not future.cancelled():
        future.exception()
