"""MqttSource with a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from typing import NamedTuple

import pytest
from connector_rig import Reading
from mosquitto_server import Mosquitto
from paho.mqtt import client as paho
from paho.mqtt.publish import multiple
from scripted_broker import CONNACK, PUBLISH_T_1, SUBACK, disconnect, scripted_broker

from streamcore.connectors import push_reader
from streamcore.connectors.mqtt import Backoff, Broker, MqttMessage, MqttSource, reader
from streamcore.errors import BadRecordError, ConnectorError
from tests.process.process_harness import until

PASSWORD = "only-for-tests"  # noqa: S105
QUICK = Backoff(first_s=0.01, longest_s=0.05)


class Measured(NamedTuple):
    sensor: str
    value: float


def publish(broker, *payloads, topic="t", qos=1, retain=False, **auth):
    """Publishes with paho's own client, which returns when the broker has acknowledged."""
    messages = [{"topic": topic, "payload": payload, "qos": qos, "retain": retain} for payload in payloads]
    multiple(messages, "127.0.0.1", broker.port, protocol=paho.MQTTv5, **auth)


async def publish_soon(broker, *payloads, **options):
    await asyncio.to_thread(publish, broker, *payloads, **options)


@contextlib.asynccontextmanager
async def reading(source, offset=None):
    """A reader that has subscribed when it is given out; it knows of no checkpoint before `committed` is called."""
    one = Reading(source, offset)
    try:
        assert one.reader.poll(1) == []
        yield one
    finally:
        await one.close()


async def subscribed(broker, times=1):
    await asyncio.to_thread(until, lambda: broker.log.count("Sending SUBACK") >= times, "it has subscribed")


def test_messages_of_several_topics_are_records(mosquitto):
    async def run():
        source = MqttSource(mosquitto.url, ["s/+/t", "u/#"], Measured)
        assert source.schema.names == ("sensor", "value")
        async with reading(source) as one:
            await subscribed(mosquitto)
            for topic in ("s/1/t", "s/1/other", "u/x/y"):
                await publish_soon(mosquitto, f'{{"sensor": "{topic}", "value": 1.5}}', topic=topic)
            return await one.take(2), one.reader.offset

    assert asyncio.run(run()) == ([Measured("s/1/t", 1.5), Measured("u/x/y", 1.5)], 2)


def test_topics_and_retained_messages(mosquitto):
    publish(mosquitto, b"kept", topic="a/b", retain=True)

    async def run():
        async with reading(MqttSource(mosquitto.url, "a/#", format="text", with_topic=True)) as one:
            await one.take(1)
            await publish_soon(mosquitto, b"new", topic="a/c", qos=0)
            return await one.take(2)

    assert asyncio.run(run()) == [MqttMessage("a/b", "kept", True), MqttMessage("a/c", "new", False)]


def test_only_what_a_checkpoint_has_the_effect_of_is_acknowledged(mosquitto):
    source = MqttSource(mosquitto.url, "t", client_id="job")

    async def run():
        async with reading(source) as one:
            await subscribed(mosquitto)
            await publish_soon(mosquitto, *map(str, range(10)))
            await one.take(6, limit=6)
            one.reader.committed(4)
        # messages 4 and 5 were handed out, 6 to 9 weren't; and some come while nobody is there
        await publish_soon(mosquitto, "10", "11")
        async with reading(source, 4) as one:
            await one.take(8)
            assert one.rows == list(range(4, 12))
            assert one.reader.offset == 12
            one.reader.committed(12)
            await asyncio.to_thread(until, lambda: mosquitto.log.count("Received PUBACK from job") == 12, "PUBACKs")
        async with reading(source, 12) as one:
            await publish_soon(mosquitto, "12")
            return await one.take(1)

    assert asyncio.run(run()) == [12]


def test_at_most_once_acknowledges_what_was_handed_out(mosquitto):
    source = MqttSource(mosquitto.url, "t", client_id="job", delivery="at-most-once")

    async def run():
        async with reading(source) as one:
            await subscribed(mosquitto)
            await publish_soon(mosquitto, *map(str, range(5)))
            await one.take(3, limit=3)
            await asyncio.to_thread(until, lambda: mosquitto.log.count("Received PUBACK from job") == 3, "PUBACKs")
        async with reading(source, 3) as one:
            return await one.take(2)

    assert asyncio.run(run()) == [3, 4]


def test_a_broken_connection_doubles_nothing(mosquitto):
    """kill -9 of the broker: it sends all again that wasn't acknowledged, and each is recognised."""
    source = MqttSource(mosquitto.url, "t", client_id="job", backoff=QUICK)

    async def run():
        async with reading(source) as one:
            await subscribed(mosquitto)
            await publish_soon(mosquitto, *map(str, range(6)))
            await one.take(4, limit=4)
            await asyncio.to_thread(mosquitto.save)
            mosquitto.kill()
            async with asyncio.timeout(20):
                while not one.waits:
                    await asyncio.sleep(0.005)
            one.reader.committed(3)  # while there is no connection
            mosquitto.start()
            await subscribed(mosquitto, 2)
            await publish_soon(mosquitto, "6")
            await one.take(7)
            await asyncio.to_thread(until, lambda: mosquitto.log.count("Received PUBACK from job") == 3, "PUBACKs")
            one.reader.committed(7)
            await asyncio.to_thread(until, lambda: mosquitto.log.count("Received PUBACK from job") == 7, "PUBACKs")
            return one.rows, one.waits

    rows, waits = asyncio.run(run())
    assert rows == list(range(7))
    assert waits == [f"MQTT broker at 127.0.0.1:{mosquitto.port}", None]


def test_the_broker_sends_no_more_than_may_wait_for_a_checkpoint(mosquitto, caplog, monkeypatch):
    monkeypatch.setattr(reader, "STALL_S", 0.0)
    source = MqttSource(mosquitto.url, "t", max_unacknowledged=5)

    async def run():
        async with reading(source) as one:
            await subscribed(mosquitto)
            await publish_soon(mosquitto, *map(str, range(8)))
            await one.take(5)
            assert one.reader.poll(10) == []
            one.reader.committed(5)
            return await one.take(8)

    assert asyncio.run(run()) == list(range(8))
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "streamcore.connectors"]
    assert 'needs delivery="at-most-once"' in warning


def test_a_slow_job_does_not_read_more_than_it_has_room_for(mosquitto, monkeypatch):
    monkeypatch.setattr(push_reader, "BUFFER_MESSAGES", 50)
    source = MqttSource(mosquitto.url, "t")

    async def run():
        async with reading(source) as one:
            await subscribed(mosquitto)
            await publish_soon(mosquitto, *map(str, range(200)), qos=0)
            sent = "Sending PUBLISH to streamcore-job"
            await asyncio.to_thread(until, lambda: mosquitto.log.count(sent) == 200, "all are sent")
            before = -1
            while before < len(one.reader._buffer):  # until nothing more is read
                before = len(one.reader._buffer)
                await asyncio.sleep(0.05)
            assert before == 50
            return await one.take(200)

    assert asyncio.run(run()) == list(range(200))


def test_malformed_messages(mosquitto):
    async def run(on_error):
        source = MqttSource(mosquitto.url, "t", Measured, on_error=on_error, client_id=on_error)
        async with reading(source) as one:
            await subscribed(mosquitto, 1 if on_error == "side_output" else 2)
            await publish_soon(mosquitto, "{}", '{"sensor": "a", "value": 1}')
            return await one.take(1), one.bad, one.reader.offset

    rows, (bad,), offset = asyncio.run(run("side_output"))
    assert (rows, offset) == ([Measured("a", 1.0)], 2)
    assert (bad.text, bad.position) == ("{}", "message 1 (t)")
    with pytest.raises(BadRecordError, match=r"MQTT broker at .*, message 1 \(t\): "):
        asyncio.run(run("fail"))


def test_two_clients_with_one_id_take_the_session_from_each_other_until_one_gives_up(mosquitto):
    """mosquitto 2.0.11 closes the older connection without a word."""

    async def run():
        source = MqttSource(mosquitto.url, "t", client_id="job", backoff=QUICK)
        async with reading(source) as one, reading(source) as other:
            async with asyncio.timeout(20):
                with pytest.raises(ConnectorError, match="connections in a row within 5 s") as error:
                    await asyncio.gather(one.take(1), other.take(1))
            return error.value.hint

    assert "client_id=" in asyncio.run(run())


def test_a_broker_that_says_that_the_session_is_taken_over():
    async def run():
        async with scripted_broker([CONNACK + disconnect(0x8E)]) as url, reading(MqttSource(url, "t")) as one:
            with pytest.raises(ConnectorError, match="another client has taken over the session 'streamcore-job'"):
                await one.take(1)

    asyncio.run(run())


def test_an_outage_is_not_taken_for_another_client():
    """Attempts that fail aren't connections that were ended, and they interrupt the row of those."""
    away, short, well = [b""], [CONNACK, SUBACK], [CONNACK, SUBACK + PUBLISH_T_1, None]
    script = [*[away] * 8, *[short] * 5, away, *[short] * 5, well]

    async def run():
        async with scripted_broker(*script) as url, reading(MqttSource(url, "t", backoff=QUICK)) as one:
            return await one.take(1), one.waits

    rows, waits = asyncio.run(run())
    assert rows == [1]
    assert [told is not None for told in waits] == [True, False] * 2


@pytest.fixture
def guarded(tmp_path):
    """A broker with one user, who may only read `open/…`, and TLS on its own certificate."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run([*command, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    subprocess.run(["mosquitto_passwd", "-b", "-c", tmp_path / "users", "me", PASSWORD], check=True)
    (tmp_path / "rights").write_text("user me\ntopic readwrite open/#\n")
    broker = Mosquitto(
        tmp_path, "allow_anonymous false", f"password_file {tmp_path}/users", f"acl_file {tmp_path}/rights",
        f"certfile {certificate}", f"keyfile {key}",
    )  # fmt: skip
    try:
        yield broker.start()
    finally:
        broker.kill()


def test_users_and_tls(guarded, tmp_path):
    trusted = str(tmp_path / "certificate.pem")

    def broker(password=PASSWORD, ca_file=trusted):
        return Broker("127.0.0.1", guarded.port, "me", password, tls=True, ca_file=ca_file)

    async def run(broker, topic="open/#"):
        async with reading(MqttSource(broker, topic, format="text", client_id="job")) as one:
            await subscribed(guarded)
            tls = {"ca_certs": trusted}
            await publish_soon(guarded, "hello", topic="open/1", tls=tls, auth={"username": "me", "password": PASSWORD})
            return await one.take(1)

    async def refused(broker, topic="open/#"):
        async with reading(MqttSource(broker, topic, format="text")) as one:
            await one.take(1)

    assert asyncio.run(run(broker())) == ["hello"]
    with pytest.raises(ConnectorError, match=r"refuses us: (Not authorized|Bad user name or password)") as error:
        asyncio.run(refused(broker("wrong")))
    assert "wrong" not in str(error.value)
    with pytest.raises(ConnectorError, match="TLS: CERTIFICATE_VERIFY_FAILED"):
        asyncio.run(refused(broker(ca_file=None)))
