"""The queue of a feedback channel: never refuses an element, spills to disk past a bound.

A loop is free of deadlock only if a send on a back edge never blocks (see `semantics` of asynchronous
barrier snapshots on cyclic graphs: holding a feedback channel during alignment is safe only then), so this
bound on memory is kept by the disk, not by the sender.
"""

from __future__ import annotations

import pickle
import struct
from collections import deque
from collections.abc import Iterable
from typing import BinaryIO

from streamcore.batch import Schema
from streamcore.batch.wire import WireDecoder, WireEncoder
from streamcore.runtime.elements import BATCHES, Element
from streamcore.runtime.services import Services

_FRAME = struct.Struct("<BQ")
_CONTROL = 0


class FeedbackQueue:
    """First in, first out. Once elements are on disk, later ones follow them there until it is read empty."""

    def __init__(self, services: Services, schema: Schema | None, memory_records: int) -> None:
        self._services = services
        self._encoder, self._decoder = WireEncoder(schema), WireDecoder(schema)
        self._memory_records = memory_records
        self._memory: deque[Element] = deque()
        self._in_memory = 0
        self._file: BinaryIO | None = None
        self._on_disk = 0
        self._read_at = 0
        self._write_at = 0
        self.records = 0
        self.spilled_records = 0

    def __len__(self) -> int:
        return len(self._memory) + self._on_disk

    def append(self, element: Element) -> None:
        """Adds an element at the end."""
        size = _size(element)
        self.records += size
        if self._on_disk or (self._in_memory + size > self._memory_records and self._memory):
            self._spill(element)
            self.spilled_records += size
        else:
            self._memory.append(element)
            self._in_memory += size

    def popleft(self) -> Element:
        """Takes the first element.

        Raises:
            IndexError: the queue is empty.
        """
        if self._memory:
            element = self._memory.popleft()
            self._in_memory -= _size(element)
        elif self._on_disk:
            element = self._unspill()
        else:
            raise IndexError("the feedback queue is empty")
        self.records -= _size(element)
        return element

    @property
    def in_memory(self) -> Iterable[Element]:
        """The first elements, up to those on disk."""
        return self._memory

    @property
    def on_disk(self) -> int:
        """How many elements lie on disk, behind those in memory."""
        return self._on_disk

    def peek(self) -> Element | None:
        """The first element if it is in memory."""
        return self._memory[0] if self._memory else None

    def close(self) -> None:
        """Frees the spill file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _spill(self, element: Element) -> None:
        if self._file is None:
            self._file = self._services.scratch_file()
        kind, body = (
            self._encoder.encode(element) if isinstance(element, BATCHES) else (_CONTROL, pickle.dumps(element))
        )
        self._file.seek(self._write_at)
        self._file.write(_FRAME.pack(kind, len(body)))
        self._file.write(body)
        self._write_at = self._file.tell()
        self._on_disk += 1

    def _unspill(self) -> Element:
        assert self._file is not None, "elements on disk without a file"
        self._file.seek(self._read_at)
        kind, size = _FRAME.unpack(self._file.read(_FRAME.size))
        body = self._file.read(size)
        self._read_at = self._file.tell()
        self._on_disk -= 1
        if self._on_disk == 0:
            self._file.truncate(0)
            self._read_at = self._write_at = 0
        if kind == _CONTROL:
            control: Element = pickle.loads(body)  # noqa: S301 - this process wrote it to a nameless file
            return control
        return self._decoder.decode(kind, body)


def _size(element: Element) -> int:
    return len(element) if isinstance(element, BATCHES) else 0
