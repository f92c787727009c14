"""Addresses of topics on one line: `kafka://host:port[,host:port]/topic[,topic]?start=earliest`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from streamcore.connectors.kafka.security import Brokers, Security
from streamcore.errors import UsageError

SCHEME = "kafka://"

_FORM = "write kafka://host:port/topic?option=value, and a login as kafka://user:password@host:port/topic"
_SECURITY = ("protocol", "mechanism", "username", "password", "ca_file", "certificate_file", "key_file", "key_password")


@dataclasses.dataclass(frozen=True)
class KafkaUrl:
    """What the address says: the brokers, the topics (one or more), and the options that aren't about security."""

    brokers: Brokers
    topics: tuple[str, ...]
    options: Mapping[str, str]

    @property
    def topic(self) -> str:
        """The topic of a sink.

        Raises:
            UsageError: there are several.
        """
        if len(self.topics) > 1:
            raise UsageError(f"one topic is wanted, not {len(self.topics)}: {', '.join(self.topics)}")
        return self.topics[0]

    def check_options(self, *known: str) -> None:
        """Refuses options that aren't among `known`.

        Raises:
            UsageError: one isn't.
        """
        for name in self.options:
            if name not in known:
                raise UsageError(f"unknown option {name!r} in a Kafka address", hint=f"known: {', '.join(known)}")


def is_url(text: str) -> bool:
    """Whether the text is meant to be such an address."""
    return text.startswith(SCHEME)


def parse_url(text: str) -> KafkaUrl:
    """Reads the address. A user name stands for SASL with PLAIN over TLS, unless `protocol` and `mechanism` say
    otherwise; the names of the security options are those of `Security`.

    Raises:
        UsageError: it isn't one.
    """
    if not is_url(text):
        raise UsageError(f"{text!r} is no Kafka address", hint=_FORM)
    rest, _, query = text.removeprefix(SCHEME).partition("?")
    login, _, place = rest.rpartition("@")
    servers, _, path = place.partition("/")
    topics = tuple(unquote(topic) for topic in path.split(",") if topic)
    if not servers or not topics:
        # the text may have a password in it
        raise UsageError(f"the Kafka address lacks {'its topic' if servers else 'its brokers'}", hint=_FORM)
    options = dict(parse_qsl(query, keep_blank_values=True))
    secured: dict[str, Any] = {name: options.pop(name) for name in _SECURITY if name in options}
    if login:
        username, _, password = login.partition(":")
        secured = {"protocol": "SASL_SSL", "username": unquote(username), "password": unquote(password), **secured}
    return KafkaUrl(Brokers(servers, Security(**secured)), topics, options)
