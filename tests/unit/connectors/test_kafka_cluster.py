"""What a Kafka cluster is asked, of one that answers as it is told."""

import asyncio

import pytest
from aiokafka import errors as kafka
from aiokafka.structs import TopicPartition

from streamcore.connectors.kafka.cluster import commit_offsets, group_offsets, refresh

PARTITION = TopicPartition("t", 0)


class Dropped:
    """A client whose connection has just been dropped."""

    def get_random_node(self):
        return 1

    async def send(self, *_, **__):
        raise KeyError("a connection")

    async def coordinator_lookup(self, *_):
        return await self.send()


@pytest.mark.parametrize(
    "question",
    [
        lambda: refresh(Dropped(), ["t"]),
        lambda: group_offsets(Dropped(), "g", [PARTITION]),
        lambda: commit_offsets(Dropped(), "g", {PARTITION: 1}),
    ],
)
def test_a_dropped_connection_is_an_outage(question):
    with pytest.raises(kafka.KafkaConnectionError, match=r"the connection .* was dropped"):
        asyncio.run(question())
