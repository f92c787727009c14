"""Transactions that a snapshot says are prepared: committed, or told of if they can't be."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka

from streamcore.connectors.kafka.connection import Brokers, is_outage
from streamcore.connectors.kafka.coordinator import Coordinator
from streamcore.connectors.kafka.handle import Handle, Verdict, judge

_PAUSE_S = 0.05
_LOOK_S = 10.0
"""Seconds in which a record has to be found, or passed."""


async def commit_or_explain(handle: Handle, coordinator: Coordinator, brokers: Brokers) -> str | None:
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
                return await _look_for_records(handle, verdict, brokers)
            case "open":
                if await coordinator.end(handle.id, handle.producer_id, handle.epoch, commit=True):
                    return None
        await asyncio.sleep(_PAUSE_S)


async def _look_for_records(handle: Handle, verdict: Verdict, brokers: Brokers) -> str | None:
    """A transaction whose id has been used since may have been committed before that: then readers see its records."""
    if handle.example is None:
        return verdict.reason
    seen = await is_visible(brokers, *handle.example)
    if seen is None:
        return f"{verdict.reason} (whether it was committed before can't be told: its records are no longer kept)"
    return None if seen else verdict.reason


async def is_visible(brokers: Brokers, topic: str, partition: int, offset: int) -> bool | None:
    """Whether readers of committed records see the one at this offset; None: it is no longer kept, or compacted."""
    while True:
        consumer = AIOKafkaConsumer(
            **brokers.client_options(), isolation_level="read_committed", enable_auto_commit=False
        )
        try:
            async with asyncio.timeout(_LOOK_S):
                await consumer.start()
                return await _looked_up(consumer, TopicPartition(topic, partition), offset)
        except (kafka.KafkaError, OSError) as error:
            if not is_outage(error):
                raise
            await asyncio.sleep(_PAUSE_S)
        finally:
            await consumer.stop()


async def _looked_up(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int) -> bool | None:
    consumer.assign([place])
    if (await consumer.beginning_offsets([place]))[place] > offset:
        return None
    consumer.seek(place, offset)
    while await consumer.position(place) <= offset:
        records = (await consumer.getmany(place, timeout_ms=100, max_records=1)).get(place)
        if records:
            return bool(records[0].offset == offset)
    return False
