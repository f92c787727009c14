"""What the sink uses of aiokafka beyond its interface is there, in the versions that pyproject.toml allows."""

import asyncio
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka

from streamcore.connectors.kafka import session
from streamcore.connectors.kafka.session import Session

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_the_versions_of_aiokafka_are_those_that_were_tried():
    (needed,) = [one for one in tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"] if "aiokafka" in one]
    assert needed == "aiokafka>=0.14,<0.15"
    assert version("aiokafka").startswith("0.14.")


def test_a_producer_has_the_parts_that_a_session_looks_into():
    async def test():
        producer = AIOKafkaProducer(bootstrap_servers="localhost:1", transactional_id="t")
        made = Session(producer)
        assert (made.producer_id, made.epoch) == (-1, -1)
        assert producer._sender.sender_task is None
        assert dict(producer._message_accumulator._batches) == {}
        assert producer._txn_manager.wait_for_transaction_end() is None
        batch = made.create_batch()
        assert batch.append(timestamp=1, key=b"k", value=None, headers=[("h", b"1")]) is not None
        batch.close()
        assert batch.append(timestamp=1, key=b"k", value=b"v", headers=[]) is None
        assert (batch.record_count(), batch.size() > 60) == (1, True)
        await made.close()
        assert producer._closed

    asyncio.run(test())


class ProducerOfThree:
    """A producer whose topics have three partitions; the third is known when it was asked for."""

    def __init__(self):
        self.create_batch = None
        self.client = self
        self.known = {0, 1}

    async def partitions_for(self, topic):
        return self.known

    async def force_metadata_update(self):
        self.known = {0, 1, 2}
        return True

    async def send_batch(self, batch, topic, partition):
        return partition


def test_a_new_partition_is_asked_for_and_one_that_is_not_there_not_for_ever(monkeypatch):
    monkeypatch.setattr(session, "_KNOWN_WITHIN_S", 0.05)

    async def test():
        assert await Session(ProducerOfThree()).send(None, "t", 2) == 2
        with pytest.raises(kafka.UnknownTopicOrPartitionError, match="t-3"):
            await Session(ProducerOfThree()).send(None, "t", 3)

    asyncio.run(test())
