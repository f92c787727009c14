"""A message as Kafka has it, and one that could not be read."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from streamcore.connectors.base import BadRecord

Headers = tuple[tuple[str, bytes | None], ...]


class KafkaMessage(NamedTuple):
    """One message of a topic, undecoded. `time_ms` is its timestamp in ms since the epoch, -1 if it has none."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclasses.dataclass(slots=True)
class BadMessage(BadRecord):
    """A message that the source's format could not read, whole: so a dead-letter topic gets all of it."""

    message: KafkaMessage

    def dead_letter_headers(self) -> Headers:
        """The message's headers, and why and where it failed: `error.reason`, `error.topic`, `error.partition`,
        `error.offset`."""
        message = self.message
        return (
            *message.headers,
            ("error.reason", self.reason.encode()),
            ("error.topic", message.topic.encode()),
            ("error.partition", str(message.partition).encode()),
            ("error.offset", str(message.offset).encode()),
        )
