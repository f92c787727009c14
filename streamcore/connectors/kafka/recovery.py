"""Transactions that a snapshot says are prepared: committed, or told of if they can't be."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient

from streamcore.connectors.kafka.cluster import EARLIEST, LATEST, offsets_at, refresh
from streamcore.connectors.kafka.connection import Brokers, is_outage
from streamcore.connectors.kafka.coordinator import Coordinator
from streamcore.connectors.kafka.handle import Handle, Verdict, judge

_log = logging.getLogger(__name__)

_PAUSE_S = 0.05
_LOOK_S = 10.0
"""Seconds in which a record that is there has to be found, or passed."""


class _UnknownError(Exception):
    """Why nobody can say any more whether records were committed."""


async def commit_or_explain(
    handle: Handle, coordinator: Coordinator, client: AIOKafkaClient, brokers: Brokers
) -> str | None:
    """Commits a prepared transaction, also one that was committed before; waits for brokers.

    Returns:
        None, or why it is lost.

    Raises:
        KafkaError: no rights.
    """
    # first look: a session whose id was used again must not be ended, and a later one's state tells more than a refusal
    while True:
        verdict = judge(handle, await coordinator.describe(handle.id))
        match verdict.fate:
            case "committed":
                return None
            case "gone":
                return await _look_for_records(handle, verdict, client, brokers)
            case "open":
                if await coordinator.end(handle.id, handle.producer_id, handle.epoch, commit=True):
                    return None
        await asyncio.sleep(_PAUSE_S)


async def _look_for_records(handle: Handle, verdict: Verdict, client: AIOKafkaClient, brokers: Brokers) -> str | None:
    """A transaction whose id has been used since may have been committed before that: then readers see its records."""
    if handle.example is None:
        return verdict.reason
    try:
        seen = await _is_visible(client, brokers, *handle.example)
    except _UnknownError as unknown:
        return f"{verdict.reason} (whether it was committed before can't be told: {unknown})"
    return None if seen else verdict.reason


async def _is_visible(client: AIOKafkaClient, brokers: Brokers, topic: str, partition: int, offset: int) -> bool:
    """Whether readers of committed records see the one at this offset. Waits for brokers, and for the end of another's
    open transaction that lies before it.

    Raises:
        _UnknownError: there is no such offset.
        KafkaError: no rights to the topic.
    """
    place, is_told = TopicPartition(topic, partition), False
    while True:
        try:
            async with asyncio.timeout(_LOOK_S):
                is_readable = await _is_readable(client, place, offset)
            if is_readable:
                return await _looked_up(brokers, place, offset)
            if not is_told:
                is_told = True
                _log.warning(
                    "waiting for a transaction to end that is open in %s, partition %d: until then nobody can see "
                    "whether offset %d was committed",
                    topic,
                    partition,
                    offset,
                )
        except (kafka.KafkaError, OSError) as error:
            if not is_outage(error):
                raise
        await asyncio.sleep(_PAUSE_S)


async def _is_readable(client: AIOKafkaClient, place: TopicPartition, offset: int) -> bool:
    """False: an open transaction before the offset holds readers back.

    Raises:
        _UnknownError: there is no such offset.
    """
    topics = {*client.cluster.topics(), place.topic}  # what the answer leaves out, the client forgets
    error = (await refresh(client, topics)).get(place.topic)
    if error not in (None, kafka.UnknownTopicOrPartitionError):
        raise error(place.topic)
    if error is not None or place.partition not in (client.cluster.partitions_for_topic(place.topic) or ()):
        raise _UnknownError(f"there is no partition {place.partition} of {place.topic!r}")
    if (await offsets_at(client, {place: EARLIEST}))[place] > offset:
        raise _UnknownError("its records are no longer kept")
    if (await offsets_at(client, {place: LATEST}))[place] <= offset:
        raise _UnknownError(
            f"partition {place.partition} of {place.topic!r} ends before its records; was it made anew?"
        )
    return (await offsets_at(client, {place: LATEST}, "read_committed"))[place] > offset


async def _looked_up(brokers: Brokers, place: TopicPartition, offset: int) -> bool:
    """Reads at an offset that is readable."""
    try:
        async with asyncio.timeout(_LOOK_S) as limit:
            if await _is_first(brokers, place, offset, "read_committed"):
                return True
            if await _is_first(brokers, place, offset, "read_uncommitted"):
                return False
            raise _UnknownError("its records are no longer kept: the topic is compacted")
    except TimeoutError:
        if not limit.expired():
            raise
        raise _UnknownError(f"its records can't be read within {_LOOK_S:g} s") from None


async def _is_first(brokers: Brokers, place: TopicPartition, offset: int, isolation: str) -> bool:
    """Whether there is a record at this offset for such readers."""
    consumer = AIOKafkaConsumer(**brokers.client_options(), isolation_level=isolation, enable_auto_commit=False)
    try:
        await consumer.start()
        consumer.assign([place])
        consumer.seek(place, offset)
        while await consumer.position(place) <= offset:
            records: Any = (await consumer.getmany(place, timeout_ms=100, max_records=1)).get(place)
            if records:
                return bool(records[0].offset == offset)
        return False
    finally:
        await consumer.stop()
