"""Parquet files as a source of columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamcore.batch import Batch, Columns, Field, Schema, schema_of
from streamcore.connectors.base import ReaderContext, Split, SplitReader
from streamcore.connectors.parts import Part, part_of, targets
from streamcore.connectors.paths import FileSource, PathsLike, expand
from streamcore.errors import BadRecordError, ConnectorError, TopologyError

_READ_ROWS = 32_768
_DICTIONARY_BYTES = 3.5
"""A column of text with at most so many bytes a value is in dictionary form: written out, each takes 4 and more."""


class ParquetSource(FileSource[Any]):
    """The rows of Parquet files as columns. Text that is dictionary-encoded in a file stays so.

    Args:
        paths: a path, a glob, a directory, or several of them.
        schema: a dataclass, a NamedTuple, a `Schema` or a `pyarrow.Schema`; when None that of the files,
            where a column of numbers is nullable only if one of the files has a null in it.
        columns: the columns to read, in order, when the schema comes from the files.
        splits: about how many parts each file is cut into, to be read at the same time; never within a row
            group. Only within a part are rows in order, so event time needs its watermarks per split, and the
            order of a key's rows is kept only if they are in one part.

    Raises:
        ConnectorError: a file isn't there or isn't Parquet, or a column isn't in it.
        TopologyError: `schema` has no columns.
        UsageError: `splits` is less than 1.
    """

    def __init__(
        self, paths: PathsLike, schema: Any = None, columns: Sequence[str] | None = None, *, splits: int = 1
    ) -> None:
        super().__init__(paths, splits)
        found = _schema_of_files(expand(self.paths), columns) if schema is None else schema_of(schema)
        if found is None or not found.fields:
            raise TopologyError(f"{schema!r} has no columns to read", hint="give a dataclass, a NamedTuple or a schema")
        self.schema: Schema = found if columns is None else found.select(_checked(columns, found.names, "the schema"))

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader of one part; its offset is `[row group, rows of it done]`.

        Raises:
            ConnectorError: the file can't be read, isn't Parquet, or lacks a column.
        """
        return _ParquetReader(part_of(split), self.schema, offset)

    def edges(self, path: str) -> list[int]:
        """The row groups at which parts of about as many rows each begin, and the number of row groups."""
        with _open(path) as file:
            metadata = file.metadata
            ends = np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])
        begin = np.searchsorted(ends, targets(0, metadata.num_rows, self.split_count), side="right")
        return list(dict.fromkeys([0, *begin.tolist(), len(ends)]))


class _ParquetReader(SplitReader):
    def __init__(self, part: Part, schema: Schema, offset: Any) -> None:
        self._path = part.path
        self._schema = schema
        self._group, self._row = (part.start, 0) if offset is None else (int(offset[0]), int(offset[1]))
        self._file = _open_with_dictionaries(part.path, schema)
        _checked(schema.names, self._file.schema_arrow.names, part.path)
        there = self._file.num_row_groups
        self._stop = there if part.stop is None else part.stop
        if self._stop > there:
            what = f"{part.path} has {there} row groups now, {self._stop} or more when it was cut into parts"
            raise ConnectorError(what, hint="files must not change while they are read")
        self._parts = self._read_group(self._row)
        self._part: Columns | None = None
        self._part_done = 0
        self.offset = [self._group, self._row]

    def poll(self, limit: int) -> Batch | None:
        """The next rows.

        Raises:
            BadRecordError: a value is missing or not of the schema's type.
            ConnectorError: the file is damaged.
        """
        while self._part is None and self._group < self._stop:
            self._part, self._part_done = next(self._parts, None), 0
            if self._part is None:
                self._next_group()
        if self._part is None:
            self.exhausted = True
            return None
        stop = min(self._part_done + limit, len(self._part))
        batch = self._part.slice(self._part_done, stop)
        self._row += stop - self._part_done
        self._part_done = stop
        if stop == len(self._part):
            self._part = None
            if self._row == self._file.metadata.row_group(self._group).num_rows:
                self._next_group()
        self.offset = [self._group, self._row]
        return batch

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _next_group(self) -> None:
        self._group, self._row = self._group + 1, 0
        self._parts = self._read_group(0)

    def _read_group(self, skip: int) -> Iterator[Columns]:
        """The rows of the current row group after the first `skip`, some at a time."""
        group, row = self._group, 0
        names = list(self._schema.names)
        try:
            for batch in self._file.iter_batches(_READ_ROWS, [group], names, use_threads=False):
                if row + batch.num_rows > skip:
                    start = max(skip - row, 0)
                    yield self._columns(batch.slice(start), row + start)
                row += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            raise ConnectorError(f"{self._path}, row group {group}: the file is damaged: {error}") from error

    def _columns(self, batch: pa.RecordBatch, row: int) -> Columns:
        arrays = []
        place = f"{self._path}, row group {self._group}"
        for field in self._schema.fields:
            array = batch.column(field.name)
            try:
                array = array if _is_of(array.type, field.type) else array.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise BadRecordError(
                    f"{place}, from row {row}: column {field.name!r} is {array.type}, not {field.type}: {error}"
                ) from error
            if array.null_count and not field.nullable:
                at = pc.index(array.is_null(), True).as_py()
                raise BadRecordError(
                    f"{place}, row {row + at}: column {field.name!r} has no value",
                    hint="make the field nullable: X | None",
                )
            arrays.append(array)
        return Columns.from_arrow(pa.RecordBatch.from_arrays(arrays, list(self._schema.names)), self._schema)


def _is_of(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether an array is of the field's type, be it dictionary-encoded text."""
    return bool(found == wanted or (wanted == pa.string() and found == pa.dictionary(pa.int32(), wanted)))


def _open_with_dictionaries(path: str, schema: Schema) -> pq.ParquetFile:
    """The file, opened to read the schema's columns of text as dictionaries where the file has them so throughout.

    Making a dictionary while reading would take ten times as long as reading the values; not writing one out
    takes a third of it.
    """
    file = _open(path)
    metadata, types = file.metadata, file.schema_arrow
    texts = {field.name for field in schema.fields if field.type == pa.string()} & set(types.names)
    small = {name for name in texts if types.field(name).type in (pa.string(), pa.large_string())}
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        chunks = map(row_group.column, range(metadata.num_columns) if small else ())
        small -= {c.path_in_schema for c in chunks if c.total_uncompressed_size > _DICTIONARY_BYTES * c.num_values}
    if not small:
        return file
    file.close()
    return _open(path, metadata, sorted(small))


def _open(path: str, metadata: pq.FileMetaData | None = None, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, metadata=metadata, read_dictionary=list(dictionaries))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        hint = "it may be truncated (a Parquet file's index is at its end), or of another format"
        raise ConnectorError(f"{path} is not a complete Parquet file: {error}", hint=hint) from error
    except OSError as error:
        raise ConnectorError(f"can't read {path}: {error}") from error


def _checked(wanted: Sequence[str], there: Sequence[str], where: str) -> Sequence[str]:
    if missing := [name for name in wanted if name not in there]:
        raise ConnectorError(
            f"{where} has no column {', '.join(map(repr, missing))}", hint=f"its columns are: {', '.join(there)}"
        )
    return wanted


def _schema_of_files(paths: Sequence[str], columns: Sequence[str] | None) -> Schema:
    fields: dict[str, pa.Field] = {}
    with_nulls: set[str] = set()
    for path in paths:
        with _open(path) as file:
            found = file.schema_arrow
            for name in _checked(columns or list(fields) or found.names, found.names, path):
                fields.setdefault(name, found.field(name))
            with_nulls |= _columns_with_nulls(file)
    return Schema(tuple(_field(field, field.name in with_nulls) for field in fields.values()))


def _field(found: pa.Field, has_nulls: bool) -> Field:
    type_ = found.type.value_type if pa.types.is_dictionary(found.type) else found.type
    is_number = pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_boolean(type_)
    # most files call every column nullable; without nulls, numbers travel in the faster form
    return Field(found.name, type_, has_nulls if is_number else found.nullable)


def _columns_with_nulls(file: pq.ParquetFile) -> set[str]:
    """The columns that have a null, or may have one because the file doesn't count them."""
    names: set[str] = set()
    for index in range(file.metadata.num_columns):
        column = file.schema.column(index)
        for group in range(file.metadata.num_row_groups if column.max_definition_level else 0):
            counts = file.metadata.row_group(group).column(index).statistics
            if counts is None or not counts.has_null_count or counts.null_count:
                names.add(column.path)
    return names
