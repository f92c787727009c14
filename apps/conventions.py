"""What all apps do alike: where records come from and results go, checks of settings, what they say of records that
they could not read.

An app reads files (`input`) or topics (`source`), and writes folders below `output` or topics below `sink`: the two
settings of each pair become one *place*, a path or an address `kafka://host:port/topic?option=value`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from streamcore import DataStream, UsageError, WatermarkStrategy, seconds
from streamcore.connectors.base import Sink, Source
from streamcore.connectors.file_sink import FileSink, read_jsonl

if TYPE_CHECKING:
    from streamcore.connectors.kafka.url import KafkaUrl

MALFORMED = "malformed"
IDLE_S = 30.0
"""After so long a partition without messages doesn't hold back the event time of the others."""


def place(address: str, path: str) -> str:
    """The place that two settings stand for: the address of topics if there is one, else the path.

    Raises:
        UsageError: the address isn't one.
    """
    if address:
        _url(address)
    return address or path


def is_topics(place: str) -> bool:
    """Whether a place is an address of topics."""
    return place.startswith("kafka://")


def messages(address: str, type_: Any, timestamp: str | None = None, on_error: str = "side_output") -> Source[Any]:
    """JSON messages with the fields of a type, as columns.

    Args:
        address: its options are those of `KafkaSource.from_url`, such as `start`, `stop`, and `on_error` to override
            this one.
        timestamp: the field that gets the message's own timestamp: the event time, in milliseconds.
    """
    from streamcore.connectors.kafka.json_format import Json
    from streamcore.connectors.kafka.source import KafkaSource

    url = _url(address)
    url = dataclasses.replace(url, options={"on_error": on_error, **url.options})
    return KafkaSource.from_url(url, Json(type_, timestamp=timestamp))


def patient(watermarks: WatermarkStrategy, read_from: str) -> WatermarkStrategy:
    """The strategy, for topics with partitions that may fall silent."""
    return watermarks.with_idleness(seconds(IDLE_S)) if is_topics(read_from) else watermarks


def write(stream: DataStream[Any], write_to: str, name: str, key: str | None = None) -> None:
    """Writes a stream to the folder `name` of a path, where a new run replaces what an older one has written; or as
    JSON messages to the topic `BASE-name`, where `BASE` is the topic of the address. It is made if there is none.

    The options of such an address are those of `KafkaSink.from_url`, such as `delivery` (`exactly-once`, which needs
    checkpoints, or `at-least-once`) and `partitions` (of topics that are made: 12).

    Args:
        key: the field by whose values messages are dealt out to partitions.
    """
    sink = _topic(write_to, name, key) if is_topics(write_to) else FileSink(f"{write_to}/{name}", if_exists="replace")
    stream.sink(sink).uid(f"{name}-sink")


def where_results_are(write_to: str) -> str:
    """The report's line about results in topics."""
    url = _url(write_to)
    return f"results are in the topics {url.topic}-… of {url.brokers}"


def about_malformed(output: str) -> list[str]:
    """A line for the report about records that could not be read, with the first of them; no line if all could."""
    bad = read_jsonl(f"{output}/{MALFORMED}")
    if not bad:
        return []
    where = ", ".join(filter(None, (bad[0]["split"], bad[0]["position"])))
    return [f"{len(bad):,} records could not be read ({output}/{MALFORMED}); the first: {where}: {bad[0]['reason']}"]


def check_setting(name: str, value: float, least: float, most: float = math.inf) -> None:
    """Checks a number that has limits.

    Raises:
        UsageError: it isn't from `least` to `most`.
    """
    if not least <= value <= most:
        limits = f"{least:.9g} or more" if most == math.inf else f"from {least:.9g} to {most:.9g}"
        raise UsageError(f"the setting {name} can't be {value:g}", hint=f"it is {limits}")


def _url(address: str) -> KafkaUrl:
    from streamcore.connectors.kafka.url import parse_url  # with it comes a client of Kafka, which not every run needs

    return parse_url(address)


def _topic(address: str, name: str, key: str | None) -> Sink[Any]:
    from streamcore.connectors.kafka.sink import KafkaSink

    url = _url(address)
    options = dict(url.options)
    if "prefix" in options:
        options["prefix"] += f"-{name}"
    url = dataclasses.replace(url, topics=(f"{url.topic}-{name}",), options=options)
    return KafkaSink.from_url(url, key=key, partitions=12)
