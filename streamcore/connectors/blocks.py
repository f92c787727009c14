"""Local files in blocks that end where a record ends, and a reader that hands their records out.

A position is a number of bytes in the *decompressed* file. The offset of a reader is
`[position of a block, records of it that are done, line number of the block's first line]`: records are
counted with malformed ones in, so that a restored reader reports none of them twice. Where the blocks end
depends on the block size, but what an offset means doesn't.
"""

from __future__ import annotations

import dataclasses
import gzip
import re
import zlib
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from streamcore.batch import Batch, slice_batch
from streamcore.connectors.base import BadRecord, ReaderContext, SplitReader
from streamcore.connectors.paths import OnError
from streamcore.errors import BadRecordError, ConnectorError

BLOCK_BYTES = 1 << 20
MAX_RECORD_BYTES = 256 << 20
UTF8_BOM = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"

FindEnd = Callable[[bytes], int]
"""Where the last complete record of some bytes ends (0: none does); the bytes begin with a record."""


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Whole records. `line`: of the first byte, from 1; `is_tail`: the file's last bytes, which no newline ends."""

    data: bytes
    position: int
    line: int
    is_tail: bool


class Blocks:
    """The blocks of a plain or gzip file from `position` on, which must be the start of a record.

    Raises:
        ConnectorError: the file can't be opened, or is shorter than `position`.
    """

    def __init__(
        self, path: str, find_end: FindEnd, position: int = 0, line: int = 1, block_bytes: int = BLOCK_BYTES
    ) -> None:
        self.path = path
        self.position = position
        self.line = line
        self._find_end = find_end
        self._block_bytes = block_bytes
        self._rest, self._at = b"", 0
        self._file = self._open()
        self._seek(position)

    def next(self) -> Block | None:
        """The next block, None at the end of the file.

        Raises:
            ConnectorError: the file is truncated or damaged, or can't be read.
            BadRecordError: a record is longer than `MAX_RECORD_BYTES`.
        """
        data = self._rest
        while True:
            # a record longer than a block is looked for in twice as much each time, so the time stays linear
            more = self._read(max(self._block_bytes, len(data)))
            if self.position == 0 and not data:
                more = self._without_bom(more)
            if not more:
                self._rest = b""
                return self._block(data, is_tail=True) if data else None
            data += more
            if end := self._find_end(data):
                self._rest = data[end:]
                return self._block(data[:end], is_tail=False)
            if len(data) > MAX_RECORD_BYTES:
                what = f"{self.path}, line {self.line}: a record of more than {MAX_RECORD_BYTES >> 20} MiB begins here"
                raise BadRecordError(what, hint="is a quote never closed, or are there no newlines?")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _block(self, data: bytes, *, is_tail: bool) -> Block:
        block = Block(data, self.position, self.line, is_tail)
        self.position += len(data)
        self.line += data.count(b"\n")
        return block

    def _without_bom(self, data: bytes) -> bytes:
        if not data.startswith(UTF8_BOM):
            return data
        self.position = len(UTF8_BOM)
        return data[self.position :] or self._read(self._block_bytes)

    def _open(self) -> IO[bytes]:
        try:
            with Path(self.path).open("rb") as file:
                magic = file.read(2)
            if magic == _GZIP_MAGIC or (magic and self.path.endswith(".gz")):
                return cast("IO[bytes]", gzip.open(self.path, "rb"))
            return Path(self.path).open("rb", buffering=0)
        except OSError as error:
            raise ConnectorError(f"can't read {self.path}: {error.strerror or error}") from error

    def _read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
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
            self._at = self._file.seek(min(position, Path(self.path).stat().st_size))
        while self._at < position and self._read(min(BLOCK_BYTES, position - self._at)):
            pass
        if self._at < position:
            self.close()
            what = f"{self.path} has {self._at} bytes, but was read up to byte {position} before the restart"
            raise ConnectorError(what, hint="put the file back as it was, or start the job without restoring")


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

    def __init__(self, path: str, offset: list[int] | None, context: ReaderContext, settings: ReadSettings) -> None:
        self.offset = list(offset or (0, 0, 1))
        position, self._done, line = self.offset
        self._blocks = Blocks(path, settings.find_end, position, line, settings.block_bytes)
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
        if self._on_error == "fail":
            raise BadRecordError(
                f"{self._blocks.path}, line {bad.line}: {bad.reason}: {text!r}",
                hint='on_error="skip" leaves malformed records out, on_error="side_output" sends them elsewhere',
            )
        self._context.report_bad(BadRecord(text, bad.reason, self._blocks.path, f"line {bad.line}"))


def shorten(text: bytes, limit: int = 200) -> str:
    """The text for a message: decoded, at most `limit` bytes of it."""
    shown = text[:limit].decode("utf-8", "backslashreplace")
    return shown if len(text) <= limit else shown + "…"


def lines_end(data: bytes) -> int:
    """A `FindEnd` for records that are lines."""
    return data.rfind(b"\n") + 1


class CsvRecords:
    """Where CSV records end: at a line end outside quotes. A quote opens only as the first byte of a field."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = ord(delimiter)
        d = re.escape(delimiter.encode())
        field = rb'(?:"[^"]*+(?:""[^"]*+)*"(?!")[^%b\r\n]*+|[^"%b\r\n][^%b\r\n]*+)?' % (d, d, d)
        self._record = re.compile(rb"(%b(?:%b%b)*)(\r\n|\r|\n|\Z)" % (field, d, field))

    def end(self, data: bytes) -> int:
        """Where the last complete record of `data` ends; 0 when none does."""
        end = data.rfind(b"\n") + 1
        if b'"' not in data[:end]:
            return end
        quotes = self._plain_quotes(data)
        if quotes is None:
            return self._end_by_records(data)
        while end and (before := int(np.searchsorted(quotes, end))) % 2:
            end = data.rfind(b"\n", 0, int(quotes[before - 1])) + 1
        return end

    def spans(self, data: bytes) -> tuple[list[tuple[int, int]], int]:
        """Start and end (line end left out) of each record that isn't a blank line, and where a record
        with a quote that is never closed begins: the length of `data` when there is none."""
        spans: list[tuple[int, int]] = []
        position = 0
        while position < len(data) and (match := self._record.match(data, position)):
            if match.end(1) > position:
                spans.append(match.span(1))
            position = match.end()
        return spans, position

    def _plain_quotes(self, data: bytes) -> npt.NDArray[np.int64] | None:
        """The places of all quotes if each one that is in turn to open a field does (or is the second of a
        doubled quote), so that counting is enough; else None."""
        content = np.frombuffer(data, np.uint8)
        quotes = np.flatnonzero(content == ord('"'))
        before = content[(quotes[2::2] if quotes[0] == 0 else quotes[::2]) - 1]
        opens = (before == self._delimiter) | (before == ord("\n")) | (before == ord("\r")) | (before == ord('"'))
        return quotes if opens.all() else None

    def _end_by_records(self, data: bytes) -> int:
        end = position = 0
        while position < len(data) and (match := self._record.match(data, position)):
            position = match.end()
            if match[2].endswith(b"\n"):
                end = position
        return end
