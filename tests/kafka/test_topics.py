"""Topics that are made where there are none."""

import asyncio

import pytest

from streamcore.connectors.kafka.connection import Brokers
from streamcore.connectors.kafka.topics import ensure_topic
from streamcore.errors import ConnectorError


def ensured(broker, topic, partitions):
    return asyncio.run(ensure_topic(Brokers(broker.servers), topic, partitions))


def test_a_topic_is_made_once(broker, topic):
    assert ensured(broker, topic, 3) == 3
    assert sorted(broker.end_offsets(topic)) == [0, 1, 2]
    assert ensured(broker, topic, 12) == 3, "a topic that is there stays as it is"


def test_two_make_it_at_once(broker, topic):
    async def both():
        brokers = Brokers(broker.servers)
        return await asyncio.gather(*(ensure_topic(brokers, topic, 2) for _ in range(4)))

    assert asyncio.run(both()) == [2] * 4


def test_one_that_cannot_be_made(broker):
    with pytest.raises(ConnectorError, match=r"can't make the topic 'no name'.*that is no name for a topic"):
        ensured(broker, "no name", 1)
    with pytest.raises(ConnectorError, match=r"can't make the topic 'x'.*nobody listens there"):
        asyncio.run(ensure_topic(Brokers("127.0.0.1:1"), "x", 1))
