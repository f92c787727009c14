"""What all writers of the Kafka sink do alike: records into batches, batches out, the stream held back in between."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient

from streamcore.batch import Batch
from streamcore.connectors.base import AsyncSinkWriter, SinkContext
from streamcore.connectors.kafka.batches import Records, TopicBatches
from streamcore.connectors.kafka.cluster import refresh
from streamcore.connectors.kafka.connection import OutageWatch, connect_patiently, explain, is_outage
from streamcore.connectors.kafka.outbox import Outbox, Outgoing
from streamcore.connectors.kafka.settings import WriterSettings
from streamcore.errors import BadRecordError, ConnectorError, StreamcoreError

_PAUSE_S = 0.1
_LAST_STEPS_S = 0.5
_KNOWN_WITHIN_S = 3.0
"""Seconds in which a topic that was just made has to be known."""

_TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)


class Interval:
    """The records between two barriers: their open batches, and those on their way."""

    def __init__(
        self, on_progress: Callable[[], None], on_failure: Callable[[Interval, Exception, Outgoing], bool]
    ) -> None:
        self.outbox = Outbox(on_progress, partial(on_failure, self))
        self.records = 0
        self.topics: dict[str, TopicBatches] = {}
        self.unplaced: list[tuple[str, Records]] = []
        """Records of topics whose number of partitions isn't known yet."""

    def flush(self) -> None:
        """Sends the batches that aren't full, too."""
        for batches in self.topics.values():
            batches.flush()


class KafkaWriter(AsyncSinkWriter):
    """Base of the writers. `_interval` is where records go to."""

    _interval: Interval
    _create_batch: Any

    def __init__(self, settings: WriterSettings, context: SinkContext) -> None:
        self._settings = settings
        self._context = context
        self._client: AIOKafkaClient | None = None
        self._watch: OutageWatch | None = None
        self._partitions: dict[str, int] = {}
        self._linger: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._error: asyncio.Future[StreamcoreError] = asyncio.get_running_loop().create_future()
        self._is_waiting = False

    async def open(self, prepared: Sequence[Any]) -> None:
        settings = self._settings
        self._client = await connect_patiently(settings.brokers, self._context.waiting, "can't write")
        self._watch = OutageWatch(self._client, settings.brokers, self._context.waiting)
        self._watch.start()
        try:
            await self._begin(prepared)
            if settings.topic is not None:
                await self._learn(settings.topic)
        except Exception as error:
            raise explain(error, settings.brokers, "can't write") from error

    def write(self, batch: Batch) -> None:
        for topic, records in self._settings.encoder.encode(batch):
            self._interval.records += len(records.values)
            if self._interval.unplaced or self._partitions_of(topic) is None:
                self._interval.unplaced.append((topic, records))  # in order behind those that wait already
                self._beside(self._place_when_known(self._interval))
            else:
                self._place(self._interval, topic, records)
        self._start_lingering()

    @property
    def is_full(self) -> bool:
        self._is_waiting = bool(self._interval.unplaced) or self._waiting_bytes() > self._settings.buffer_bytes
        return self._is_waiting

    async def close(self) -> None:
        if self._tasks:  # aiokafka leaves connections open that it was making when it is cancelled
            await asyncio.wait(set(self._tasks), timeout=_LAST_STEPS_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._linger is not None:
            self._linger.cancel()
        await self._end()
        if self._watch is not None:
            await self._watch.close()
        if self._client is not None:
            await self._client.close()

    @abstractmethod
    async def _begin(self, prepared: Sequence[Any]) -> None:
        """Gets ready to write."""

    @abstractmethod
    async def _end(self) -> None:
        """Frees what `_begin` and the stream have made; also when `_begin` has failed."""

    @abstractmethod
    def _waiting_bytes(self) -> int:
        """Bytes that are not acknowledged."""

    @abstractmethod
    async def _explain(self, interval: Interval, error: Exception, outgoing: Outgoing) -> StreamcoreError:
        """What it means that a batch was refused."""

    @property
    def _connected(self) -> AIOKafkaClient:
        assert self._client is not None, "a writer was used before it was open"
        return self._client

    def _beside(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs something beside the stream; what fails there fails the subtask."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._beside_done)
        return task

    def _beside_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._fail(explain(error, self._settings.brokers, "can't write"))

    def _fail(self, error: StreamcoreError) -> None:
        if not self._error.done():
            self._error.set_result(error)
            self._context.fail(error)

    def _batch_failed(self, interval: Interval, error: Exception, outgoing: Outgoing) -> bool:
        self._beside(self._find_out(interval, error, outgoing))
        return False

    async def _find_out(self, interval: Interval, error: Exception, outgoing: Outgoing) -> None:
        if isinstance(error, _TOO_LARGE):
            self._fail(_too_large(outgoing))
            return
        missing = await self._asked_for(outgoing.topic)  # first: for the producer it only takes too long
        if isinstance(missing, kafka.UnknownTopicOrPartitionError):
            what = f"can't write to the topic {outgoing.topic!r}"
            self._fail(explain(missing, self._settings.brokers, what))
        else:
            self._fail(await self._explain(interval, error, outgoing))

    async def _acknowledged(self, interval: Interval) -> None:
        """Waits until all that was put into the interval before is acknowledged.

        Raises:
            StreamcoreError: something went wrong instead.
        """
        waiting: asyncio.Future[Any] = asyncio.ensure_future(self._written(interval))
        try:
            await asyncio.wait({waiting, self._error}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._error.done():
            raise self._error.result()

    async def _written(self, interval: Interval) -> None:
        if interval.unplaced:
            await self._place_when_known(interval)
            interval.flush()
        await interval.outbox.acknowledged()

    def _progressed(self) -> None:
        if self._is_waiting and self._waiting_bytes() <= self._settings.buffer_bytes:
            self._context.wake()

    def _lingered(self) -> None:
        self._linger = None
        # while batches are on their way, others may as well become full
        if self._interval.outbox.is_idle:
            self._interval.flush()
        elif self._interval.topics:
            self._start_lingering()

    def _start_lingering(self) -> None:
        if self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(self._settings.linger_s, self._lingered)

    def _place(self, interval: Interval, topic: str, records: Records) -> None:
        batches = interval.topics.get(topic)
        if batches is None:
            batches = interval.topics[topic] = TopicBatches(
                topic, self._create_batch, interval.outbox.put, self._settings.partitioner, self._context.subtask
            )
        batches.add(records, self._partitions[topic])

    async def _place_when_known(self, interval: Interval) -> None:
        while interval.unplaced:
            topic, records = interval.unplaced[0]
            await self._learn(topic)
            if interval.unplaced and interval.unplaced[0][1] is records:  # not placed by another call meanwhile
                interval.unplaced.pop(0)
                self._place(interval, topic, records)
        self._start_lingering()
        self._context.wake()

    async def _learn(self, topic: str) -> None:
        """Finds out how many partitions a topic has.

        Raises:
            ConnectorError: there is no such topic, or no right to write to it.
        """
        deadline = asyncio.get_running_loop().time() + _KNOWN_WITHIN_S
        while self._partitions_of(topic) is None:
            error = await self._asked_for(topic)
            is_missing = isinstance(error, kafka.UnknownTopicOrPartitionError)
            if error is not None and not is_missing and not is_outage(error):
                raise error
            if is_missing and asyncio.get_running_loop().time() > deadline:
                raise ConnectorError(f"there is no topic {topic!r}", hint="create it, or correct its name")
            if error is not None:
                await asyncio.sleep(_PAUSE_S)

    async def _asked_for(self, topic: str) -> BaseException | None:
        """Learns of a topic, without having it made by brokers that make topics by themselves; why there is none."""
        try:
            error = (await refresh(self._connected, {*self._partitions, topic})).get(topic)
        except (kafka.KafkaError, OSError) as raised:
            return raised
        return None if error is None else error(topic)

    def _partitions_of(self, topic: str) -> int | None:
        # a topic may grow; that it seems to shrink is only for a moment, while brokers start
        client, known = self._connected, self._partitions.get(topic)
        found = client.cluster.partitions_for_topic(topic)
        if found and known is None:
            client.add_topic(topic)
        if found and (known is None or len(found) > known):
            known = self._partitions[topic] = len(found)
        return known


def _too_large(outgoing: Outgoing) -> BadRecordError:
    many = outgoing.records > 1
    what = f"a batch of {outgoing.records} records" if many else "a record"
    raise_limit = "raise the topic's max.message.bytes"
    return BadRecordError(
        f"{what} of {outgoing.size_bytes} bytes is too large for the topic {outgoing.topic!r}",
        hint=f"{raise_limit}, or give the sink a smaller batch_bytes=" if many else f"{raise_limit}, or compression=",
    )
