"""Local files in blocks that end where a record ends, and a reader that hands their records out.

A position is a number of bytes in the *decompressed* file. The offset of a reader is
`[position of a block, records of it that are done, line number of the block's first line]`: records are
counted with malformed ones in, so that a restored reader reports none of them twice. Where the blocks end
depends on the block size, but what an offset means doesn't. In a part that begins in the middle of its file
lines are counted from there; how many are before it is found when a message needs the number.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
import zlib
from abc import abstractmethod
from collections.abc import Callable

import numpy as np

from streamcore.batch import Batch, slice_batch
from streamcore.connectors.base import BadRecord, ReaderContext, SplitReader
from streamcore.connectors.parts import Part, open_file
from streamcore.connectors.paths import OnError
from streamcore.errors import BadRecordError, ConnectorError

BLOCK_BYTES = 1 << 17
"""Fits a core's cache with what is made of it, and is below the size at which `malloc` asks the system for
fresh pages each time, which would take longer than reading the file."""
MAX_RECORD_BYTES = 256 << 20
UTF8_BOM = b"\xef\xbb\xbf"

FindEnd = Callable[[bytes], int]
"""Where the last complete record of some bytes ends (0: none does); the bytes begin with a record."""


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Whole records. `line`: of the first byte, from 1, counted in the part; `line_feeds`: how many `data` has;
    `is_tail`: the file's last bytes, which no newline ends."""

    data: bytes
    position: int
    line: int
    line_feeds: int
    is_tail: bool


class Blocks:
    """The blocks of a part of a plain file, or of a whole gzip file, from `position` on.

    Args:
        position: in the file; the start of a record.
        line: its number, counted from the part's start, which is in line 1.

    Raises:
        ConnectorError: the file can't be opened, or is shorter than `position`.
    """

    def __init__(
        self, part: Part, find_end: FindEnd, position: int = 0, line: int = 1, block_bytes: int = BLOCK_BYTES
    ) -> None:
        self.path = part.path
        self.position = position
        self.line = line
        self._part = part
        self._find_end = find_end
        self._block_bytes = block_bytes
        self._rest, self._at = b"", 0
        self._lines_before: int | None = None if part.start else 0
        self._file = open_file(part.path)
        self._seek(position)

    def next(self) -> Block | None:
        """The next block, None at the end of the part.

        Raises:
            ConnectorError: the file is truncated or damaged, or can't be read.
            BadRecordError: a record is longer than `MAX_RECORD_BYTES`.
        """
        data = self._rest
        while True:
            # a record longer than a block is looked for in twice as much each time, so the time stays linear
            more = self._read(max(self._block_bytes, len(data), len(UTF8_BOM)))
            if self.position == 0 and not data:
                more = self._without_bom(more)
            if not more:
                self._check_end()
                self._rest = b""
                return self._block(data, is_tail=True) if data else None
            data = data + more if data else more
            if end := self._find_end(data):
                self._keep_rest(data, end)
                return self._block(data[:end], is_tail=False)
            if len(data) > MAX_RECORD_BYTES:
                line = self.line_in_file(self.line)
                what = f"{self.path}, line {line}: a record of more than {MAX_RECORD_BYTES >> 20} MiB begins here"
                raise BadRecordError(what, hint="is a quote never closed, or are there no newlines?")

    def line_in_file(self, line: int) -> int:
        """The number in the file of a line of the part. What is before the part is read once, when first asked."""
        if self._lines_before is None:
            self._lines_before = 0
            with open_file(self.path) as file:
                left = self._part.start
                while left and (data := file.read(min(BLOCK_BYTES, left))):
                    self._lines_before += _count_lines(data)
                    left -= len(data)
        return self._lines_before + line

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _block(self, data: bytes, *, is_tail: bool) -> Block:
        block = Block(data, self.position, self.line, _count_lines(data), is_tail)
        self.position += len(data)
        self.line += block.line_feeds
        return block

    def _keep_rest(self, data: bytes, end: int) -> None:
        if isinstance(self._file, gzip.GzipFile):
            self._rest = data[end:]
        elif end < len(data):
            # reading the start of a record again is cheaper than joining it to a block
            self._rest = b""
            self._at = self._file.seek(end - len(data), os.SEEK_CUR)
        else:
            self._rest = b""

    def _without_bom(self, data: bytes) -> bytes:
        if not data.startswith(UTF8_BOM):
            return data
        self.position = len(UTF8_BOM)
        return data[self.position :] or self._read(self._block_bytes)

    def _read(self, size: int) -> bytes:
        if self._part.stop is not None:
            size = min(size, self._part.stop - self._at)
        try:
            data = self._file.read(size) if size > 0 else b""
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            what = "is truncated" if isinstance(error, EOFError) else "is damaged or not gzip"
            where = f"after byte {self._at} of its decompressed content"
            raise ConnectorError(f"{self.path} {what} {where}: {error}", hint="write the file again") from error
        except OSError as error:
            raise ConnectorError(f"can't read {self.path} at byte {self._at}: {error.strerror or error}") from error
        self._at += len(data)
        return data

    def _seek(self, position: int) -> None:
        if not isinstance(self._file, gzip.GzipFile):
            self._at = self._file.seek(min(position, os.fstat(self._file.fileno()).st_size))
        while self._at < position and self._read(min(BLOCK_BYTES, position - self._at)):
            pass
        if self._at < position:
            self.close()
            what = f"{self.path} has {self._at} bytes, but was read up to byte {position} before the restart"
            raise ConnectorError(what, hint="put the file back as it was, or start the job without restoring")

    def _check_end(self) -> None:
        if self._part.stop is not None and self._at < self._part.stop:
            what = f"{self.path} has {self._at} bytes now, {self._part.stop} when it was cut into parts"
            raise ConnectorError(what, hint="files must not shrink while they are read")


def _count_lines(data: bytes) -> int:
    # `bytes.count` takes up to 30 times as long when lines are short
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n")))


@dataclasses.dataclass(frozen=True, slots=True)
class Malformed:
    """A record that can't be used. `index`: its number in the block, counted over good and bad records."""

    index: int
    line: int
    reason: str
    text: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Parsed:
    """The records of a block: the good ones as a batch, the malformed ones in order."""

    batch: Batch
    bad: list[Malformed] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class ReadSettings:
    """How a source reads its files."""

    find_end: FindEnd
    on_error: OnError
    block_bytes: int = BLOCK_BYTES


class BlockReader(SplitReader):
    """Hands out the records of a file block by block; a subclass says how a block is parsed.

    `offset`: see the module's docstring.
    """

    def __init__(self, part: Part, offset: list[int] | None, context: ReaderContext, settings: ReadSettings) -> None:
        self.offset = list(offset or (part.start, 0, 1))
        position, self._done, line = self.offset
        self._blocks = Blocks(part, settings.find_end, position, line, settings.block_bytes)
        self._context = context
        self._on_error = settings.on_error
        self._parsed: Parsed | None = None
        self._place = [position, line]
        self._bad_done = 0

    @abstractmethod
    def parse(self, block: Block) -> Parsed:
        """The records of a block."""

    def poll(self, limit: int) -> Batch | None:
        """The next records.

        Raises:
            BadRecordError: a record is malformed and the policy is `fail`.
            ConnectorError: the file is truncated or can't be read.
        """
        self.wake_at = None
        if self._parsed is None:
            block = self._blocks.next()
            if block is None:
                self.exhausted = True
                return None
            self._place = [block.position, block.line]
            self._parsed = self.parse(block)
            self._bad_done = sum(bad.index < self._done for bad in self._parsed.bad)
        batch = self._hand_out(self._parsed, limit)
        if len(batch) == 0:
            # a block of nothing but malformed or blank lines: let other tasks run, then go on
            self.wake_at = self._context.now()
        return batch

    def close(self) -> None:
        """Closes the file."""
        self._blocks.close()

    def _hand_out(self, parsed: Parsed, limit: int) -> Batch:
        count = len(parsed.batch) + len(parsed.bad)
        start = min(self._done - self._bad_done, len(parsed.batch))
        stop = min(start + limit, len(parsed.batch))
        while self._bad_done < len(parsed.bad) and parsed.bad[self._bad_done].index - self._bad_done <= stop:
            self._report(parsed.bad[self._bad_done])
            self._bad_done += 1
        skipped = max(self._done - count, 0)
        self._done = stop + self._bad_done
        if self._done == count:
            # `skipped`: a restored offset that reaches beyond this block, which was read in larger blocks before
            self._parsed, self._done, self._place = None, skipped, [self._blocks.position, self._blocks.line]
        self.offset = [self._place[0], self._done, self._place[1]]
        return slice_batch(parsed.batch, start, stop)

    def _report(self, bad: Malformed) -> None:
        text = shorten(bad.text)
        line = self._blocks.line_in_file(bad.line)
        if self._on_error == "fail":
            raise BadRecordError(
                f"{self._blocks.path}, line {line}: {bad.reason}: {text!r}",
                hint='on_error="skip" leaves malformed records out, on_error="side_output" sends them elsewhere',
            )
        self._context.report_bad(BadRecord(text, bad.reason, self._blocks.path, f"line {line}"))


def shorten(text: bytes, limit: int = 200) -> str:
    """The text for a message: decoded, at most `limit` bytes of it."""
    shown = text[:limit].decode("utf-8", "backslashreplace")
    return shown if len(text) <= limit else shown + "…"


def lines_end(data: bytes) -> int:
    """A `FindEnd` for records that are lines."""
    return data.rfind(b"\n") + 1
