"""What a source could not read, sent on to a topic of its own."""

from __future__ import annotations

from typing import Any

from streamcore.connectors.base import BadRecord
from streamcore.connectors.kafka.formats import Messages
from streamcore.connectors.kafka.message import BadMessage, KafkaMessage
from streamcore.connectors.kafka.sink import KafkaSink


def dead_letters(bad_records: Any, servers: str, topic: str, **options: Any) -> Any:
    """Writes a source's bad records to a topic: those of Kafka with the key, value, time and headers they had, and
    headers that say what was wrong and where they were (`error.reason`, `error.topic`, `error.partition`,
    `error.offset`); those of other sources as their text, with `error.reason`, `error.split`, `error.position`.

    Args:
        bad_records: `stream.bad_records()` of a source with `on_error="side_output"`.
        options: those of `KafkaSink`.

    Returns:
        The end of the stream, which can be given a name.
    """
    sink = KafkaSink(servers, topic, value=Messages(), **options)
    return bad_records.map(dead_letter).sink(sink)


def dead_letter(bad: BadRecord) -> KafkaMessage:
    """The message that is written for a bad record."""
    if isinstance(bad, BadMessage):
        return bad.message._replace(headers=bad.dead_letter_headers())
    headers = (
        ("error.reason", bad.reason.encode()),
        ("error.split", bad.split.encode()),
        ("error.position", bad.position.encode()),
    )
    return KafkaMessage("", -1, -1, -1, None, bad.text.encode("utf-8", "surrogateescape"), headers)
