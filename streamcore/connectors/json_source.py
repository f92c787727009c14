"""JSON lines: files with one JSON value a line as a source of rows, and batches written so."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec
import numpy as np
import pyarrow as pa

from streamcore.batch import Batch, Columns, Schema, schema_of
from streamcore.connectors.base import ReaderContext, Split, SplitReader
from streamcore.connectors.blocks import (
    BLOCK_BYTES,
    Block,
    BlockReader,
    Malformed,
    Parsed,
    ReadSettings,
    lines_end,
    shorten,
)
from streamcore.connectors.parts import part_of
from streamcore.connectors.paths import FileSource, PathsLike, check_on_error
from streamcore.errors import BadRecordError, UsageError


class JsonLinesSource(FileSource[Any]):
    """The values of JSON-lines files, in rows. Blank lines are left out.

    Args:
        paths: a path, a glob, a directory, or several of them; plain or gzip files.
        type: a dataclass, a NamedTuple, a msgspec Struct or any other type that msgspec decodes; values
            that aren't of it are malformed. Objects become dicts when None.
        on_error: what becomes of a malformed record: `fail`, `skip` (counted) or `side_output`.
        splits: about how many parts each file is cut into, to be read at the same time. Only within a part are
            records in order, so event time needs its watermarks per split, and the order of a key's records is
            kept only if they are in one part. A gzip file stays one part.

    Raises:
        UsageError: the type can't be decoded from JSON, or an option is wrong.
    """

    def __init__(
        self,
        paths: PathsLike,
        type: Any = None,  # noqa: A002 - the usual name
        on_error: str = "fail",
        *,
        splits: int = 1,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        super().__init__(paths, splits)
        if isinstance(type, Schema | pa.Schema):
            raise UsageError("JSON rows need a type, not a schema", hint="give a dataclass or a NamedTuple")
        row_decoder(type)
        self.type = type
        self.schema = schema_of(type)
        self.on_error = check_on_error(on_error)
        self.block_bytes = block_bytes

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader of one part; its offset is `[block position, records done, line]`.

        Raises:
            ConnectorError: the file can't be read.
        """
        settings = ReadSettings(lines_end, self.on_error, self.block_bytes)
        return _JsonReader(row_decoder(self.type), part_of(split), offset, context, settings)


class _JsonReader(BlockReader):
    def __init__(self, decode: Callable[[bytes], Any], *args: Any) -> None:
        super().__init__(*args)
        self._decode = decode

    def parse(self, block: Block) -> Parsed:
        # line by line: msgspec's own `decode_lines` takes values that span lines
        lines = block.data.split(b"\n")
        try:
            return Parsed(list(map(self._decode, [line for line in lines if line and not line.isspace()])))
        except (ValueError, RecursionError):
            return self._parse_each(lines, block.line)

    def _parse_each(self, lines: list[bytes], first_line: int) -> Parsed:
        rows: list[Any] = []
        bad: list[Malformed] = []
        for number, line in enumerate(lines, first_line):
            if not line or line.isspace():
                continue
            try:
                rows.append(self._decode(line))
            except (ValueError, RecursionError) as error:
                bad.append(Malformed(len(rows) + len(bad), number, why_malformed(error), line.strip()))
        return Parsed(rows, bad)


def why_malformed(error: Exception) -> str:
    """What is wrong with a record, from what its decoder raised."""
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def row_decoder(declared: Any) -> Callable[[bytes], Any]:
    """Decodes one line; raises ValueError (all of msgspec's errors are) when it is malformed."""
    named_tuple: Any = declared
    try:
        if not (isinstance(declared, type) and issubclass(declared, tuple) and hasattr(declared, "_fields")):
            return msgspec.json.Decoder(Any if declared is None else declared, dec_hook=_decode_numpy).decode
        # msgspec reads a NamedTuple from an array, but in files its rows are objects
        defaults = named_tuple._field_defaults
        fields: list[Any] = [
            (name, hint, defaults[name]) if name in defaults else (name, hint)
            for name, hint in get_type_hints(declared, include_extras=True).items()
        ]
        decode = msgspec.json.Decoder(msgspec.defstruct(declared.__name__, fields), dec_hook=_decode_numpy).decode
    except (TypeError, NameError) as error:
        raise UsageError(f"{declared!r} can't be read from JSON: {error}") from error
    make = named_tuple._make
    return lambda line: make(msgspec.structs.astuple(decode(line)))


def _decode_numpy(wanted: Any, value: Any) -> Any:
    if wanted is np.ndarray and isinstance(value, list):
        return np.asarray(value)
    if isinstance(wanted, type) and issubclass(wanted, np.generic) and isinstance(value, int | float):
        try:
            return wanted(value)
        except OverflowError as error:
            raise ValueError(str(error)) from None
    raise TypeError(f"Expected `{getattr(wanted, '__name__', wanted)}`, got {value!r}")


def encode_json_lines(batch: Batch) -> bytes:
    """The batch as JSON lines: records with fields as objects, any other value as it is.

    Raises:
        BadRecordError: a record has no JSON form.
    """
    if isinstance(batch, Columns):
        return _encode_columns(batch)
    # msgspec would write a NamedTuple as an array
    rows = [row._asdict() if isinstance(row, tuple) and hasattr(row, "_asdict") else row for row in batch]
    try:
        return _ENCODER.encode_lines(rows)
    except _NO_JSON:
        for row in rows:
            try:
                _ENCODER.encode(row)
            except _NO_JSON as error:
                text = shorten(repr(row).encode("utf-8", "backslashreplace"))
                raise BadRecordError(f"a record can't be written as JSON: {error}: {text}") from error
        raise


def _encode_columns(columns: Columns) -> bytes:
    names = columns.schema.names
    arrays = columns.arrays.values()
    values = [array.tolist() if isinstance(array, np.ndarray) else array.to_pylist() for array in arrays]
    if all(name.isidentifier() for name in names):
        return _ENCODER.encode_lines(list(map(_struct(names), *values)))
    return _ENCODER.encode_lines([dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)])


@functools.cache
def _struct(names: tuple[str, ...]) -> Any:
    """A struct of these fields: encoding a list of them is several times faster than one of dicts."""
    return msgspec.defstruct("Record", names)


def _encode_numpy(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} has no JSON form")


_NO_JSON = (TypeError, ValueError, OverflowError, RecursionError)
_ENCODER = msgspec.json.Encoder(enc_hook=_encode_numpy)
