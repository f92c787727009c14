"""A KafkaSource whose brokers are away waits for them; one that they don't let in fails with one clear error."""

import asyncio
import os
import signal
import socket
import time

import pytest
from broker import Broker
from secured import password
from source_rig import Rig, rows_of

from streamcore import StreamEnvironment
from streamcore.connectors.kafka import KafkaSource, Security
from streamcore.errors import ConnectorError


@pytest.fixture(scope="module")
def shaky_broker(tmp_path_factory):
    """A broker that the tests here stop and start again, and that makes topics for those who ask for them."""
    made = Broker(tmp_path_factory.mktemp("shaky-broker"), {"auto.create.topics.enable": "true"}).start()
    yield made
    made.kill9()


def numbered(count):
    return [f"message {number}".encode() for number in range(count)]


def error_of(source):
    with pytest.raises(ConnectorError) as caught:
        source.splits()
    return str(caught.value)


def test_a_source_waits_for_the_broker_and_goes_on(shaky_broker, topic):
    """Longer than a request may take."""
    shaky_broker.create_topic(topic)
    shaky_broker.produce(topic, numbered(10))
    source = KafkaSource(shaky_broker.servers, topic, options={"request_timeout_ms": 1000})
    name = f"Kafka at {shaky_broker.servers}"

    async def go():
        async with Rig(source) as rig:
            await rig.read(10)
            shaky_broker.kill9()
            killed = time.monotonic()
            await waits(rig, [name])
            noticed_s = time.monotonic() - killed
            await asyncio.to_thread(shaky_broker.start)
            await asyncio.to_thread(shaky_broker.produce, topic, numbered(20)[10:])
            rows = await rig.read(20)
            await waits(rig, [name, None])
            return rows, noticed_s, rig.waits

    rows, noticed_s, waited = asyncio.run(go())
    assert rows == {f"{topic}-0": numbered(20)}
    assert noticed_s < 3
    assert waited == [name, None]


async def waits(rig, wanted):
    async with asyncio.timeout(20):
        while rig.waits != wanted:
            await asyncio.sleep(0.01)


def test_a_subtask_that_begins_in_an_outage_waits(shaky_broker, topic):
    shaky_broker.create_topic(topic)
    shaky_broker.produce(topic, numbered(3))
    source = KafkaSource(shaky_broker.servers, topic)
    splits = source.splits()
    source.splits = lambda: splits  # as the coordinator has found them
    shaky_broker.kill9()

    async def go():
        async with Rig(source) as rig:
            await waits(rig, [f"Kafka at {shaky_broker.servers}"])
            await asyncio.to_thread(shaky_broker.start)
            return await rig.read(3), rig.waits[-1]

    assert asyncio.run(go()) == ({f"{topic}-0": numbered(3)}, None)


def test_a_broker_that_is_silent_is_away(shaky_broker, topic):
    shaky_broker.create_topic(topic)
    shaky_broker.produce(topic, numbered(3))
    source = KafkaSource(shaky_broker.servers, topic)

    async def go():
        async with Rig(source) as rig:
            await rig.read(3)
            os.kill(shaky_broker._process.pid, signal.SIGSTOP)
            try:
                await waits(rig, [f"Kafka at {shaky_broker.servers}"])
            finally:
                os.kill(shaky_broker._process.pid, signal.SIGCONT)
            await waits(rig, [f"Kafka at {shaky_broker.servers}", None])

    asyncio.run(go())


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{free.getsockname()[1]}"
        said = error_of(KafkaSource(server, "a-topic"))
    assert said.startswith(f"can't read a-topic: Kafka at {server}: nobody listens there")


def test_an_unknown_host():
    said = error_of(KafkaSource("nowhere.invalid:9092", "a-topic"))
    assert "Kafka at nowhere.invalid:9092: the host name is unknown" in said


def test_somebody_else_listens(monkeypatch):
    monkeypatch.setattr("streamcore.connectors.kafka.connection.START_TIMEOUT_S", 0.3)
    monkeypatch.setattr("streamcore.connectors.kafka.connection.WHY_TIMEOUT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        said = error_of(KafkaSource(f"127.0.0.1:{silent.getsockname()[1]}", "a-topic"))
    assert "no answer in time" in said


def test_one_of_several_addresses_is_enough(broker, topic):
    broker.create_topic(topic)
    assert len(KafkaSource(f"127.0.0.1:1,{broker.servers}", topic).splits()) == 1


def test_a_topic_that_is_not_there_fails_the_job_and_is_not_made(shaky_broker, topic):
    env = StreamEnvironment("kafka")
    stream = env.source(KafkaSource(shaky_broker.servers, topic, stop="now"))
    with pytest.raises(ConnectorError, match=f"there is no such topic or partition: {topic}"):
        stream.execute_and_collect()
    shaky_broker.create_topic(f"{topic}-after")  # by then the other one would be there
    assert topic not in shaky_broker.admin.list_topics(timeout=10).topics


def test_an_offset_for_a_partition_that_is_not_there(broker, topic):
    broker.create_topic(topic)
    said = error_of(KafkaSource(broker.servers, topic, start={f"{topic}-3": 1}))
    assert f"start= has an offset for '{topic}-3', which is no partition of this source" in said


def secured(broker, topic, user="reader", given=None, mechanism="PLAIN", group=None, start="earliest"):
    security = Security(
        "SASL_SSL",
        mechanism=mechanism,
        username=user,
        password=given or password(user),
        ca_file=str(broker.ca),
    )
    return KafkaSource(broker.servers, topic, security=security, stop="now", group=group, start=start)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_user_with_a_password_is_let_in(secured_broker, topic, mechanism):
    secured_broker.create_topic(topic)
    secured_broker.produce(topic, numbered(3))
    rows = asyncio.run(rows_of(secured(secured_broker, topic, mechanism=mechanism)))
    assert rows == {f"{topic}-0": numbered(3)}


def test_a_client_certificate_lets_in(secured_broker, topic):
    secured_broker.create_topic(topic)
    secured_broker.produce(topic, numbered(3))
    security = Security(
        "SSL",
        ca_file=str(secured_broker.ca),
        certificate_file=str(secured_broker.client_certificate),
        key_file=str(secured_broker.client_key),
        key_password=secured_broker.key_password,
    )
    rows = asyncio.run(rows_of(KafkaSource(secured_broker.ssl, topic, security=security, stop="now")))
    assert rows == {f"{topic}-0": numbered(3)}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_wrong_password(secured_broker, topic, mechanism):
    said = error_of(secured(secured_broker, topic, given="wrong-one", mechanism=mechanism))
    assert "the login is refused" in said
    assert "wrong-one" not in said


def test_no_rights_to_the_topic(secured_broker, topic):
    secured_broker.create_topic(topic)
    said = error_of(secured(secured_broker, topic, user="stranger"))
    assert f"no rights to the topic: {topic}" in said


def test_no_rights_to_the_group(secured_broker, topic):
    secured_broker.create_topic(topic)
    said = error_of(secured(secured_broker, topic, user="writer", group="a-group", start="group"))
    assert "no rights to the consumer group: a-group" in said


def test_rights_to_see_a_topic_but_not_to_read_it(secured_broker, topic):
    secured_broker.create_topic(topic)
    secured_broker.produce(topic, numbered(3))
    with pytest.raises(ConnectorError, match=f"no rights to the topic: {topic}"):
        asyncio.run(rows_of(secured(secured_broker, topic, user="writer")))


def test_a_certificate_of_an_unknown_authority(secured_broker, topic):
    security = Security(
        "SASL_SSL", username="reader", password=password("reader"), ca_file=str(secured_broker.other_ca)
    )
    said = error_of(KafkaSource(secured_broker.servers, topic, security=security))
    assert "the broker's certificate is not trusted" in said


def test_a_port_that_wants_a_login(secured_broker, topic):
    said = error_of(KafkaSource(secured_broker.sasl_plaintext, topic))
    assert "the connection was closed" in said
    assert "a login or TLS" in said


def test_a_port_without_a_login(broker, topic):
    security = Security("SASL_PLAINTEXT", username="reader", password="x")  # noqa: S106
    assert "this port has no such login" in error_of(KafkaSource(broker.servers, topic, security=security))
