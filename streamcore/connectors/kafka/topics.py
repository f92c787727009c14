"""Topics made where there are none yet."""

from __future__ import annotations

from typing import Any, cast

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateTopicsRequest
from aiokafka.structs import TopicPartition

from streamcore.connectors.kafka.cluster import LATEST, offsets_at, persist, refresh
from streamcore.connectors.kafka.connection import START_TIMEOUT_S, connect, explain, is_outage
from streamcore.connectors.kafka.security import Brokers

_MOST_REPLICAS = 3


async def ensure_topic(brokers: Brokers, topic: str, partitions: int) -> int:
    """Makes the topic if there is none, with so many partitions, each on three brokers or as many as there are, and
    waits until each can be written to.

    Returns:
        How many partitions the topic has: those of a topic that was there stay as they are.

    Raises:
        ConnectorError: it can't be made, or the brokers can't be reached; says why.
    """
    what = f"can't make the topic {topic!r}"
    client = await connect(brokers, what)
    try:
        return cast("int", await persist(lambda: _made(client, topic, partitions), START_TIMEOUT_S))
    except (kafka.KafkaError, OSError) as error:
        raise explain(error, brokers, what) from error
    finally:
        await client.close()


async def _made(client: AIOKafkaClient, topic: str, partitions: int) -> int:
    """How many partitions it has. Raises an error that passes as long as not all of them have leaders."""
    error = (await refresh(client, [topic])).get(topic)
    if error is kafka.UnknownTopicOrPartitionError:
        await _create(client, topic, partitions)
        raise kafka.LeaderNotAvailableError(topic)
    if error is not None:
        raise error(topic)
    found = [TopicPartition(topic, number) for number in client.cluster.partitions_for_topic(topic) or ()]
    if not found:
        raise kafka.LeaderNotAvailableError(topic)
    await offsets_at(client, dict.fromkeys(found, LATEST))  # a broker knows what it leads a moment later than others do
    return len(found)


async def _create(client: AIOKafkaClient, topic: str, partitions: int) -> None:
    controller = client.cluster.controller
    node = client.get_random_node() if controller is None else controller.nodeId
    replicas = min(len(client.cluster.brokers()), _MOST_REPLICAS)
    request = CreateTopicsRequest([(topic, partitions, replicas, [], [])], int(START_TIMEOUT_S * 1000), False)
    answer: Any = await client.send(node, request)
    ((_, code, *said),) = answer.topic_errors
    error = kafka.for_code(code)
    if code and error is not kafka.TopicAlreadyExistsError and not is_outage(error()):
        raise error(said[0] if said and said[0] else topic)
