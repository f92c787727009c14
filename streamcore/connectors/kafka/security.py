"""How to reach a Kafka cluster: its addresses, encryption and login."""

from __future__ import annotations

import dataclasses
import functools
import ssl
from collections.abc import Mapping
from typing import Any

from streamcore.connectors.options import check_choice
from streamcore.errors import ConnectorError, UsageError

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER")

_REQUEST_TIMEOUT_MS = 40_000
_PORTS = range(1, 65536)


@dataclasses.dataclass(frozen=True)
class Security:
    """Encryption and login, as the brokers' listener wants them.

    Args:
        protocol: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
        mechanism: how to log in with SASL: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`; `GSSAPI` and `OAUTHBEARER` with
            the client's own options (`options=` of source and sink).
        username, password: for PLAIN and SCRAM.
        ca_file: certificates (PEM) of those who may have signed the brokers'; None: the system's.
        certificate_file, key_file, key_password: the client's own certificate (PEM), where brokers ask for one.
        check_hostname: whether the broker's certificate has to be made out for its host's name.

    Raises:
        UsageError: a value is unknown, or one is missing.
    """

    protocol: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: str | None = dataclasses.field(default=None, repr=False)
    check_hostname: bool = True

    def __post_init__(self) -> None:
        check_choice("protocol", self.protocol, PROTOCOLS)
        check_choice("mechanism", self.mechanism, MECHANISMS)
        needs_password = self.has_login and self.mechanism in MECHANISMS[:3]
        if needs_password and (self.username is None or self.password is None):
            raise UsageError(f"{self.protocol} with {self.mechanism} needs username= and password=")
        if not self.has_login and self.username is not None:
            raise UsageError(
                f"a username for {self.protocol}, which has no login",
                hint="use protocol='SASL_SSL' or 'SASL_PLAINTEXT'",
            )
        if self.key_file is not None and self.certificate_file is None:
            raise UsageError("key_file= without certificate_file=")

    @property
    def has_login(self) -> bool:
        """Whether the client logs in (SASL)."""
        return self.protocol.startswith("SASL_")

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return self.protocol.endswith("SSL")

    def ssl_context(self) -> ssl.SSLContext | None:
        """What TLS is to trust and to show; None without TLS.

        Raises:
            ConnectorError: a file isn't there or holds no certificate.
        """
        if not self.is_encrypted:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.certificate_file is not None:
                context.load_cert_chain(self.certificate_file, self.key_file, self.key_password or "")
        except (OSError, ValueError) as error:
            files = [name for name in (self.ca_file, self.certificate_file, self.key_file) if name is not None]
            raise ConnectorError(f"can't use the certificates in {', '.join(files)}: {error}") from error
        if not self.check_hostname:
            context.check_hostname = False
        return context


@dataclasses.dataclass(frozen=True)
class Brokers:
    """A Kafka cluster. Plain data: connections are made from it wherever they are needed.

    Args:
        servers: `host:port`, or several separated by commas, of which one has to answer.
        options: what else to pass to the client as it is (`request_timeout_ms`, `client_id`, ...).

    Raises:
        UsageError: an address is none.
    """

    servers: str
    security: Security = Security()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.hosts, "at least one address"

    def __str__(self) -> str:
        return f"Kafka at {self.servers}"

    @functools.cached_property
    def hosts(self) -> tuple[tuple[str, int], ...]:
        """(host, port) of each server."""
        return tuple(_host_port(server.strip(), self.servers) for server in self.servers.split(","))

    def client_options(self) -> dict[str, Any]:
        """The options of every aiokafka client for these brokers.

        Raises:
            ConnectorError: certificates can't be read.
        """
        security = self.security
        options: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "client_id": "streamcore",
            "request_timeout_ms": _REQUEST_TIMEOUT_MS,
            "security_protocol": security.protocol,
            "ssl_context": security.ssl_context(),
        }
        if security.has_login:
            options["sasl_mechanism"] = security.mechanism
            options["sasl_plain_username"] = security.username
            options["sasl_plain_password"] = security.password
        return {**options, **self.options}


def _host_port(server: str, servers: str) -> tuple[str, int]:
    host, colon, port = server.rpartition(":")
    if not colon:
        host, port = server, "9092"
    if not host or not port.isdecimal() or int(port) not in _PORTS:
        raise UsageError(f"{servers!r} is no address of Kafka brokers", hint="it is host:port, or several with commas")
    return host.strip("[]"), int(port)
