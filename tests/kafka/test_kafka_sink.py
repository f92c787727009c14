"""What the Kafka sink writes, as a reader of another client library finds it, and what it refuses."""

import asyncio
import dataclasses
import logging

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.abc import AbstractTokenProvider
from broker import Broker
from writer_rig import pair_sink, rows, running, visible

from streamcore.batch import Columns
from streamcore.connectors.base import JobStart
from streamcore.connectors.kafka import BadMessage, Json, KafkaMessage, KafkaSink, Messages, Raw, Security, writer
from streamcore.connectors.kafka.dead_letters import dead_letter
from streamcore.errors import BadRecordError, ConnectorError, UsageError

WITH_CHECKPOINTS = JobStart(restored=False, job="test", checkpoint_interval_s=1.0, checkpoint_timeout_s=10.0)


def run(test):
    asyncio.run(asyncio.wait_for(test, 60.0))


def written(broker, topic, sink, *batches):
    """The messages of the topic after the batches were written and committed."""

    async def write():
        async with running(sink) as rig:
            for batch in batches:
                await rig.write(batch)
            await rig.checkpoint()
            assert rig.failures == []

    run(write())
    return broker.read_committed(topic)


@dataclasses.dataclass
class Reading:
    sensor: str
    celsius: float
    at: int


def test_keys_go_where_other_clients_put_them(broker, topic):
    ours, theirs = broker.create_topic(topic, 7), broker.create_topic(f"{topic}-theirs", 7)
    keys = [f"key-{number}".encode() * (number % 4) for number in range(300)]
    broker.produce(theirs, ["x"] * len(keys), keys=keys)
    messages = written(broker, ours, pair_sink(broker.servers, ours), [(key, b"x") for key in keys])
    assert len(messages) == 300
    assert {one.key: one.partition for one in messages} == {
        one.key: one.partition for one in broker.read_committed(theirs)
    }


def test_records_become_json_with_key_time_and_headers(broker, topic):
    broker.create_topic(topic)
    sink = KafkaSink(
        broker.servers,
        topic,
        key="sensor",
        value=Json(),
        timestamp="at",
        headers=lambda reading: {"unit": "C", "raw": b"\x00"},
        delivery="at-least-once",
    )
    (message,) = written(broker, topic, sink, [Reading("sensor-1", 20.5, 1_700_000_000_123)])
    assert message.key == b"sensor-1"
    assert message.value == b'{"sensor":"sensor-1","celsius":20.5,"at":1700000000123}'
    assert message.time_ms == 1_700_000_000_123
    assert message.headers == [("unit", b"C"), ("raw", b"\x00")]


def test_columns_are_written_as_rows_are(broker, topic):
    broker.create_topic(topic)
    sink = KafkaSink(broker.servers, topic, key="sensor", timestamp="at", delivery="at-least-once")
    columns = Columns.of(sensor=pa.array(["a", "b"]), celsius=np.array([1.5, 2.5]), at=np.array([1000, 2000]))
    messages = written(broker, topic, sink, columns)
    assert [(one.key, one.value, one.time_ms) for one in messages] == [
        (b"a", b'{"sensor":"a","celsius":1.5,"at":1000}', 1000),
        (b"b", b'{"sensor":"b","celsius":2.5,"at":2000}', 2000),
    ]


def test_tombstones(broker, topic):
    broker.create_topic(topic)
    messages = written(broker, topic, pair_sink(broker.servers, topic), [(b"k", b"1"), (b"k", None)])
    assert [one.value for one in messages] == [b"1", None]


def test_records_without_key_go_to_all_partitions_by_batches(broker, topic):
    broker.create_topic(topic, 3)
    sink = KafkaSink(broker.servers, topic, value=Raw(), delivery="at-least-once", batch_bytes=1000)
    messages = written(broker, topic, sink, *[[b"x" * 50] * 20 for _ in range(30)])
    assert len(messages) == 600
    counts = [sum(one.partition == partition for one in messages) for partition in range(3)]
    assert min(counts) > 100


def test_a_function_says_the_topic_of_each_record(broker, topic):
    names = [broker.create_topic(f"{topic}-{letter}", 2) for letter in "ab"]
    sink = KafkaSink(
        broker.servers, lambda row: f"{topic}-{row[0]}", key=0, value=lambda row: row[1], prefix=f"p-{topic}"
    )
    batch = [("a", "1"), ("b", "2"), ("a", "3")]
    messages = written(broker, names[0], sink, batch)
    assert [one.value for one in messages] == [b"1", b"3"]
    assert [one.value for one in broker.read_committed(names[1])] == [b"2"]


def test_a_topic_that_a_function_says_and_that_is_not_there(broker, topic, monkeypatch):
    monkeypatch.setattr(writer, "_KNOWN_WITHIN_S", 0.2)

    async def test():
        sink = KafkaSink(broker.servers, lambda row: f"no-{topic}", value=Raw(), prefix=f"p-{topic}")
        async with running(sink) as rig:
            rig.writer.write([b"1"])
            error = await rig.failure()
            assert isinstance(error, ConnectorError)
            assert f"there is no topic 'no-{topic}'" in str(error)

    run(test())


def test_a_topic_that_grows_is_used_as_it_is_then(broker, topic):
    broker.create_topic(topic, 1)

    async def test():
        async with running(pair_sink(broker.servers, topic)) as rig:
            await rig.write(rows(1))
            await rig.checkpoint()
            await asyncio.to_thread(broker.add_partitions, topic, 4)
            partitions = {0}
            while partitions != {0, 1, 2, 3}:
                await rig.write([(f"key-{number}".encode(), b"x") for number in range(30)])
                await rig.checkpoint()
                partitions = {one.partition for one in broker.read_committed(topic)}
            assert rig.failures == []

    run(test())


@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
def test_a_record_too_large_for_the_topic(broker, topic, delivery):
    broker.create_topic(topic, max_message_bytes="10000")

    async def test():
        async with running(pair_sink(broker.servers, topic, delivery=delivery)) as rig:
            rig.writer.write([(b"k", b"x" * 20_000)])
            with pytest.raises(BadRecordError, match=rf"a record of 20\d+ bytes is too large for the topic '{topic}'"):
                await rig.prepare()
            assert isinstance(await rig.failure(), BadRecordError)

    run(test())


def test_without_a_guarantee_nobody_waits_and_the_end_sends_the_rest(broker, topic):
    broker.create_topic(topic)

    async def test():
        async with running(pair_sink(broker.servers, topic, delivery="none")) as rig:
            await rig.write(rows(1, 2))
            assert await rig.prepare() == []
            await rig.write(rows(3))
        assert await visible(broker, topic) == ["1", "2", "3"]

    run(test())


def test_without_a_guarantee_the_log_says_what_was_not_written(broker, topic, caplog):
    broker.create_topic(topic, max_message_bytes="10000")

    async def test():
        async with running(pair_sink(broker.servers, topic, delivery="none", linger=0.0)) as rig:
            await rig.write([(b"k", b"x" * 20_000)])
            while "1 records were not written" not in caplog.text:
                await asyncio.sleep(0.02)
            await rig.write(rows(1))
            assert rig.failures == []
        assert await visible(broker, topic) == ["1"]

    with caplog.at_level(logging.WARNING):
        run(test())


def test_the_stream_waits_while_too_much_is_on_its_way(broker, topic):
    broker.create_topic(topic)

    async def test():
        async with running(pair_sink(broker.servers, topic, batch_bytes=5000, buffer_bytes=20_000)) as rig:
            rig.writer.write([(b"k", b"x" * 1000)] * 100)
            assert rig.writer.is_full
            await rig.write(rows(1))
            assert not rig.writer.is_full
            await rig.checkpoint()
        assert len(await visible(broker, topic)) == 101

    run(test())


def test_dead_letters_are_as_they_were_and_say_why(broker, topic):
    broker.create_topic(topic)
    bad = BadMessage(
        text="{", reason="not JSON", split="t-1", position="7",
        message=KafkaMessage("t", 1, 7, 1234, b"k", b"{", (("h", b"1"),)),
    )  # fmt: skip
    (message,) = written(
        broker, topic, KafkaSink(broker.servers, topic, value=Messages(), delivery="at-least-once"), [dead_letter(bad)]
    )
    assert (message.key, message.value, message.time_ms) == (b"k", b"{", 1234)
    assert dict(message.headers) == {
        "h": b"1",
        "error.reason": b"not JSON",
        "error.topic": b"t",
        "error.partition": b"1",
        "error.offset": b"7",
    }


def test_a_job_needs_its_topic(broker, topic):
    with pytest.raises(ConnectorError, match=f"there is no topic '{topic}'"):
        KafkaSink(broker.servers, topic).prepare_job(WITH_CHECKPOINTS)


def test_records_for_a_topic_that_was_not_known_yet_are_sent_too_without_a_barrier(broker, topic):
    broker.create_topic(topic)

    async def test():
        sink = KafkaSink(broker.servers, lambda row: topic, value=Raw(), delivery="at-least-once", linger=0.0)
        async with running(sink) as rig:
            await rig.write([b"1"])
            while broker.end_offsets(topic) == {0: 0}:
                await asyncio.sleep(0.02)

    run(test())


@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
def test_a_topic_that_is_deleted_while_it_is_written(broker, topic, delivery):
    broker.create_topic(topic)

    async def test():
        patience = {"request_timeout_ms": 500}  # the producer asks for so long where the topic has gone to
        sink = pair_sink(broker.servers, topic, delivery=delivery, linger=0.0, options=patience)
        async with running(sink) as rig:
            await rig.write(rows(1))
            await rig.checkpoint()
            await asyncio.to_thread(broker.delete_topic, topic)
            await rig.write(rows(2))
            assert "there is no such topic or partition" in str(await rig.failure())

    run(test())


def test_a_misspelt_topic_is_not_made_by_brokers_that_make_topics_by_themselves(tmp_path, topic, monkeypatch):
    monkeypatch.setattr(writer, "_KNOWN_WITHIN_S", 0.2)
    broker = Broker(tmp_path, {"auto.create.topics.enable": "true"}).start()

    async def test():
        sink = KafkaSink(broker.servers, lambda row: f"said-{topic}", value=Raw(), prefix=f"p-{topic}")
        async with running(sink) as rig:
            rig.writer.write([b"1"])
            assert f"there is no topic 'said-{topic}'" in str(await rig.failure())

    try:
        with pytest.raises(ConnectorError, match=f"there is no topic '{topic}'"):
            KafkaSink(broker.servers, topic, delivery="at-least-once").prepare_job(WITH_CHECKPOINTS)
        run(test())
        assert not [name for name in broker.admin.list_topics(timeout=10.0).topics if topic in name]
    finally:
        broker.kill9()


def test_a_job_needs_brokers():
    with pytest.raises(ConnectorError, match=r"127.0.0.1:1: nobody listens there"):
        KafkaSink("127.0.0.1:1", "t").prepare_job(WITH_CHECKPOINTS)


def test_exactly_once_needs_checkpoints():
    with pytest.raises(UsageError, match="without checkpoints"):
        KafkaSink("127.0.0.1:1", "t").prepare_job(JobStart(restored=False))


def test_transactions_have_to_be_longer_than_a_checkpoint_may_take():
    with pytest.raises(UsageError, match="is too short: a checkpoint may be complete 11 s after"):
        KafkaSink("127.0.0.1:1", "t", transaction_timeout=11).prepare_job(WITH_CHECKPOINTS)


def test_transactions_must_not_be_longer_than_the_brokers_allow(broker, topic):
    broker.create_topic(topic)
    KafkaSink(broker.servers, topic, transaction_timeout=86_400).prepare_job(WITH_CHECKPOINTS)
    with pytest.raises(UsageError, match=r"is longer than Kafka at .* allow"):
        KafkaSink(broker.servers, topic, transaction_timeout=86_401).prepare_job(WITH_CHECKPOINTS)


def test_preparing_a_job_does_not_fence_one_that_runs(broker, topic):
    broker.create_topic(topic)

    async def test():
        sink = pair_sink(broker.servers, topic)
        async with running(sink) as rig:
            await rig.write(rows(1))
            sink.prepare_job(WITH_CHECKPOINTS)
            await rig.checkpoint()
        assert await visible(broker, topic) == ["1"]

    run(test())


def test_rights(secured_broker, topic, caplog):
    broker = secured_broker
    broker.create_topic(topic)

    def sink(user, delivery):
        security = Security("SASL_PLAINTEXT", username=user, password=f"{user}-secret")
        return KafkaSink(broker.sasl_plaintext, topic, value=Raw(), security=security, delivery=delivery, linger=0.0)

    sink("writer", "at-least-once").prepare_job(WITH_CHECKPOINTS)
    with pytest.raises(ConnectorError, match="no rights to the transactional id"):
        sink("writer", "exactly-once").prepare_job(WITH_CHECKPOINTS)
    with pytest.raises(ConnectorError, match="no rights to write to any topic"):
        sink("reader", "at-least-once").prepare_job(WITH_CHECKPOINTS)
    with pytest.raises(ConnectorError, match=r"no rights to the topic|there is no topic"):
        sink("stranger", "at-least-once").prepare_job(WITH_CHECKPOINTS)

    async def test():
        async with running(sink("reader", "none")) as rig:
            await rig.write([b"1"])
            while "1 records were not written" not in caplog.text:
                await asyncio.sleep(0.02)

    with caplog.at_level(logging.WARNING):
        run(test())


class Token(AbstractTokenProvider):
    async def token(self):
        return "token"


def test_options_of_connections_are_for_all_connections_of_the_sink():
    """Without its token provider none can be made with OAUTHBEARER, so these stop at different places."""
    options = {"client_id": "me", "request_timeout_ms": 5000, "sasl_oauth_token_provider": Token()}
    security = Security("SASL_PLAINTEXT", "OAUTHBEARER")
    sink = KafkaSink("127.0.0.1:1", "t", security=security, options=options, delivery="at-least-once")
    assert sink.brokers.client_options()["client_id"] == "me"
    with pytest.raises(ConnectorError, match="nobody listens there"):
        sink.prepare_job(WITH_CHECKPOINTS)
    for partitions in (None, 2):
        with pytest.raises(UsageError, match="sasl_oauth_token_provider"):
            KafkaSink("127.0.0.1:1", "t", security=security, partitions=partitions).prepare_job(WITH_CHECKPOINTS)


def test_records_are_written_with_such_options(broker, topic):
    broker.create_topic(topic)
    sink = pair_sink(broker.servers, topic, options={"client_id": "me", "request_timeout_ms": 5000, "linger_ms": 1})
    assert [one.value for one in written(broker, topic, sink, rows(1))] == [b"1"]


@pytest.mark.parametrize("options", [{"colour": "red"}, {"acks": 7}, {"linger_ms": "long"}])
def test_options_that_the_producer_does_not_take(broker, topic, options):
    broker.create_topic(topic)
    with pytest.raises(UsageError, match="the producer doesn't take its options"):
        KafkaSink(broker.servers, topic, options=options).prepare_job(WITH_CHECKPOINTS)
