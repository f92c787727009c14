"""Messages of MQTT topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from streamcore.connectors.backoff import Backoff
from streamcore.connectors.base import ReaderContext, Source, SourceClient, Split, SplitReader
from streamcore.connectors.extras import need
from streamcore.connectors.messages import Format, MessageFormat
from streamcore.connectors.mqtt.broker import Broker
from streamcore.connectors.options import check_choice
from streamcore.connectors.paths import OnError, check_on_error
from streamcore.connectors.push_reader import Connections
from streamcore.errors import UsageError

Delivery = Literal["at-least-once", "at-most-once"]


class MqttMessage(NamedTuple):
    """A message with where it came from. `value`: what the source's format makes of it; `retained`: it is one that the
    broker had kept for new subscribers."""

    topic: str
    value: Any
    retained: bool


class MqttSource(Source[Any]):
    """The messages of MQTT topics with QoS 1, by a session that the broker keeps while the job is away.

    `at-least-once`: a message is acknowledged to the broker only after a checkpoint that has its effect is complete, so
    that the broker sends it again when the job fails before; it may then be counted twice. This needs checkpoints, and
    is true of a restore of the newest one: what was acknowledged after an older one (or a savepoint) is gone. A broker
    sends only so many messages before it wants the first acknowledged, and then waits for the next checkpoint: with
    mosquitto that are 20, unless `max_inflight_messages` in its configuration says more (0: `max_unacknowledged`
    alone counts).

    `at-most-once`: a message is acknowledged when the job has taken it.

    Messages that were published with QoS 0 are never sent again, whichever is chosen. A broker that can't be reached is
    waited for.

    Args:
        broker: `mqtt://host:1883`, `mqtts://…` for TLS, or a `Broker`.
        topics: a topic filter, such as `sensors/+/temperature`, or several.
        type: the type of JSON messages (a dataclass, a NamedTuple, a msgspec Struct, or what else msgspec decodes),
            which gives the stream its columns; objects become dicts when None.
        format: `json`, `text` (`str`) or `bytes`.
        with_topic: records are `MqttMessage`s, in rows.
        delivery: see above.
        client_id: names the session; the same again after a restart, and no other client's. None: `streamcore-` and
            the job's name.
        session_s: seconds that the broker keeps the session, and what comes meanwhile, while nobody is connected.
        max_unacknowledged: messages that we take before the first of them is acknowledged, 1 to 65535.
        on_error: what becomes of a malformed message: `fail`, `skip` (counted) or `side_output`.
        backoff: the waits before connecting again.

    Raises:
        UsageError: an option is wrong, or paho-mqtt isn't installed.
    """

    bounded = False

    def __init__(
        self,
        broker: str | Broker,
        topics: str | Sequence[str],
        type: Any = None,  # noqa: A002 - the usual names
        *,
        format: Format = "json",  # noqa: A002
        with_topic: bool = False,
        delivery: Delivery = "at-least-once",
        client_id: str | None = None,
        session_s: int = 86_400,
        max_unacknowledged: int = 10_000,
        on_error: str = "fail",
        backoff: Backoff = Backoff(),  # noqa: B008 - it can't be changed
    ) -> None:
        need("paho", "mqtt", "MqttSource")
        self.broker = Broker.of(broker)
        self.topics = [topics] if isinstance(topics, str) else list(topics)
        if not self.topics or not all(map(_is_filter, self.topics)):
            raise UsageError(f"{topics!r} can't be subscribed to", hint='"+" is one level, "#" all the last ones')
        check_choice("delivery", delivery, get_args(Delivery))
        if not (1 <= max_unacknowledged <= 65_535 and 1 <= session_s < 2**32):
            raise UsageError(
                f"max_unacknowledged={max_unacknowledged}, session_s={session_s} can't be",
                hint="1 to 65535 messages, and at least a second",
            )
        self.format = MessageFormat(format, type)
        self.schema = None if with_topic else self.format.schema
        self.with_topic = with_topic
        self.delivery = delivery
        self.client_id = client_id
        self.session_s = session_s
        self.max_unacknowledged = max_unacknowledged
        self.on_error: OnError = check_on_error(on_error)
        self.backoff = backoff

    def splits(self) -> Sequence[Split]:
        """The one split: a session has one connection."""
        return [Split(f"{self.broker.host}:{self.broker.port} {' '.join(self.topics)}")]

    def client(self, context: ReaderContext) -> SourceClient:
        """What waits for the connection's end."""
        return Connections()

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader that connects at its first poll; its offset is the number of messages handed out in total."""
        from streamcore.connectors.mqtt.reader import MqttReader  # it imports the extra

        return MqttReader(self, int(offset or 0), context)


def _is_filter(topic: str) -> bool:
    levels = topic.split("/")
    return (
        0 < len(topic.encode()) <= 65_535
        and "\0" not in topic
        and all("+" not in level or level == "+" for level in levels)
        and all("#" not in level for level in levels[:-1])
        and ("#" not in levels[-1] or levels[-1] == "#")
    )
