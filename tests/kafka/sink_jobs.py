"""Topologies that write to Kafka, for `streamcore run`."""

from streamcore import StreamEnvironment
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.connectors.kafka import KafkaSink

KEYS = 50


def numbered(start: int, stop: int) -> list[dict[str, int]]:
    """Records whose numbers per key go up by one."""
    return [{"key": number % KEYS, "number": number // KEYS} for number in range(start, stop)]


def count(
    env: StreamEnvironment,
    *,
    servers: str,
    topic: str,
    records: int,
    rate: float,
    delivery: str = "exactly-once",
    prefix: str = "count",
) -> None:
    numbers = env.source(GeneratorSource(numbered, records, rate=rate)).uid("numbers")
    sink = KafkaSink(servers, topic, key=_key, delivery=delivery, prefix=prefix)  # type: ignore[arg-type]
    numbers.key_by(lambda record: record["key"]).map(dict).uid("copies").sink(sink).uid("sink")


def _key(record: dict[str, int]) -> str:
    return str(record["key"])
