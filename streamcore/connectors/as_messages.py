"""Records of data files as messages: JSON values, keys as text, event times as timestamps."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import numpy as np

from streamcore.batch import Batch, Columns
from streamcore.connectors.blocks import shorten
from streamcore.connectors.json_source import encode_json_lines
from streamcore.errors import BadRecordError, UsageError

UNITS_MS = {"s": 1000.0, "ms": 1.0, "us": 0.001}
"""Milliseconds of a unit of time."""


Message = tuple[bytes | None, bytes, int | None]
"""Key, value, and time in milliseconds; without a time a message gets that of its writing. Plain tuples: made and
collected in a third of the time of named ones."""


class AsMessages:
    """Makes messages of batches: columns, or rows that are dictionaries.

    Args:
        key: the field whose text is the key, a number as its digits; None where a record has none.
        time: the field of event time, which stays in the value as it is: a number, or a time as ISO 8601 has it
            (without a zone: UTC).
        unit: of times that are numbers, since 1970: `s`, `ms` or `us`.
    """

    def __init__(self, key: str | None = None, time: str | None = None, unit: str = "ms") -> None:
        self._key = key
        self._time = time
        self._ms = UNITS_MS[unit]

    def __call__(self, batch: Batch) -> list[Message]:
        """A message for each record.

        Raises:
            BadRecordError: a time can't be read, or a record has no JSON form.
            UsageError: there is no such field.
        """
        values = encode_json_lines(batch).splitlines()
        keys = [None] * len(values) if self._key is None else _keys(_field(batch, self._key))
        times = [None] * len(values) if self._time is None else self.times(batch).tolist()
        return list(zip(keys, values, times, strict=True))

    def times(self, batch: Batch) -> Any:
        """The event times, (n,) int64 milliseconds.

        Raises:
            BadRecordError: one can't be read.
            UsageError: there is no such field.
        """
        assert self._time is not None, "there is no field of times"
        values = _field(batch, self._time)
        if {int, float}.issuperset(map(type, values)):
            return np.rint(np.array(values) * self._ms).astype(np.int64)
        return np.array([self._time_of(value) for value in values], np.int64)

    def _time_of(self, value: Any) -> int:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return round(value * self._ms)
        try:
            time = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(value)
        except (TypeError, ValueError):
            shown = shorten(repr(value).encode())
            raise BadRecordError(
                f"the time {self._time!r} of a record can't be read: {shown}",
                hint="it is a number (--time-unit), or like 2026-11-21T13:00:00Z",
            ) from None
        return round((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp() * 1000)


def _field(batch: Batch, name: str) -> list[Any]:
    if isinstance(batch, Columns):
        if name not in batch:
            raise _no_field(name, batch.schema.names)
        values: list[Any] = batch[name].tolist() if isinstance(batch[name], np.ndarray) else batch[name].to_pylist()
        return values
    try:
        return [row[name] for row in batch]
    except (KeyError, TypeError):
        lacking = next(row for row in batch if not isinstance(row, dict) or name not in row)
        raise _no_field(name, list(lacking) if isinstance(lacking, dict) else []) from None


def _no_field(name: str, there: Any) -> UsageError:
    return UsageError(f"a record has no field {name!r}", hint=f"its fields are: {', '.join(there) or 'none'}")


def _keys(values: list[Any]) -> list[bytes | None]:
    if {int}.issuperset(map(type, values)):
        return [b"%d" % value for value in values]
    return list(map(_key_of, values))


def _key_of(value: Any) -> bytes | None:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes) or value is None:
        return value
    return msgspec.json.encode(value)
