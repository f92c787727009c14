"""CSV files as a typed source.

A block goes through pyarrow's parser as a whole. Only when that fails, or a number is missing, is the block
looked at record by record: first for a wrong number of fields, then column by column for values that are
not of the column's type, each distinct value once.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from streamcore.batch import Columns, Field, Schema, schema_of
from streamcore.connectors.base import ReaderContext, Split, SplitReader
from streamcore.connectors.blocks import (
    BLOCK_BYTES,
    UTF8_BOM,
    Block,
    BlockReader,
    Blocks,
    CsvRecords,
    Malformed,
    Parsed,
    ReadSettings,
    shorten,
)
from streamcore.connectors.paths import FileSource, PathsLike, check_on_error
from streamcore.errors import ConnectorError, TopologyError, UsageError

_HEADER_BYTES = 1 << 16


class CsvSource(FileSource[Any]):
    """The records of CSV files as columns; one split per file.

    Args:
        paths: a path, a glob, a directory, or several of them; plain or gzip files.
        schema: a dataclass, a NamedTuple, a `Schema` or a `pyarrow.Schema`. An empty field is None in a
            nullable column, "" in a column of strings, and else malformed.
        header: whether the first record of each file has the column names.
        columns: the names of the file's columns in order; they replace its header. Without them and
            without a header the file has exactly the schema's columns in the schema's order.
        rename: names in the file -> names in the schema, where they differ.
        on_error: what becomes of a malformed record: `fail`, `skip` (counted) or `side_output`.

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
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        super().__init__(paths)
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
        """A reader of one file; its offset is `[block position, records done, line]`.

        Raises:
            ConnectorError: the file can't be read or lacks a column; the message has the columns there are.
        """
        records = CsvRecords(self.delimiter)
        names, start = self._layout(split.id, records)
        if names is not None and (missing := [name for name in self.wanted if name not in names]):
            raise ConnectorError(
                f"{split.id} has no column {', '.join(map(repr, missing))}",
                hint=f"its columns are: {', '.join(names)}; rename={{name in the file: field}} maps names",
            )
        # an empty file has no header and no records either; any layout does
        names = self.wanted if names is None else names
        if twice := [name for name in self.wanted if names.count(name) > 1]:
            raise ConnectorError(f"{split.id} has two columns named {twice[0]!r}", hint="name them by columns=[…]")
        parser = CsvParser(self.schema, self.wanted, names, self.delimiter, records)
        settings = ReadSettings(records.end, self.on_error, self.block_bytes)
        return _CsvReader(parser, split.id, start if offset is None else offset, context, settings)

    def _layout(self, path: str, records: CsvRecords) -> tuple[list[str] | None, list[int]]:
        """The file's column names (None: it is empty) and the offset at which its records start."""
        if not self.header:
            return self.columns or self.wanted, [0, 0, 1]
        blocks = Blocks(path, records.end, block_bytes=_HEADER_BYTES)
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


class CsvParser:
    """Parses blocks of a file whose columns are `names`; `wanted` are the names of the schema's fields there."""

    def __init__(
        self, schema: Schema, wanted: Sequence[str], names: Sequence[str], delimiter: str, records: CsvRecords
    ) -> None:
        self._schema = schema
        self._wanted = wanted
        self._records = records
        self._delimiter = delimiter
        # columns are known by number, since two of them may have one name
        self._keys = [str(i) for i in range(len(names))]
        self._used = [self._keys[names.index(name)] for name in wanted]
        self._types = {key: field.type for key, field in zip(self._used, schema.fields, strict=True)}

    def parse(self, block: Block) -> Parsed:
        """The records of a block."""
        # only in the file's last bytes can a quote be open: other blocks end where a record ends
        if not (block.is_tail and b'"' in block.data):
            with contextlib.suppress(pa.ArrowInvalid):
                return Parsed(self._convert(block.data))
        spans, open_at = self._records.spans(block.data)
        texts = [block.data[start:stop] for start, stop in spans]
        reasons = self._find_bad(texts)
        columns = self._convert(b"\n".join(text for i, text in enumerate(texts) if i not in reasons))
        if open_at < len(block.data):
            reasons[len(texts)] = "a quote is never closed"
            spans.append((open_at, len(block.data)))
        bad: list[Malformed] = []
        line, counted = block.line, 0
        for i in sorted(reasons):
            start, stop = spans[i]
            line, counted = line + block.data.count(b"\n", counted, start), start
            bad.append(Malformed(i, line, reasons[i], block.data[start:stop]))
        return Parsed(columns, bad)

    def _convert(self, data: bytes) -> Columns:
        """The records of `data`; raises ArrowInvalid when one of them is malformed."""
        table = self._read(data, self._keys, self._types)
        arrays = []
        for key, field in zip(self._used, self._schema.fields, strict=True):
            array = table.column(key).combine_chunks()
            if array.null_count and not field.nullable:
                if _empty_value(field.type) is None:
                    raise pa.ArrowInvalid(f"{field} is empty")
                array = array.fill_null(_empty_value(field.type))
            arrays.append(array)
        return Columns.from_arrow(pa.RecordBatch.from_arrays(arrays, list(self._schema.names)), self._schema)

    def _read(self, data: bytes, keys: list[str], types: Mapping[str, pa.DataType], on_invalid: Any = None) -> pa.Table:
        if not data or data.startswith(UTF8_BOM):
            # the parser refuses empty input, and would take U+FEFF at a block's start for a mark
            data = b"\n" + data
        return pacsv.read_csv(
            pa.BufferReader(data),
            pacsv.ReadOptions(use_threads=False, column_names=keys, block_size=len(data) + 1),
            pacsv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=on_invalid),
            pacsv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _find_bad(self, texts: list[bytes]) -> dict[int, str]:
        """The records that are malformed, by number, and why."""
        reasons: dict[int, str] = {}

        def wrong_count(row: pacsv.InvalidRow) -> str:
            reasons[row.number - 1] = f"{row.actual_columns} fields instead of {row.expected_columns}"
            return "skip"

        raw = self._read(b"\n".join(texts), self._keys, dict.fromkeys(self._used, pa.binary()), wrong_count)
        rest = [i for i in range(len(texts)) if i not in reasons]
        for key, name, field in zip(self._used, self._wanted, self._schema.fields, strict=True):
            values = raw.column(key).combine_chunks().fill_null(b"").dictionary_encode()
            bad = self._find_bad_values(values.dictionary.to_pylist(), field)
            for place, code in enumerate(values.indices.to_pylist() if bad else ()):
                if code in bad:
                    reasons.setdefault(rest[place], f"column {name!r} {bad[code]}")
        rest = [i for i in rest if i not in reasons]
        # what looks right value by value but isn't, such as "" in quotes in a nullable column of numbers
        for i in _failing(rest, lambda some: self._convert(b"\n".join(texts[i] for i in some))):
            reasons[i] = f"a field is not as the schema has it, {self._schema}"
        return reasons

    def _find_bad_values(self, values: list[bytes], field: Field) -> dict[int, str]:
        """Which of the distinct values can't be in the column, by number, and why."""
        bad: dict[int, str] = {}
        doubtful: list[int] = []
        sure, possible = _patterns(field.type)
        for i, value in enumerate(values):
            if not value:
                if not field.nullable and _empty_value(field.type) is None:
                    bad[i] = "is empty"
            elif not sure.fullmatch(value):
                if possible.fullmatch(value):
                    doubtful.append(i)
                else:
                    bad[i] = _is_not(value, field.type)

        def read(some: list[int]) -> None:
            quoted = [b'"' + values[i].replace(b'"', b'""') + b'"' for i in some]
            self._read(b"\n".join(quoted), ["value"], {"value": field.type})

        bad.update((i, _is_not(values[i], field.type)) for i in _failing(doubtful, read))
        return bad


def _is_not(value: bytes, type_: pa.DataType) -> str:
    return f"is {shorten(value, 60)!r}, not {'UTF-8' if pa.types.is_string(type_) else type_}"


def _failing(items: list[int], read: Callable[[list[int]], object]) -> list[int]:
    """The items that `read` raises ArrowInvalid for, found by halving."""
    if not items:
        return []
    try:
        read(items)
    except pa.ArrowInvalid:
        if len(items) == 1:
            return items
        middle = len(items) // 2
        return _failing(items[:middle], read) + _failing(items[middle:], read)
    return []


def _empty_value(type_: pa.DataType) -> str | bytes | None:
    """What an empty field is in a column that can't be null; None where it is malformed."""
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return ""
    return b"" if pa.types.is_binary(type_) or pa.types.is_large_binary(type_) else None


@functools.cache
def _patterns(type_: pa.DataType) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """What is surely a value of the type, and what may be one: a parser call per value is far slower."""
    if pa.types.is_integer(type_):
        sign = b"-?" if pa.types.is_signed_integer(type_) else b""
        digits = {8: 2, 16: 4, 32: 9, 64: 18}[type_.bit_width]
        return re.compile(rb"%b\d{1,%d}" % (sign, digits)), re.compile(rb"[ \t]*-?(0[xX])?[0-9a-fA-F]+[ \t]*")
    if pa.types.is_floating(type_):
        return re.compile(rb"-?\d{1,15}(\.\d{1,15})?"), re.compile(rb"[ \t]*[-+.\diInN].*", re.DOTALL)
    if _empty_value(type_) is not None:
        return re.compile(rb"[\x00-\x7f]*"), re.compile(rb".*", re.DOTALL)
    return re.compile(rb"(?!)"), re.compile(rb".*", re.DOTALL)


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
