"""What a fetch of a partition holds, unpacked lazily: batch by batch, and only the parts of messages that are wanted.

aiokafka's consumer makes a Python object of every message, which takes most of its time; here a value is taken straight
from the record batch (aiokafka's compiled parser), four times as fast.
"""

from __future__ import annotations

import dataclasses
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords

from streamcore.connectors.kafka.message import KafkaMessage

_BATCH_HEADER = struct.Struct(">qiibIhi")  # base offset, length, leader epoch, magic, CRC, attributes, last delta
_LENGTH_BYTES = 12


@dataclasses.dataclass(slots=True)
class Chunk:
    """Messages of one partition, in order. Each list has one entry a message, or none at all where not wanted."""

    fetched: Fetched
    offsets: Sequence[int]
    values: list[bytes | None]
    keys: list[bytes | None] = dataclasses.field(default_factory=list)
    times_ms: list[int] = dataclasses.field(default_factory=list)
    headers: list[tuple[tuple[str, bytes | None], ...]] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.offsets)

    def message(self, index: int) -> KafkaMessage:
        """All of one message, whatever was wanted."""
        return self.fetched.message(self.offsets[index])

    def messages(self) -> list[KafkaMessage]:
        """All messages; everything has to be wanted."""
        topic, partition = self.fetched.topic, self.fetched.partition
        parts = zip(self.offsets, self.times_ms, self.keys, self.values, self.headers, strict=True)
        return [KafkaMessage(topic, partition, *part) for part in parts]

    def part(self, start: int, stop: int) -> Chunk:
        """The messages from `start` up to, not including, `stop`."""
        if start == 0 and stop >= len(self):
            return self
        lists = (self.values, self.keys, self.times_ms, self.headers)
        return Chunk(self.fetched, self.offsets[start:stop], *(part[start:stop] for part in lists))  # type: ignore[arg-type]

    def pick(self, indices: Sequence[int]) -> Chunk:
        """The messages at these places."""
        lists = (self.offsets, self.values, self.keys, self.times_ms, self.headers)
        return Chunk(self.fetched, *([part[i] for i in indices] if part else [] for part in lists))  # type: ignore[arg-type]

    def extend(self, other: Chunk) -> None:
        """Adds messages that come after these."""
        mine, others = self.offsets, other.offsets
        if isinstance(mine, range) and isinstance(others, range) and mine.stop == others.start:
            self.offsets = range(mine.start, others.stop)
        else:
            self.offsets = [*mine, *others]
        self.values += other.values
        self.keys += other.keys
        self.times_ms += other.times_ms
        self.headers += other.headers


class Fetched:
    """The answer to one fetch of one partition.

    Args:
        position: the offset that was asked for; batches may begin before it.
        data: record batches; the last one may be cut off.
        aborted: (producer id, first offset) of the aborted transactions in it; their messages are left out. Empty
            unless the fetch was `read_committed`.
        wants: which lists a chunk is to have beside the values: `keys`, `times_ms`, `headers`.
        check_crcs: whether checksums are verified.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        position: int,
        data: bytes,
        aborted: Sequence[tuple[int, int]] = (),
        wants: frozenset[str] = frozenset(),
        *,
        check_crcs: bool = True,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.position = position
        """The offset after the messages taken so far, also over those that are left out."""
        self.size_bytes = len(data)
        self._data = data
        self._records = MemoryRecords(data)
        self._aborted = sorted(aborted, key=lambda entry: entry[1])
        self._aborted_producers: set[int] = set()
        self._wants = wants
        self._check_crcs = check_crcs
        self._rest: Chunk | None = None
        self._reread: dict[int, Any] = {}

    @property
    def is_done(self) -> bool:
        """Whether all messages have been taken."""
        return self._rest is None and not self._records.has_next()

    def take(self, limit: int, stop: int | None = None) -> Chunk | None:
        """The next messages, at most `limit`, with offsets before `stop`; None when there are none.

        Raises:
            CorruptRecordException: a checksum is wrong.
            UnsupportedCodecError: the compression isn't installed.
        """
        taken: Chunk | None = None
        while taken is None or len(taken) < limit:
            if self._rest is None:
                self._rest = self._unpack_next()
            chunk = self._rest
            if chunk is None:
                break
            if stop is not None and chunk.offsets[-1] >= stop:
                chunk = self._rest = chunk.part(0, bisect_left(chunk.offsets, stop))
                if not len(chunk):
                    self.position = max(self.position, stop)
                    break
            room = limit - (0 if taken is None else len(taken))
            part = chunk.part(0, room)
            self._rest = chunk.part(room, len(chunk)) if len(chunk) > room else None
            self.position = part.offsets[-1] + 1
            if taken is None:
                taken = part
            else:
                taken.extend(part)
        if self._rest is None:
            self._skip_unseen()
            if stop is not None:
                self.position = min(self.position, stop)
        return taken

    def message(self, offset: int) -> KafkaMessage:
        """The message with that offset, read anew."""
        if offset not in self._reread:
            records = MemoryRecords(self._data)
            while (batch := records.next_batch()) is not None:
                if batch.base_offset <= offset < batch.next_offset and not batch.is_control_batch:
                    self._reread = {record.offset: record for record in batch}
                    break
        record = self._reread[offset]
        return KafkaMessage(
            self.topic, self.partition, offset, record.timestamp, record.key, record.value, tuple(record.headers)
        )

    def _unpack_next(self) -> Chunk | None:
        for batch in self._kept_batches():
            first, end = batch.base_offset, batch.next_offset
            if end <= self.position:
                continue
            chunk = self._unpack(batch, first, end)
            chunk = chunk.part(bisect_left(chunk.offsets, self.position), len(chunk))
            if len(chunk):
                return chunk
            self.position = end  # compaction has left nothing of it
        return None

    def _unpack(self, batch: Any, first: int, end: int) -> Chunk:
        if self._wants:
            records = list(batch)
            chunk = Chunk(self, [r.offset for r in records], [r.value for r in records])
            if "keys" in self._wants:
                chunk.keys = [r.key for r in records]
            if "times_ms" in self._wants:
                chunk.times_ms = [r.timestamp for r in records]
            if "headers" in self._wants:
                chunk.headers = [tuple(r.headers) for r in records]
            return chunk
        values = [record.value for record in batch]
        if len(values) == end - first:
            return Chunk(self, range(first, end), values)
        return Chunk(self, self._offsets_of(first), values)

    def _offsets_of(self, first: int) -> list[int]:
        """The offsets in a batch that compaction has made holes in."""
        records = MemoryRecords(self._data)
        while (batch := records.next_batch()) is not None:
            if batch.base_offset == first:
                return [record.offset for record in batch]
        raise AssertionError("a batch that was there is gone")

    def _kept_batches(self) -> Iterator[Any]:
        """The batches that hold messages of no aborted transaction."""
        while self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"a batch at offset {batch.base_offset} has a wrong checksum")
            producer = batch.producer_id
            if producer is not None:
                while self._aborted and self._aborted[0][1] <= batch.base_offset:
                    self._aborted_producers.add(self._aborted.pop(0)[0])
            if batch.is_control_batch:
                record = next(iter(batch), None)
                if record is not None and ControlRecord.parse(record.key) == ABORT_MARKER:
                    self._aborted_producers.discard(producer)
            elif not (batch.is_transactional and producer in self._aborted_producers):
                yield batch
                continue
            self.position = max(self.position, batch.next_offset)

    def _skip_unseen(self) -> None:
        """Moves over markers, and what is left out, right behind what was taken: a bounded reader is to see the end."""
        self._rest = self._unpack_next()
        if self._rest is None:
            self.position = max(self.position, end_of(self._data, self.position))


def end_of(data: bytes, position: int) -> int:
    """The offset after the last whole batch in the data; `position` if there is none."""
    at, end = 0, position
    while at + _LENGTH_BYTES <= len(data):
        length = int.from_bytes(data[at + 8 : at + _LENGTH_BYTES], "big")
        if at + _LENGTH_BYTES + length > len(data):
            break
        base, _, _, magic, _, _, last_delta = _BATCH_HEADER.unpack_from(data, at)
        end = max(end, base + (last_delta + 1 if magic >= 2 else 1))
        at += _LENGTH_BYTES + length
    return end
