"""MqttSink with a real broker; another client reads what it has published."""

from __future__ import annotations

import asyncio
import json
import threading

import paho.mqtt.client as paho
import pytest
from connector_rig import Writing, deliver
from mosquitto_server import Mosquitto
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from scripted_broker import CONNACK, disconnect, scripted_broker

from streamcore.connectors.mqtt import Backoff, MqttSink
from streamcore.errors import BadRecordError, ConnectorError
from tests.process.process_harness import until

QUICK = Backoff(first_s=0.01, longest_s=0.05)


class Subscriber:
    """paho's own client with a session that outlives the broker."""

    def __init__(self, broker):
        self.messages = []
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "subscriber", protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(0.05, 0.1)
        self._client.on_message = lambda _, __, message: self.messages.append((message.topic, message.payload))
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 1000
        self._client.connect("127.0.0.1", broker.port, clean_start=False, properties=properties)

    def __enter__(self):
        self._client.loop_start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()

    def has(self, count):
        until(lambda: len(self.messages) >= count, f"{count} messages")
        return self.messages


def test_every_record_is_a_message_in_its_order(mosquitto):
    with Subscriber(mosquitto) as subscriber:
        deliver(MqttSink(mosquitto.url, "all", max_unacknowledged=7), *({"n": n} for n in range(100)))
        assert [(topic, json.loads(payload)) for topic, payload in subscriber.has(100)] == [
            ("all", {"n": n}) for n in range(100)
        ]


def test_topics_and_values(mosquitto):
    with Subscriber(mosquitto) as subscriber:
        deliver(MqttSink(mosquitto.url, lambda row: f"to/{row[0]}", value="text", retain=True), "a1", "b2")
        deliver(MqttSink(mosquitto.url, "raw", value="bytes"), b"\xff")
        assert subscriber.has(3) == [("to/a", b"a1"), ("to/b", b"b2"), ("raw", b"\xff")]
    assert mosquitto.log.count("r1") >= 2  # the retain flag of a PUBLISH


def test_records_that_are_no_messages(mosquitto):
    with pytest.raises(BadRecordError, match=r"'a/\+' can't be published to"):
        deliver(MqttSink(mosquitto.url, lambda row: row, value="text"), "a/+")
    with pytest.raises(BadRecordError, match="a record isn't bytes: 'x'"):
        deliver(MqttSink(mosquitto.url, "t", value="bytes"), "x")


def test_a_broker_that_is_killed_is_waited_for_and_nothing_is_lost(mosquitto):
    async def run(subscriber):
        sink = MqttSink(mosquitto.url, "t", max_unacknowledged=10, backoff=QUICK)
        async with Writing(sink) as writing:
            writing.write(*range(50))
            await writing.prepared()
            await asyncio.to_thread(subscriber.has, 50)
            mosquitto.save()  # the subscriber's session
            mosquitto.kill()
            count = 50
            while not writing.writer.is_full:
                writing.write(count)
                count += 1
            cut = writing.writer.prepare()
            async with asyncio.timeout(20):
                while not writing.waits:
                    await asyncio.sleep(0.005)
            assert not cut.done()
            mosquitto.start()
            async with asyncio.timeout(20):
                assert list(await cut) == []
            assert writing.wakes >= 1
            return count, writing.waits

    with Subscriber(mosquitto) as subscriber:
        count, waits = asyncio.run(run(subscriber))
        until(lambda: {int(body) for _, body in subscriber.messages} == set(range(count)), "all messages")
    assert waits == [f"MQTT broker at 127.0.0.1:{mosquitto.port}", None]


@pytest.mark.parametrize(
    ("setting", "retain", "error"),
    [
        ("retain_available false", True, "retains no messages"),
        ("max_qos 0", False, "takes no messages of QoS 1"),
        ("max_packet_size 1000", False, "a message to 't' is too long for .*: 1001 bytes with its header"),
        # this one it doesn't tell: it hangs up
        (
            "message_size_limit 900",
            False,
            r"has ended 6 connections in a row .*\n.*longest of 1 messages has 992 bytes",
        ),
    ],
)
def test_what_a_broker_never_takes_is_an_error(tmp_path, setting, retain, error):
    async def run():
        async with Writing(MqttSink(broker.url, "t", value="text", retain=retain, backoff=QUICK)) as writing:
            # 2 to 3 bytes of header, 3 of topic, 2 of message id, 1 of properties
            writing.write("x" * (1001 - 9))
            try:
                await writing.prepared()
            finally:
                assert writing.waits == []  # the broker was there all the time

    broker = Mosquitto(tmp_path, "allow_anonymous true", setting)
    try:
        broker.start()
        with pytest.raises((BadRecordError, ConnectorError), match=error):
            asyncio.run(run())
        if "max_packet_size" in setting:
            deliver(MqttSink(broker.url, "t", value="text"), "x" * (1000 - 9))
    finally:
        broker.kill()


@pytest.mark.parametrize(
    ("reason", "what"), [(0x95, "Packet too large"), (0x87, "Not authorized"), (0x9B, "QoS not supported")]
)
def test_a_broker_that_says_why_it_ends_the_connection(reason, what):
    async def run():
        async with scripted_broker([CONNACK, disconnect(reason)]) as url, Writing(MqttSink(url, "t")) as writing:
            writing.write(1)
            with pytest.raises(ConnectorError, match=f"has ended the connection: {what}"):
                await writing.prepared()

    asyncio.run(run())


def test_a_broker_that_is_overloaded_is_waited_for():
    """Six connections in a row are one too many only if nothing was acknowledged on any."""
    puback = b"\x40\x02\x00\x01"

    async def run():
        restarts = [[CONNACK, disconnect(0x89)]] * 5
        script = [*restarts, [CONNACK, puback], *restarts, [CONNACK, puback, puback[:-1] + b"\x02"]]
        async with (
            scripted_broker(*script) as url,
            Writing(MqttSink(url, "t", max_unacknowledged=1, backoff=QUICK)) as writing,
        ):
            writing.write(1, 2)
            await writing.prepared()

    asyncio.run(run())
