"""The options of the web and MQTT connectors: checked where they are given, shown without secrets."""

from __future__ import annotations

import pickle
from typing import NamedTuple

import pytest

from streamcore.connectors import extras
from streamcore.connectors.mqtt import Broker, MqttSink, MqttSource
from streamcore.connectors.web import HttpSink, ServerSentEventsSource, WebSocketSource
from streamcore.connectors.web.address import Headers, shown
from streamcore.errors import UsageError

URL = "http://localhost/x"


class Point(NamedTuple):
    x: int


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HttpSink("localhost:80"), "is not a URL"),
        (lambda: HttpSink("ftp://localhost"), "is not a URL"),
        (lambda: HttpSink("http://localhost:99999"), "is not a URL"),
        (lambda: HttpSink("http://[::1"), "is not a URL"),
        (lambda: HttpSink("http:///path"), "is not a URL"),
        (lambda: HttpSink("http://a..b/path"), "is not a URL"),
        (lambda: HttpSink(f"http://{'a' * 64}/path"), "is not a URL"),
        (lambda: HttpSink(URL, body="xml"), "body='xml' is unknown"),
        (lambda: HttpSink(URL, on_refused="retry"), "on_refused='retry' is unknown"),
        (lambda: HttpSink(URL, batch=2), "don't fit a body of one"),
        (lambda: HttpSink(URL, body="array", idempotency_key="id"), "belongs to one record"),
        (lambda: HttpSink(URL, body="array", batch=0), "batch=0"),
        (lambda: HttpSink(URL, concurrency=0), "concurrency=0"),
        (lambda: HttpSink(URL, attempts=0), "attempts=0"),
        (lambda: HttpSink(URL, timeout_s=0), "timeout_s=0"),
        (lambda: HttpSink(URL, linger_s=-1), "linger_s=-1"),
        (lambda: HttpSink(URL, headers={"X": "a\nb"}), "header 'X' can't be sent"),
        (lambda: WebSocketSource(URL), "is not a URL"),
        (lambda: WebSocketSource("ws://h", format="xml"), "format='xml' is unknown"),
        (lambda: WebSocketSource("ws://h", Point, format="text"), "have no type"),
        (lambda: WebSocketSource("ws://h", on_error="ignore"), "on_error='ignore' is unknown"),
        (lambda: WebSocketSource("ws://h", subscribe="hello"), "is a list of messages"),
        (lambda: WebSocketSource("ws://h", subscribe=[object()]), "can't be written as JSON"),
        (lambda: WebSocketSource("ws://h", heartbeat_s=0), "heartbeat_s=0"),
        (lambda: WebSocketSource("ws://h", max_message_bytes=0), "max_message_bytes=0"),
        (lambda: ServerSentEventsSource("ws://h"), "is not a URL"),
        (lambda: ServerSentEventsSource(URL, events="message"), "is a list of types"),
        (lambda: ServerSentEventsSource(URL, silence_s=0), "silence_s=0"),
        (lambda: MqttSource("http://h", "t"), "is no broker's address"),
        (lambda: MqttSource("mqtt://h/topic", "t"), "is no broker's address"),
        (lambda: MqttSource("mqtt://h:99999", "t"), "is no broker's address"),
        (lambda: MqttSource("mqtt://h", []), "can't be subscribed to"),
        (lambda: MqttSource("mqtt://h", "a#"), "can't be subscribed to"),
        (lambda: MqttSource("mqtt://h", "#/a"), "can't be subscribed to"),
        (lambda: MqttSource("mqtt://h", ["a", "b+/c"]), "can't be subscribed to"),
        (lambda: MqttSource("mqtt://h", "t", delivery="exactly-once"), "delivery='exactly-once' is unknown"),
        (lambda: MqttSource("mqtt://h", "t", max_unacknowledged=0), "max_unacknowledged=0"),
        (lambda: MqttSource("mqtt://h", "t", session_s=0), "session_s=0"),
        (lambda: MqttSink("mqtt://h", "a/+"), "can't be published to"),
        (lambda: MqttSink("mqtt://h", ""), "can't be published to"),
        (lambda: MqttSink("mqtt://h", "t", value="xml"), "value='xml' is unknown"),
        (lambda: MqttSink("mqtt://h", "t", max_unacknowledged=70_000), "max_unacknowledged=70000"),
        (lambda: Broker("", 1883), "is no broker"),
        (lambda: Broker("h", keepalive_s=0), "keepalive_s=0"),
    ],
)
def test_options_that_cannot_be(make, message):
    with pytest.raises(UsageError) as error:
        make()
    assert message in str(error.value)


def test_secrets_are_not_shown():
    headers = Headers({"Authorization": "xyzzy", "X-Key": "xyzzy"})
    assert repr(headers) == str(headers) == "{'Authorization': '***', 'X-Key': '***'}"
    assert shown("https://user:xyzzy@host:8443/a/b?token=xyzzy#xyzzy") == "https://host:8443/a/b"
    assert shown("user:xyzzy@host") == "host"
    with pytest.raises(UsageError) as error:
        HttpSink("htp://user:xyzzy@host/?key=xyzzy")
    broker = Broker.of("mqtts://me:xyzzy@host")
    with pytest.raises(UsageError) as other:
        Broker.of("mqtts://me:xyzzy@host/topic")
    assert "xyzzy" not in f"{error.value} {other.value} {broker} {broker!r}"


def test_addresses_of_brokers():
    assert Broker.of("mqtt://h") == Broker("h", 1883)
    assert Broker.of("mqtts://m%40e:p%2Fw@h:99/") == Broker("h", 99, "m@e", "p/w", tls=True)
    assert str(Broker("h")) == "MQTT broker at h:1883"


def test_they_travel_to_workers_and_say_what_they_read():
    sources = [
        WebSocketSource("ws://h/feed?token=1", Point),
        ServerSentEventsSource(URL, Point),
        MqttSource("mqtt://h", ["a", "b/#"], Point),
    ]
    for source in sources:
        copy = pickle.loads(pickle.dumps(source))  # noqa: S301
        assert copy.schema.names == ("x",)
        assert copy.format.decoder()(b'{"x": 3}') == Point(3)
        assert not source.bounded
    assert [source.splits()[0].id for source in sources] == ["ws://h/feed", URL, "h:1883 a b/#"]
    assert MqttSource("mqtt://h", "a", Point, with_topic=True).schema is None
    assert pickle.loads(pickle.dumps(HttpSink(URL, headers={"A": "b"}))).headers["A"] == "b"  # noqa: S301


@pytest.mark.parametrize(
    ("make", "extra"),
    [
        (lambda: HttpSink(URL), "http"),
        (lambda: WebSocketSource("ws://h"), "http"),
        (lambda: ServerSentEventsSource(URL), "http"),
        (lambda: MqttSource("mqtt://h", "t"), "mqtt"),
        (lambda: MqttSink("mqtt://h", "t"), "mqtt"),
    ],
)
def test_a_package_that_is_not_installed(make, extra, monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="needs the package") as error:
        make()
    assert error.value.hint == f"pip install 'streamcore[{extra}]'"
