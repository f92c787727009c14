"""Records published to MQTT topics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from streamcore.connectors.backoff import Backoff
from streamcore.connectors.base import AsyncSinkWriter, Sink, SinkContext
from streamcore.connectors.extras import need
from streamcore.connectors.mqtt.broker import Broker
from streamcore.connectors.options import check_choice
from streamcore.errors import UsageError

ValueFormat = Literal["json", "text", "bytes"]


class MqttSink(Sink[Any]):
    """Publishes every record as a message with QoS 1.

    At least once: a checkpoint is complete only when the broker has acknowledged all that was published before it; what
    was published since the last one is published again after a crash. The messages of a subtask keep their order,
    except for those that are sent again. A broker that can't be reached is waited for, and the stream with it; no
    checkpoint can be complete meanwhile (see `HttpSink`). What a broker never takes, such as a message that is too long
    for it, is an error; where it only hangs up, after six short connections in a row without any acknowledgement.

    Args:
        broker: `mqtt://host:1883`, `mqtts://…` for TLS, or a `Broker`.
        topic: the topic of all records, or a function of the record that gives it.
        value: `json` (dataclasses, NamedTuples and dicts become objects), `text` (records are `str`) or `bytes`.
        retain: whether the broker keeps the last message of each topic for new subscribers.
        max_unacknowledged: messages that are sent before the broker has acknowledged the first of them; a broker that
            wants fewer gets fewer.
        backoff: the waits before connecting again.

    Raises:
        UsageError: an option is wrong, or paho-mqtt isn't installed.
    """

    accepts = "rows"
    asynchronous = True

    def __init__(
        self,
        broker: str | Broker,
        topic: str | Callable[[Any], str],
        *,
        value: ValueFormat = "json",
        retain: bool = False,
        max_unacknowledged: int = 1_000,
        backoff: Backoff = Backoff(),  # noqa: B008 - it can't be changed
    ) -> None:
        need("paho", "mqtt", "MqttSink")
        self.broker = Broker.of(broker)
        if isinstance(topic, str) and why_no_topic(topic):
            raise UsageError(f"{topic!r} can't be published to: {why_no_topic(topic)}")
        check_choice("value", value, get_args(ValueFormat))
        if not 1 <= max_unacknowledged <= 65_535:
            raise UsageError(f"max_unacknowledged={max_unacknowledged} can't be", hint="1 to 65535")
        self.topic = topic
        self.value = value
        self.retain = retain
        self.max_unacknowledged = max_unacknowledged
        self.backoff = backoff

    def writer(self, context: SinkContext) -> AsyncSinkWriter:
        """The writer of one subtask."""
        from streamcore.connectors.mqtt.writer import MqttWriter  # it imports the extra

        return MqttWriter(self, context)


def why_no_topic(topic: object) -> str:
    """What is wrong with a topic to publish to; empty if nothing is."""
    if not isinstance(topic, str) or not topic:
        return "a topic is text"
    if set("+#\0") & set(topic):
        return 'there can be no "+", "#" or NUL in a topic'
    return "" if len(topic.encode("utf-8", "replace")) <= 65_535 else "it is too long"
