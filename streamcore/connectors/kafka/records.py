"""Formats whose values are decoded one by one into objects with fields, and the columns made of such objects."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from streamcore.batch import Array, Batch, Columns, Field, Schema
from streamcore.connectors.kafka.chunks import Chunk
from streamcore.connectors.kafka.extras import Extras
from streamcore.connectors.kafka.formats import Decoded, Decoder, Format
from streamcore.errors import UsageError

T_co = TypeVar("T_co", covariant=True)

_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "fiu"}
"""Kinds of NumPy dtypes whose values a column of a kind takes."""

_MALFORMED = (ValueError, TypeError, OverflowError, RecursionError)  # Arrow's and msgspec's errors are among them


class RecordFormat(Format[T_co]):
    """A format whose messages have fields.

    Args:
        schema: the columns to make; None for rows.
        key: the field that gets the message's key: text in UTF-8 for a field of `str`, the text of a number for one of
            `int` or `float`, the bytes for one of `bytes`.
        timestamp: the field that gets the message's timestamp, in ms since the epoch.
        headers: for a field, the name of the header whose value it gets (read as a key is).
    """

    in_mapping = False
    """Whether decoded values are mappings; otherwise their fields are attributes."""
    checks = True
    """Whether columns have to check that values are of their kind; otherwise the value decoder has."""

    def __init__(
        self, schema: Schema | None, key: str | None, timestamp: str | None, headers: Mapping[str, str] | None
    ) -> None:
        self.schema = schema
        self.extras = Extras(key, timestamp, dict(headers or {}))
        self.wants = self.extras.wants
        self.extras.readers(schema)

    @abstractmethod
    def value_decoder(self) -> Callable[[bytes], Any]:
        """Decodes one value; raises ValueError when it is malformed."""

    def decoder(self) -> Decoder:
        """Decodes a chunk as a whole, and message by message if one of it is malformed."""
        decode = self.value_decoder()
        build = self._columns() if self.schema is not None else self._rows()

        def decode_chunk(chunk: Chunk) -> Decoded:
            try:
                values: Any = chunk.values
                return Decoded(build(list(map(decode, values)), chunk), [])
            except _MALFORMED:
                return decode_each(chunk)

        def decode_each(chunk: Chunk) -> Decoded:
            values: list[Any] = []
            good: list[int] = []
            bad: list[tuple[int, str]] = []
            for index, data in enumerate(chunk.values):
                try:
                    if data is None:
                        raise ValueError("no value (a tombstone)")
                    values.append(decode(data))
                    good.append(index)
                except _MALFORMED as error:
                    bad.append((index, _reason(error)))
            try:
                return Decoded(build(values, chunk.pick(good)), bad)
            except _MALFORMED:
                return build_each(values, good, bad, chunk)

        def build_each(values: list[Any], good: list[int], bad: list[tuple[int, str]], chunk: Chunk) -> Decoded:
            kept: list[int] = []
            for place, index in enumerate(good):
                try:
                    build([values[place]], chunk.pick([index]))
                    kept.append(place)
                except _MALFORMED as error:
                    bad.append((index, _reason(error)))
            picked = chunk.pick([good[place] for place in kept])
            return Decoded(build([values[place] for place in kept], picked), sorted(bad))

        return decode_chunk

    def _rows(self) -> Callable[[list[Any], Chunk], Batch]:
        extras = self.extras.readers(None)
        if extras and not self.in_mapping:
            raise UsageError("parts of a message can only be taken into a typed record or a JSON object")

        def build(values: list[Any], chunk: Chunk) -> Batch:
            for field, read in extras:
                for value, extra in zip(values, read(chunk), strict=True):
                    value[field] = extra
            return values

        return build

    def _columns(self) -> Callable[[list[Any], Chunk], Batch]:
        schema = self.schema
        assert schema is not None, "columns without a schema"
        extras = dict(self.extras.readers(schema))
        get = itemgetter if self.in_mapping else attrgetter
        makers = [
            (f.name, array_maker(f, checks=self.checks), None if f.name in extras else get(f.name))
            for f in schema.fields
        ]

        def build(values: list[Any], chunk: Chunk) -> Batch:
            arrays: dict[str, Array] = {}
            for name, make, getter in makers:
                arrays[name] = make(extras[name](chunk) if getter is None else list(map(getter, values)))
            return Columns(schema, arrays)

        return build


def array_maker(field: Field, *, checks: bool = True) -> Callable[[list[Any]], Array]:
    """Makes a column of a list of values; `checks` that numbers are of the column's kind, as NumPy would also make
    numbers of texts, and integers of fractions.

    Raises (when called):
        ValueError, TypeError, OverflowError: a value isn't of the field's type.
    """
    dtype, width = field.dtype, field.width
    if dtype is None:
        return lambda values: pa.array(values, type=field.type)
    kinds = _KINDS[dtype.kind] if checks else ""

    def numbers(values: list[Any]) -> Array:
        if kinds and values and np.array(values).dtype.kind not in kinds:
            raise ValueError(f"{field.name!r} is not {field.type}")
        return np.array(values, dtype=dtype)

    if not width:
        return numbers

    def vectors(values: list[Any]) -> Array:
        array = numbers(values) if values else np.empty((0, width), dtype)
        if array.shape != (len(values), width):
            raise ValueError(f"{field.name!r} has not {width} numbers")
        return array

    return vectors


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, OverflowError):
        return "a number is too large for its field"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
