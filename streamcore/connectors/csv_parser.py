"""Blocks of CSV records as columns.

A block goes through the compiled parser (`csv_fields.py`) or pyarrow's as a whole. Only when that fails, or a
number is missing, is the block looked at record by record: first for a wrong number of fields, then column by
column for values that are not of the column's type, each distinct value once.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from streamcore.batch import Columns, Field, Schema
from streamcore.connectors.blocks import UTF8_BOM, Block, Malformed, Parsed, shorten
from streamcore.connectors.csv_fields import FieldParser
from streamcore.connectors.csv_records import CsvRecords


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
        self._fields = FieldParser.make(schema, [names.index(name) for name in wanted], len(names), delimiter)

    def parse(self, block: Block) -> Parsed:
        """The records of a block."""
        if self._fields and not block.is_tail:
            columns = self._fields.parse(block.data, block.line_feeds)
            if columns is not None:
                return Parsed(columns)
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
