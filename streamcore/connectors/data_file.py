"""A data file as a source, whatever it is: CSV, JSON lines or Parquet, by its name; columns and types as they are."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from streamcore.batch import Field, Schema
from streamcore.connectors.base import Source
from streamcore.connectors.csv_records import CsvRecords
from streamcore.connectors.csv_source import CsvSource
from streamcore.connectors.json_source import JsonLinesSource
from streamcore.connectors.parquet_source import ParquetSource
from streamcore.connectors.parts import open_file
from streamcore.connectors.paths import expand
from streamcore.errors import ConnectorError, UsageError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
_HEAD_BYTES = 4 << 20
_AS_THEY_ARE = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)


def open_data_file(path: str, columns: Sequence[str] | None = None) -> Source[Any]:
    """The records of one file: columns from CSV (`.csv`, `.tsv`) and Parquet (`.parquet`), dictionaries from JSON
    lines (`.jsonl`, `.ndjson`, `.json`); `.gz` may follow, but after `.parquet`.

    In CSV, a column is of numbers or booleans if it has nothing else in the file's first 4 MiB, and else of text;
    so times stay as they are written.

    Args:
        columns: the names of a CSV file's columns where it has no header.

    Raises:
        ConnectorError: the file isn't there, or can't be read.
        UsageError: the name doesn't say what the file is, or `columns` are given and it isn't CSV.
    """
    found = expand(path)
    if found != [path]:
        raise UsageError(f"{path} stands for {len(found)} files; one is wanted")
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    if suffix in _DELIMITERS:
        names, schema = _csv_columns(path, _DELIMITERS[suffix], columns)
        return CsvSource(path, schema, header=columns is None, columns=names, delimiter=_DELIMITERS[suffix])
    if columns is not None:
        raise UsageError(f"{path} is no CSV file: its columns have names", hint="leave out the names of columns")
    if suffix in _JSON:
        return JsonLinesSource(path)
    if suffix == ".parquet" and path.lower().endswith(suffix):
        return ParquetSource(path)
    known = ", ".join([*_DELIMITERS, *_JSON, ".parquet"])
    raise UsageError(
        f"the name of {path} doesn't say what is in it", hint=f"known are {known}; all but the last with .gz"
    )


def _csv_columns(path: str, delimiter: str, columns: Sequence[str] | None) -> tuple[list[str], Schema]:
    try:
        with open_file(path) as file:
            head = file.read(_HEAD_BYTES)
        text = head.decode("utf-8-sig", "replace")
        names = list(columns or next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), []))
        if not names:
            raise ConnectorError(f"{path} is empty", hint="its first line has the names of the columns")
        table = _read(head[: CsvRecords(delimiter).end(head)] or head, delimiter, names, has_header=columns is None)
    except (OSError, EOFError, pa.ArrowInvalid) as error:
        raise ConnectorError(f"{path} can't be read as CSV: {error}") from error
    return names, Schema(tuple(_field(name, column.type) for name, column in zip(names, table.columns, strict=True)))


def _read(head: bytes, delimiter: str, names: list[str], *, has_header: bool) -> pa.Table:
    return pacsv.read_csv(
        pa.BufferReader(head),
        pacsv.ReadOptions(
            column_names=names, skip_rows_after_names=int(has_header), use_threads=False, block_size=len(head) + 1
        ),
        pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=lambda row: "skip"),
        pacsv.ConvertOptions(null_values=[""]),
    )


def _field(name: str, type_: pa.DataType) -> Field:
    # a number may be missing further down; empty text is text
    return Field(name, type_, nullable=True) if any(is_(type_) for is_ in _AS_THEY_ARE) else Field(name, pa.string())
