"""What a writer of the Kafka sink has to know."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from streamcore.connectors.kafka.batches import Partitioner
from streamcore.connectors.kafka.connection import Brokers
from streamcore.connectors.kafka.encode import Encoder


@dataclasses.dataclass(frozen=True, slots=True)
class WriterSettings:
    """Plain data, made by `KafkaSink` for its writers.

    Attributes:
        topic: the one topic; None if a function says each record's.
        linger_s: how long a batch may wait for more records when nothing else is on its way, seconds.
        buffer_bytes: how much may be unacknowledged before the stream has to wait.
        producer: options of aiokafka's producer.
        prefix: of the transactional ids.
        is_lenient: lost transactions are logged, they don't fail the job.
    """

    brokers: Brokers
    encoder: Encoder
    topic: str | None
    partitioner: Partitioner
    linger_s: float
    buffer_bytes: int
    producer: Mapping[str, Any]
    prefix: str = ""
    transaction_timeout_ms: int = 0
    is_lenient: bool = False
