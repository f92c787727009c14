"""What is made of messages: the interface of formats, and the two that decode nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from streamcore.batch import Batch, Schema
from streamcore.connectors.kafka.chunks import Chunk
from streamcore.connectors.kafka.message import KafkaMessage

T_co = TypeVar("T_co", covariant=True)

EVERYTHING = frozenset({"keys", "times_ms", "headers"})


class Decoded(NamedTuple):
    """The records of a chunk, and the messages that are none: (index in the chunk, why)."""

    batch: Batch
    bad: list[tuple[int, str]]


Decoder = Callable[[Chunk], Decoded]


class Format(ABC, Generic[T_co]):
    """What is made of messages. Instances are sent to the workers.

    Attributes:
        schema: the columns of a typed format; None for rows.
        wants: what is needed of messages beside their values: `keys`, `times_ms`, `headers`.
    """

    schema: Schema | None = None
    wants: frozenset[str] = frozenset()

    @abstractmethod
    def decoder(self) -> Decoder:
        """A decoder for one reader."""


class Raw(Format[bytes | None]):
    """The values as they are: `bytes` rows; None for a message without one (a tombstone)."""

    def decoder(self) -> Decoder:
        """Hands out the values."""
        return lambda chunk: Decoded(chunk.values, [])


class Messages(Format[KafkaMessage]):
    """Whole messages, undecoded, as `KafkaMessage` rows."""

    wants = EVERYTHING

    def decoder(self) -> Decoder:
        """Makes messages."""
        return lambda chunk: Decoded(chunk.messages(), [])
