"""The lines of text files as a source of `str` rows, or of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import Columns, Schema
from streamcore.connectors.base import ReaderContext, Split, SplitReader
from streamcore.connectors.blocks import BLOCK_BYTES, Block, BlockReader, Malformed, Parsed, ReadSettings, lines_end
from streamcore.connectors.parts import part_of
from streamcore.connectors.paths import FileSource, PathsLike, check_on_error
from streamcore.errors import UsageError


class TextSource(FileSource[Any]):
    """The lines of text files without their ends (LF or CRLF), blank ones too: `str` rows, or with `column` columns.

    Args:
        paths: a path, a glob, a directory, or several of them; plain or gzip files.
        encoding: of the files; one in which a line feed is the byte 10, as in all but UTF-16 and UTF-32.
        column: makes the stream a typed one, with the line as its one field of that name; no `str` is made then.
        on_error: what becomes of a line that isn't in the encoding: `fail`, `skip` (counted) or `side_output`.
        splits: about how many parts each file is cut into, to be read at the same time. Only within a part are
            records in order, so event time needs its watermarks per split, and the order of a key's records is
            kept only if they are in one part. A gzip file stays one part.

    Raises:
        UsageError: the encoding is unknown or can't be cut at line ends, or an option is wrong.
    """

    def __init__(
        self,
        paths: PathsLike,
        encoding: str = "utf-8",
        *,
        column: str | None = None,
        on_error: str = "fail",
        splits: int = 1,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        super().__init__(paths, splits)
        self.schema = None if column is None else Schema.of(**{column: str})
        try:
            usable = "a\n".encode(encoding)[-2:] == b"a\n"
        except LookupError:
            raise UsageError(f"the encoding {encoding!r} is unknown") from None
        if not usable:
            raise UsageError(f"lines can't be read in {encoding}", hint="convert the files to UTF-8")
        self.encoding = encoding
        self.on_error = check_on_error(on_error)
        self.block_bytes = block_bytes

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader of one part; its offset is `[block position, lines done, line]`.

        Raises:
            ConnectorError: the file can't be read.
        """
        settings = ReadSettings(lines_end, self.on_error, self.block_bytes)
        return _TextReader(self.encoding, self.schema, part_of(split), offset, context, settings)


class _TextReader(BlockReader):
    def __init__(self, encoding: str, schema: Schema | None, *args: Any) -> None:
        super().__init__(*args)
        self._encoding = encoding
        self._schema = schema

    def parse(self, block: Block) -> Parsed:
        data = block.data if block.is_tail else block.data[:-1]
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
            # of the last line the line feed is gone already
            data = data if block.is_tail else data.removesuffix(b"\r")
        try:
            text = data.decode(self._encoding)
        except UnicodeDecodeError:
            return self._parse_each(data.split(b"\n"), block.line)
        if self._schema is None:
            return Parsed(text.split("\n"))
        return Parsed(_columns(text.encode(), self._schema))

    def _parse_each(self, lines: list[bytes], first_line: int) -> Parsed:
        rows: list[Any] = []
        bad: list[Malformed] = []
        for index, line in enumerate(lines):
            try:
                rows.append(line.decode(self._encoding))
            except UnicodeDecodeError:
                bad.append(Malformed(index, first_line + index, f"not {self._encoding}", line))
        if self._schema is None:
            return Parsed(rows, bad)
        return Parsed(Columns(self._schema, {self._schema.names[0]: pa.array(rows, pa.string())}), bad)


def _columns(data: bytes, schema: Schema) -> Columns:
    """The lines of UTF-8 text as one column: the text without its line feeds, and where each line begins."""
    content = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(content == ord("\n"))
    offsets = np.zeros(len(ends) + 2, np.int32)
    offsets[1:-1] = ends - np.arange(len(ends))
    offsets[-1] = len(content) - len(ends)
    lines = pa.StringArray.from_buffers(
        len(ends) + 1, pa.py_buffer(offsets), pa.py_buffer(content[content != ord("\n")])
    )
    return Columns(schema, {schema.names[0]: lines})
