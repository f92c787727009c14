"""A broker that lets in only who has a certificate or a password, and lets each do only what it may."""

from pathlib import Path

from broker import Broker, free_ports
from certificates import KEY_PASSWORD, Certificates
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

USERS = ("admin", "reader", "writer", "stranger")
# Who may do what with all topics, groups and transactional ids; `admin` may do everything, `stranger` nothing.
RIGHTS = (
    ("reader", ResourceType.TOPIC, AclOperation.READ),
    ("reader", ResourceType.GROUP, AclOperation.READ),
    ("writer", ResourceType.TOPIC, AclOperation.WRITE),
    ("CN=client", ResourceType.TOPIC, AclOperation.ALL),
    ("CN=client", ResourceType.GROUP, AclOperation.ALL),
    ("CN=client", ResourceType.TRANSACTIONAL_ID, AclOperation.ALL),
)


def password(user: str) -> str:
    return f"{user}-secret"


class SecuredBroker(Broker):
    """Three addresses, with PLAIN and SCRAM-SHA-256 where there is SASL:

    - `servers` (SASL_SSL) and `sasl_plaintext` for the users of `USERS`; `password(user)` is what lets them in
      (`reader` may read topics and commit offsets, `writer` may write topics but use no transactional id);
    - `ssl` for who has `client_certificate`, with `client_key`, which needs `key_password`; may do everything with
      topics, groups and transactions.

    `ca` has signed the broker's certificate, `other_ca` has not. The helpers' own clients use a fourth address, where
    everybody may do everything.
    """

    key_password = KEY_PASSWORD

    def __init__(self, directory: Path) -> None:
        certificates = Certificates(directory / "certificates")
        self.ca, self.other_ca = certificates.ca, certificates.other_ca
        self.client_certificate, self.client_key = certificates.client, certificates.client_key
        inside, controller, *outside = free_ports(5)
        addresses = [
            f"{name}://127.0.0.1:{port}"
            for name, port in zip(("PLAINTEXT", "SASL_SSL", "SASL_PLAINTEXT", "SSL"), [inside, *outside], strict=True)
        ]
        _, self._sasl_ssl, self.sasl_plaintext, self.ssl = (address.partition("://")[2] for address in addresses)
        plain = " ".join(f'user_{user}="{password(user)}"' for user in USERS)
        settings = {
            "listeners": ",".join([*addresses, f"CONTROLLER://127.0.0.1:{controller}"]),
            "advertised.listeners": ",".join(addresses),
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,"
            "SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(certificates.server),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(certificates.ca),
            "listener.name.ssl.ssl.client.auth": "required",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # The broker itself is anonymous on its own two listeners, and so are the helpers.
            "super.users": "User:admin;User:ANONYMOUS",
        }
        modules = "org.apache.kafka.common.security"
        for listener in ("sasl_ssl", "sasl_plaintext"):
            mechanism = f"listener.name.{listener}.{{}}.sasl.jaas.config"
            settings[mechanism.format("plain")] = f"{modules}.plain.PlainLoginModule required {plain};"
            settings[mechanism.format("scram-sha-256")] = f"{modules}.scram.ScramLoginModule required;"
        scram = [f"--add-scram=SCRAM-SHA-256=[name={user},password={password(user)}]" for user in USERS]
        super().__init__(directory, settings, scram, ports=(inside, controller))

    @property
    def servers(self) -> str:
        return self._sasl_ssl

    def start(self) -> "SecuredBroker":
        super().start()
        rights = [
            AclBinding(kind, "*", ResourcePatternType.LITERAL, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
            for user, kind, operation in RIGHTS
        ]
        for future in self.admin.create_acls(rights).values():
            future.result(30.0)
        return self
