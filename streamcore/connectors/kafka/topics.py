"""Topics made where there are none yet."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateTopicsRequest
from aiokafka.protocol.metadata import MetadataRequest

from streamcore.connectors.kafka.connection import START_TIMEOUT_S, connect, explain, is_outage
from streamcore.connectors.kafka.security import Brokers

_MOST_REPLICAS = 3
_RETRY_S = 0.05


async def ensure_topic(brokers: Brokers, topic: str, partitions: int) -> int:
    """Makes the topic if there is none, with so many partitions, each on three brokers or as many as there are.

    Returns:
        How many partitions the topic has: those of a topic that was there stay as they are.

    Raises:
        ConnectorError: it can't be made, or the brokers can't be reached; says why.
    """
    what = f"can't make the topic {topic!r}"
    client = await connect(brokers, what)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            return await _until_led(client, topic, partitions)
    except (kafka.KafkaError, OSError) as error:
        raise explain(error, brokers, what) from error
    finally:
        await client.close()


async def _until_led(client: AIOKafkaClient, topic: str, partitions: int) -> int:
    """Asks for it until each of its partitions has a leader, and so can be written to."""
    while True:
        node = client.get_random_node()
        metadata: Any = await client.send(node, MetadataRequest([topic], allow_auto_topic_creation=False))
        ((code, _, _, found),) = metadata.topics
        error = kafka.for_code(code)
        if error is kafka.UnknownTopicOrPartitionError:
            brokers = [id_ for id_, *_ in metadata.brokers]
            controller = metadata.controller_id if metadata.controller_id in brokers else node
            await _create(client, controller, topic, partitions, min(len(brokers), _MOST_REPLICAS))
        elif code and not is_outage(error()):
            raise error(topic)
        elif found and not any(code for code, *_ in found):
            return len(found)
        await asyncio.sleep(_RETRY_S)


async def _create(client: AIOKafkaClient, node: int, topic: str, partitions: int, replicas: int) -> None:
    request = CreateTopicsRequest([(topic, partitions, replicas, [], [])], int(START_TIMEOUT_S * 1000), False)
    answer: Any = await client.send(node, request)
    ((_, code, *said),) = answer.topic_errors
    error = kafka.for_code(code)
    if code and error is not kafka.TopicAlreadyExistsError and not is_outage(error()):
        raise error(said[0] if said and said[0] else topic)
