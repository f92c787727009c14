"""The compiled parser for plain CSV: integers, decimals and strings without quotes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import Columns, Field, Schema
from streamcore.kernels.csv_fields import (
    DECIMAL,
    INTEGER,
    NATURAL,
    SKIP,
    TEXT,
    TEXT_OR_EMPTY,
    parse_fields,
    parse_lines,
)


class FieldParser:
    """Parses blocks whose every value has the usual form, several times as fast as a general parser.

    Any other block it leaves to the general one, so what is read is the same to the bit.
    """

    def __init__(self, schema: Schema, columns: Sequence[int], kinds: Sequence[int], delimiter: str) -> None:
        self._schema = schema
        self._kinds = np.array(kinds, np.int64)
        self._places = np.zeros(len(kinds), np.int64)
        for same in ([INTEGER, NATURAL], [DECIMAL], [TEXT, TEXT_OR_EMPTY]):
            found = np.flatnonzero(np.isin(self._kinds, same))
            self._places[found] = np.arange(len(found))
        self._columns = list(columns)
        self._delimiter = delimiter.encode()

    @staticmethod
    def make(schema: Schema, columns: Sequence[int], width: int, delimiter: str) -> FieldParser | None:
        """A parser for files with `width` columns, of which the schema's fields are those numbered `columns`;
        None if one is of another type, or the delimiter can be in a number."""
        kinds = [SKIP] * width
        for column, field in zip(columns, schema.fields, strict=True):
            kinds[column] = _kind(field)
        is_plain = not (delimiter.isdigit() or delimiter in ".-")
        if kinds.count(SKIP) > width - len(columns) or not is_plain:
            return None
        return FieldParser(schema, columns, kinds, delimiter)

    def parse(self, data: bytes, line_feeds: int) -> Columns | None:
        """The records of bytes that end in a line feed; None if they are left to a general parser."""
        assert data.endswith(b"\n"), "the compiled parser reads up to a line feed"
        if b'"' in data:
            return None
        content = np.frombuffer(data, np.uint8)
        kinds = self._kinds
        integers = np.empty((np.count_nonzero((kinds == INTEGER) | (kinds == NATURAL)), line_feeds), np.int64)
        decimals = np.empty((np.count_nonzero(kinds == DECIMAL), line_feeds), np.float64)
        offsets = np.empty((np.count_nonzero(kinds >= TEXT), line_feeds + 1), np.int32)
        texts = np.empty((len(offsets), len(data)), np.uint8)
        if len(kinds) == len(texts) == 1:
            if b"\r" in data or self._delimiter in data:
                return None
            count, combined = parse_lines(content, offsets[0], texts[0])
        else:
            count, combined = parse_fields(
                content, self._delimiter[0], kinds, self._places, integers, decimals, offsets, texts
            )
        if count < 0:
            return None
        arrays: dict[str, Any] = {}
        for column, field in zip(self._columns, self._schema.fields, strict=True):
            place = self._places[column]
            if kinds[column] >= TEXT:
                array = _strings(offsets[place, : count + 1], texts[place], check=combined >= 0x80)
            else:
                array = _numbers((decimals if kinds[column] == DECIMAL else integers)[place, :count], field)
            if array is None:
                return None
            arrays[field.name] = array
        return Columns(self._schema, arrays)


def _kind(field: Field) -> int:
    if pa.types.is_integer(field.type):
        return INTEGER if pa.types.is_signed_integer(field.type) else NATURAL
    if pa.types.is_float64(field.type):
        return DECIMAL
    if pa.types.is_string(field.type):
        return TEXT if field.nullable else TEXT_OR_EMPTY
    return SKIP


def _numbers(values: Any, field: Field) -> Any:
    dtype = field.type.to_pandas_dtype()
    if values.dtype != dtype:
        bounds = np.iinfo(dtype)
        if len(values) and (values.min() < bounds.min or values.max() > bounds.max):
            return None
        values = values.astype(dtype)
    return values if field.dtype is not None else pa.array(values, field.type)


def _strings(offsets: Any, texts: Any, *, check: bool) -> pa.Array | None:
    """The strings; None if they are not UTF-8, which `check` says they may not be."""
    used = texts[: offsets[-1]].copy()
    array = pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(used))
    if check:
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            return None
    return array
