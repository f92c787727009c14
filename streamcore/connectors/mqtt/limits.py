"""What a broker takes, by its CONNACK, and how often it may end a connection soon after it has begun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streamcore.connectors.mqtt.broker import Broker
from streamcore.errors import ConnectorError

LONGEST_PACKET = 5 + (1 << 28) - 1
"""Bytes: the protocol's own limit, a header of 5 and what four digits of base 128 can count."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection takes (MQTT 5, 3.2.2.3); what a broker doesn't say is as the standard has it.

    Attributes:
        window: messages of QoS 1 that the broker takes before it has acknowledged the first.
        packet_bytes: the longest packet.
        retains: whether it takes messages to retain.
        qos: the highest quality of service of a message.
    """

    window: int = 65_535
    packet_bytes: int = LONGEST_PACKET
    retains: bool = True
    qos: int = 2

    @staticmethod
    def of(properties: Any) -> Limits:
        """The limits in the properties of a CONNACK, as paho gives them; None: there were none."""
        return Limits(
            getattr(properties, "ReceiveMaximum", 65_535),
            getattr(properties, "MaximumPacketSize", LONGEST_PACKET),
            bool(getattr(properties, "RetainAvailable", 1)),
            getattr(properties, "MaximumQoS", 2),
        )

    def check(self, broker: Broker, *, retain: bool) -> None:
        """Checks that messages of QoS 1 can be published.

        Raises:
            ConnectorError: they can't, ever.
        """
        if retain and not self.retains:
            raise ConnectorError(f"the {broker} retains no messages", hint="leave out retain=True")
        if self.qos < 1:
            raise ConnectorError(
                f"the {broker} takes no messages of QoS 1, so it acknowledges none",
                hint="its configuration can allow it",
            )


def publish_bytes(topic: str, payload: bytes) -> int:
    """The length of the packet that publishes a message with QoS 1 and no properties (MQTT 5, 3.3)."""
    length = 2 + len(topic.encode()) + 2 + 1 + len(payload)  # the message id, and the length of no properties
    digits = 1 + (length >= 1 << 7) + (length >= 1 << 14) + (length >= 1 << 21)
    return 1 + digits + length


class ShortConnections:
    """Counts the connections in a row that a broker has made and ended soon: what waiting doesn't change, though the
    broker doesn't say what it is."""

    LONG_S = 5.0
    MOST = 6

    def __init__(self) -> None:
        self.count = 0

    def ended(self, after_s: float) -> bool:
        """Takes note of a connection that has ended; whether it is one too many."""
        self.count = self.count + 1 if after_s <= self.LONG_S else 0
        return self.count >= self.MOST

    def reset(self) -> None:
        """The row is interrupted."""
        self.count = 0
