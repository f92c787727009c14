"""CSV files as a typed source."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from streamcore.batch import Schema, schema_of
from streamcore.connectors.base import ReaderContext, Split, SplitReader
from streamcore.connectors.blocks import BLOCK_BYTES, Block, BlockReader, Blocks, Parsed, ReadSettings
from streamcore.connectors.csv_parser import CsvParser
from streamcore.connectors.csv_records import CsvRecords
from streamcore.connectors.parts import Part, file_size, part_of, targets
from streamcore.connectors.paths import FileSource, PathsLike, check_on_error
from streamcore.errors import ConnectorError, TopologyError, UsageError

_HEADER_BYTES = 1 << 16


class CsvSource(FileSource[Any]):
    """The records of CSV files as columns.

    Args:
        paths: a path, a glob, a directory, or several of them; plain or gzip files.
        schema: a dataclass, a NamedTuple, a `Schema` or a `pyarrow.Schema`. An empty field is None in a
            nullable column, "" in a column of strings, and else malformed.
        header: whether the first record of each file has the column names.
        columns: the names of the file's columns in order; they replace its header. Without them and
            without a header the file has exactly the schema's columns in the schema's order.
        rename: names in the file -> names in the schema, where they differ.
        on_error: what becomes of a malformed record: `fail`, `skip` (counted) or `side_output`.
        splits: about how many parts each file is cut into, to be read at the same time. Only within a part are
            records in order, so event time needs its watermarks per split, and the order of a key's records is
            kept only if they are in one part. To know which line ends are inside quotes, a file is scanned
            from its start once when the job starts. A gzip file stays one part.

    Raises:
        TopologyError: the schema has a type that CSV can't have.
        UsageError: an option is wrong.
    """

    def __init__(
        self,
        paths: PathsLike,
        schema: Any,
        *,
        header: bool = True,
        delimiter: str = ",",
        on_error: str = "fail",
        columns: Sequence[str] | None = None,
        rename: Mapping[str, str] | None = None,
        splits: int = 1,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        super().__init__(paths, splits)
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
            raise UsageError(f"the delimiter {delimiter!r} is not one ASCII character that can separate fields")
        self.schema: Schema = _checked_schema(schema)
        self.header = header
        self.delimiter = delimiter
        self.on_error = check_on_error(on_error)
        self.columns = None if columns is None else list(columns)
        self.block_bytes = block_bytes
        named = {field: name for name, field in (rename or {}).items()}
        if unknown := sorted(named.keys() - set(self.schema.names)):
            raise UsageError(f"rename= names no field of the schema: {', '.join(unknown)}", hint=f"{self.schema}")
        self.wanted = [named.get(name, name) for name in self.schema.names]

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader of one part; its offset is `[block position, records done, line]`.

        Raises:
            ConnectorError: the file can't be read or lacks a column; the message has the columns there are.
        """
        records = CsvRecords(self.delimiter)
        part = part_of(split)
        names, start = self._layout(part.path, records)
        if names is not None and (missing := [name for name in self.wanted if name not in names]):
            raise ConnectorError(
                f"{part.path} has no column {', '.join(map(repr, missing))}",
                hint=f"its columns are: {', '.join(names)}; rename={{name in the file: field}} maps names",
            )
        # an empty file has no header and no records either; any layout does
        names = self.wanted if names is None else names
        if twice := [name for name in self.wanted if names.count(name) > 1]:
            raise ConnectorError(f"{part.path} has two columns named {twice[0]!r}", hint="name them by columns=[…]")
        parser = CsvParser(self.schema, self.wanted, names, self.delimiter, records)
        settings = ReadSettings(records.end, self.on_error, self.block_bytes)
        if offset is None and not part.start:
            offset = start
        return _CsvReader(parser, part, offset, context, settings)

    def edges(self, path: str) -> list[int]:
        """Where the file is cut: at the ends of records, but never between its header and its first record."""
        size = file_size(path)
        if size is None:
            return []
        records = CsvRecords(self.delimiter)
        _, (start, _, _) = self._layout(path, records)
        edges = [0]
        missing = targets(start, size, self.split_count)
        blocks = Blocks(Part(path, 0, size), records.end, start)
        try:
            while missing and (block := blocks.next()) is not None:
                while missing and missing[0] < block.position + len(block.data):
                    before = block.data[: max(missing.pop(0) - block.position, 0)]
                    edge = block.position + records.end(before)
                    if edge > max(start, edges[-1]):
                        edges.append(edge)
        finally:
            blocks.close()
        return [*edges, size]

    def _layout(self, path: str, records: CsvRecords) -> tuple[list[str] | None, list[int]]:
        """The file's column names (None: it is empty) and the offset at which its records start."""
        if not self.header:
            return self.columns or self.wanted, [0, 0, 1]
        blocks = Blocks(Part(path), records.end, block_bytes=_HEADER_BYTES)
        try:
            while (block := blocks.next()) is not None:
                spans, _ = records.spans(block.data)
                if spans:
                    stop = spans[1][0] if len(spans) > 1 else len(block.data)
                    text = block.data[slice(*spans[0])].decode()
                    names = next(csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter))
                    line = block.line + block.data.count(b"\n", 0, stop)
                    return self.columns or names, [block.position + stop, 0, line]
        except UnicodeDecodeError:
            raise ConnectorError(f"{path}: the header is not UTF-8", hint="convert the file to UTF-8") from None
        finally:
            blocks.close()
        return None, [0, 0, 1]


class _CsvReader(BlockReader):
    def __init__(self, parser: CsvParser, *args: Any) -> None:
        super().__init__(*args)
        self._parser = parser

    def parse(self, block: Block) -> Parsed:
        return self._parser.parse(block)


def _checked_schema(declared: Any) -> Schema:
    schema = schema_of(declared)
    if schema is None or not schema.fields:
        raise TopologyError(f"{declared!r} has no columns", hint="give a dataclass, a NamedTuple or a schema")
    for field in schema.fields:
        try:
            options = pacsv.ConvertOptions(column_types={"value": field.type})
            pacsv.read_csv(pa.BufferReader(b"value\n"), convert_options=options)
        except pa.ArrowNotImplementedError:
            raise TopologyError(f"field {field} can't be read from CSV", hint="read text and convert it") from None
    return schema
