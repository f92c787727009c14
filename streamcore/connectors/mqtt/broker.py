"""Where an MQTT broker is, and who we are to it."""

from __future__ import annotations

import dataclasses
from urllib.parse import unquote, urlsplit

from streamcore.errors import UsageError

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclasses.dataclass(frozen=True, slots=True)
class Broker:
    """A broker that speaks MQTT 5.

    Attributes:
        username: None: the broker takes everyone.
        password: never shown.
        tls: whether the connection is encrypted; the broker's certificate is checked.
        ca_file: PEM certificates to check it against; None: the system's.
        keepalive_s: seconds without traffic after which a ping is sent, and as many more until the connection is
            taken to be broken.

    Raises:
        UsageError: a value can't be.
    """

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    tls: bool = False
    ca_file: str | None = None
    keepalive_s: int = 30

    def __post_init__(self) -> None:
        if not self.host or not 0 < self.port <= 65535:
            raise UsageError(f"{self.host!r}, port {self.port} is no broker")
        if not 1 <= self.keepalive_s <= 65535:
            raise UsageError(f"keepalive_s={self.keepalive_s} can't be", hint="1 to 65535 seconds")

    @staticmethod
    def of(broker: str | Broker) -> Broker:
        """The broker of a URL such as `mqtt://localhost:1883` or, with TLS, `mqtts://user:password@host`.

        Raises:
            UsageError: it isn't such a URL.
        """
        if isinstance(broker, Broker):
            return broker
        try:
            parts = urlsplit(broker)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        if parts.scheme not in _PORTS or not host or parts.path not in ("", "/"):
            shown = broker.rpartition("@")[2]
            raise UsageError(f"{shown!r} is no broker's address", hint="such as mqtt://localhost:1883 or mqtts://host")
        return Broker(
            host,
            port or _PORTS[parts.scheme],
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=parts.scheme == "mqtts",
        )

    def __str__(self) -> str:
        return f"MQTT broker at {self.host}:{self.port}"
