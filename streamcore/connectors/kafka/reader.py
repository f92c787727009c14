"""Reads one partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamcore.batch import Batch
from streamcore.connectors.base import ReaderContext, SplitReader
from streamcore.connectors.blocks import shorten
from streamcore.connectors.kafka.chunks import Chunk
from streamcore.connectors.kafka.client import KafkaClient
from streamcore.connectors.kafka.connection import explain
from streamcore.connectors.kafka.message import BadMessage
from streamcore.connectors.kafka.positions import Range, split_id
from streamcore.errors import BadRecordError

if TYPE_CHECKING:
    from streamcore.connectors.kafka.source import KafkaSource


class KafkaReader(SplitReader):
    """One partition. Its offset is `(next offset to read, offset to stop before or None)`; the first is negative until
    it is known where the partition begins."""

    def __init__(
        self, source: KafkaSource[Any], name: TopicPartition, where: Range, client: KafkaClient, context: ReaderContext
    ) -> None:
        self.offset = where.plain()
        self._source = source
        self._name = name
        self._stop = where.stop
        self._client = client
        self._context = context
        self._decode = source.format.decoder()
        self._partition = client.partition(name, where.start)

    def poll(self, limit: int) -> Batch | None:
        """The next messages that can be read.

        Raises:
            BadRecordError: one can't be, and the policy is `fail`.
            ConnectorError: the partition can't be read on.
        """
        batch: Batch | None = None
        partition, limit = self._partition, min(limit, self._source.max_poll)
        while not batch and not self.exhausted:
            try:
                chunk = partition.take(limit, self._stop)
            except KafkaError as error:
                raise explain(error, self._source.brokers, f"can't read {split_id(self._name)}") from error
            batch = self._read(chunk) if chunk is not None else None
            position = partition.position
            self.offset = (position, self._stop)
            self.exhausted = self._stop is not None and position >= self._stop
            if chunk is None:
                break
        return batch

    def committed(self, offset: Any) -> None:
        """Tells the group."""
        self._client.commit(self._name, offset[0])

    def close(self) -> None:
        """Ends the fetches of this partition."""
        self._client.leave(self._name)

    def _read(self, chunk: Chunk) -> Batch:
        decoded = self._decode(chunk)
        for index, reason in decoded.bad:
            self._report(chunk, index, reason)
        return decoded.batch

    def _report(self, chunk: Chunk, index: int, reason: str) -> None:
        message = chunk.message(index)
        text = shorten(message.value or b"")
        if self._source.on_error == "fail":
            where = f"topic {message.topic!r}, partition {message.partition}, offset {message.offset}"
            raise BadRecordError(f"{where}: {reason}: {text!r}", hint="on_error='side_output' keeps what can't be read")
        position = f"offset {message.offset}"
        self._context.report_bad(BadMessage(text, reason, split_id(self._name), position, message))
