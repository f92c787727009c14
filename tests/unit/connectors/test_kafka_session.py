"""What the sink uses of aiokafka beyond its interface is there, in the versions that pyproject.toml allows."""

import asyncio
import tomllib
from importlib.metadata import version
from pathlib import Path

from aiokafka import AIOKafkaProducer

from streamcore.connectors.kafka.session import Session

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_the_versions_of_aiokafka_are_those_that_were_tried():
    (needed,) = [one for one in tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"] if "aiokafka" in one]
    assert needed == "aiokafka>=0.14,<0.15"
    assert version("aiokafka").startswith("0.14.")


def test_a_producer_has_the_parts_that_a_session_looks_into():
    async def test():
        producer = AIOKafkaProducer(bootstrap_servers="localhost:1", transactional_id="t")
        session = Session(producer)
        assert (session.producer_id, session.epoch) == (-1, -1)
        assert producer._sender.sender_task is None
        assert dict(producer._message_accumulator._batches) == {}
        assert producer._txn_manager.wait_for_transaction_end() is None
        batch = session.create_batch()
        assert batch.append(timestamp=1, key=b"k", value=None, headers=[("h", b"1")]) is not None
        batch.close()
        assert batch.append(timestamp=1, key=b"k", value=b"v", headers=[]) is None
        assert (batch.record_count(), batch.size() > 60) == (1, True)
        await session.close()
        assert producer._closed

    asyncio.run(test())
