"""What a Kafka cluster is asked beside the stream: which partitions there are, where they begin and end, and where a
consumer group stands.

These questions go over a connection of their own (aiokafka's COORDINATION group): a broker answers the requests of one
connection in turn, and a fetch may wait there for records.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from streamcore.connectors.kafka.connection import is_outage

EARLIEST = -2
LATEST = -1
"""Times that stand for a partition's first offset, and for its end."""

ISOLATION = {"read_uncommitted": 0, "read_committed": 1}
RETRY_S = 0.1


async def ask(
    client: AIOKafkaClient, node: int, request: Any, connection: ConnectionGroup = ConnectionGroup.COORDINATION
) -> Any:
    """A broker's answer.

    Raises:
        KafkaError: it can't be reached, or doesn't answer in time.
    """
    with _dropped(f"to node {node}"):
        return await client.send(node, request, group=connection)


async def refresh(client: AIOKafkaClient, topics: Collection[str] | None) -> dict[str, type[kafka.KafkaError]]:
    """Asks for the partitions and leaders of the topics, or of all (None), and tells the client. Creates no topic.

    Returns:
        The topics that can't be read, and why.

    Raises:
        KafkaError: no broker answers.
    """
    node = client.get_random_node()
    request = MetadataRequest(None if topics is None else list(topics), allow_auto_topic_creation=False)
    metadata = await ask(client, node, request)
    client.cluster.update_metadata(metadata)
    return {topic: kafka.for_code(code) for code, topic, *_ in metadata.topics if code != 0}


async def find_partitions(client: AIOKafkaClient, topics: Collection[str] | re.Pattern[str]) -> list[TopicPartition]:
    """All partitions of the topics, or of those whose whole name matches the pattern, in order.

    Raises:
        UnknownTopicOrPartitionError, TopicAuthorizationFailedError, InvalidTopicError: with the topic's name.
        KafkaError: no broker answers.
    """
    if isinstance(topics, re.Pattern):
        await refresh(client, None)
        names = sorted(name for name in client.cluster.topics() if topics.fullmatch(name))
    else:
        names = sorted(topics)
        for topic, error in (await refresh(client, names)).items():
            if not is_outage(error()):
                raise error(topic)
    found = client.cluster.partitions_for_topic
    return [TopicPartition(name, number) for name in names for number in sorted(found(name) or ())]


async def offsets_at(
    client: AIOKafkaClient, times_ms: Mapping[TopicPartition, int], isolation: str = "read_uncommitted"
) -> dict[TopicPartition, int]:
    """The offset of each partition's first record at or after a time in ms since the epoch, or at EARLIEST or LATEST;
    -1 when all records are older. With `read_committed`, LATEST is where the first open transaction begins.

    Raises:
        KafkaError: a partition has no leader (now), may not be read, or no broker answers.
    """
    by_leader: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for partition, time_ms in times_ms.items():
        leader = client.cluster.leader_for_partition(partition)
        if leader is None or leader == -1:
            raise kafka.LeaderNotAvailableError(partition)
        by_leader[leader][partition.topic].append((partition.partition, time_ms))
    found: dict[TopicPartition, int] = {}
    for leader, topics in by_leader.items():
        request = OffsetRequest(-1, ISOLATION[isolation], list(topics.items()))
        response = await ask(client, leader, request)
        for topic, numbers in response.topics:
            for number, code, _, offset in numbers:
                error = kafka.for_code(code)
                if error is kafka.UnknownTopicOrPartitionError:
                    raise kafka.LeaderNotAvailableError(topic)  # a partition so new that its broker doesn't know it
                if error is not kafka.NoError:
                    raise error(topic)
                found[TopicPartition(topic, number)] = offset
    return found


async def group_offsets(
    client: AIOKafkaClient, group: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """What the group has committed: the next offset to read; partitions without are left out.

    Raises:
        GroupAuthorizationFailedError: with the group's name.
        KafkaError: no broker answers.
    """
    node = await _coordinator(client, group)
    response = await ask(client, node, OffsetFetchRequest(group, _by_topic(partitions, _number)))
    if getattr(response, "error_code", 0):
        raise kafka.for_code(response.error_code)(group)
    found: dict[TopicPartition, int] = {}
    for topic, numbers in response.topics:
        for number, offset, _, code in numbers:
            if code:
                raise kafka.for_code(code)(group)
            if offset >= 0:
                found[TopicPartition(topic, number)] = offset
    return found


async def commit_offsets(client: AIOKafkaClient, group: str, offsets: Mapping[TopicPartition, int]) -> None:
    """Sets where the group stands. Without being a member: refused while consumers of the group are running.

    Raises:
        KafkaError: it can't be.
    """
    node = await _coordinator(client, group)
    topics = _by_topic(offsets, lambda partition: (partition.partition, offsets[partition], ""))
    request = OffsetCommitRequest(group, -1, "", OffsetCommitRequest.DEFAULT_RETENTION_TIME, topics)
    response = await ask(client, node, request)
    for _, numbers in response.topics:
        for _, code in numbers:
            if code:
                raise kafka.for_code(code)(group)


async def persist(question: Callable[[], Any], timeout_s: float) -> Any:
    """What `question` gives, asked again while partitions have no leader or brokers don't answer, until the time is up.

    Raises:
        KafkaError, OSError: the last one.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    while True:
        try:
            return await question()
        except (kafka.KafkaError, OSError) as error:
            if not is_outage(error) or loop.time() > until:
                raise
        await asyncio.sleep(RETRY_S)


@contextlib.contextmanager
def _dropped(which: str) -> Iterator[None]:
    """A connection that is dropped is an outage, not aiokafka's KeyError: it can drop one of which two requests at once
    have waited too long only once."""
    try:
        yield
    except KeyError:
        raise kafka.KafkaConnectionError(f"the connection {which} was dropped") from None


async def _coordinator(client: AIOKafkaClient, group: str) -> Any:
    try:
        with _dropped("that asks for a coordinator"):
            return await client.coordinator_lookup(CoordinationType.GROUP, group)
    except kafka.GroupAuthorizationFailedError:
        raise kafka.GroupAuthorizationFailedError(group) from None


def _number(partition: TopicPartition) -> Any:
    return partition.partition


def _by_topic(
    partitions: Collection[TopicPartition], entry: Callable[[TopicPartition], Any]
) -> list[tuple[str, list[Any]]]:
    topics: dict[str, list[Any]] = defaultdict(list)
    for partition in partitions:
        topics[partition.topic].append(entry(partition))
    return list(topics.items())
