"""Which folder a record belongs to, in the way of Hive: `date=2026-11-21/hour=13/country=CH`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, get_args
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from streamcore.batch import Array, Columns, Schema
from streamcore.connectors.options import check_choice
from streamcore.errors import BadRecordError, ConnectorError, UsageError

Every = Literal["month", "day", "hour"]

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""How Hive writes a value that is missing or empty; readers give null for it."""

_LONGEST_NAME = 255
"""Bytes of a file's or a folder's name that file systems take."""

_LEVELS: dict[str, tuple[str, ...]] = {"month": ("month",), "day": ("date",), "hour": ("date", "hour")}
_UNITS = {"month": "datetime64[M]", "day": "datetime64[D]", "hour": "datetime64[h]"}


@dataclasses.dataclass(frozen=True)
class Partitioning:
    """By a field of event time, by fields, or by both.

    Attributes:
        by: fields of text, integers, booleans or dates; each makes a level `field=value`. Files don't have them.
        time: a field of times or of milliseconds since 1970. Files do have it.
        every: how much of the time is in one folder, UTC: `month` (`month=2026-11`), `day` (`date=2026-11-21`) or
            `hour` (`date=2026-11-21/hour=13`).

    Raises:
        UsageError: there is nothing to partition by, or an option is wrong.
    """

    by: tuple[str, ...] = ()
    time: str | None = None
    every: Every = "day"

    def __post_init__(self) -> None:
        if not self.by and self.time is None:
            raise UsageError("there is no field to partition by", hint='give by=["country"], or time="time"')
        check_choice("every", self.every, get_args(Every))
        for name in self.by:
            if name[:1] in ("", ".", "_") or "/" in name or "=" in name:
                raise UsageError(
                    f"a folder can't be named by the field {name!r}",
                    hint="readers leave out what begins with . or _; rename it before the sink",
                )
        if len(set(self.by)) < len(self.by):
            raise UsageError(f"a field is there twice: by={list(self.by)}")

    @property
    def levels(self) -> tuple[str, ...]:
        """The names of the folders' levels, from the top."""
        return (*(_LEVELS[self.every] if self.time is not None else ()), *self.by)

    def check(self, schema: Schema) -> None:
        """Checks that records of these columns can be partitioned.

        Raises:
            ConnectorError: a field isn't there or can't name folders, or a file would have no column.
        """
        there = f"the columns are: {schema}"
        for name in (*self.by, *(() if self.time is None else (self.time,))):
            if name not in schema.names:
                raise ConnectorError(f"can't partition by {name!r}: there is no such column", hint=there)
        for name in self.by:
            if not _can_name(schema.by_name[name].type):
                raise ConnectorError(
                    f"can't partition by {name!r}, which is {schema.by_name[name].type}",
                    hint="use text, integers, booleans or dates; times are given by time=",
                )
        if self.time is not None:
            type_ = schema.by_name[self.time].type
            if not (pa.types.is_timestamp(type_) or pa.types.is_integer(type_)):
                raise ConnectorError(
                    f"can't partition by the time {self.time!r}, which is {type_}",
                    hint="it is a timestamp, or an integer: milliseconds since 1970",
                )
            if taken := set(_LEVELS[self.every]) & set(schema.names):
                raise ConnectorError(
                    f"the folders have a level {min(taken)!r}, and so is a column called", hint="rename the column"
                )
        if set(schema.names) <= set(self.by):
            raise ConnectorError("nothing is left for the files: every column is one to partition by", hint=there)

    def split(self, columns: Columns) -> Iterator[tuple[str, Columns]]:
        """The records of each folder, in the order that they had, without the fields of `by`.

        Raises:
            BadRecordError: a value is too long to name a folder.
        """
        labels, codes = [""], np.zeros(len(columns), np.int64)
        for names, level in self._levels_of(columns):
            combined, codes = np.unique(codes * len(names) + level, return_inverse=True)
            above, below = np.divmod(combined, len(names))
            labels = [f"{labels[i]}/{names[j]}" for i, j in zip(above.tolist(), below.tolist(), strict=True)]
        columns = columns.select(*(name for name in columns.schema.names if name not in self.by))
        if len(labels) == 1:
            yield labels[0][1:], columns
            return
        columns = columns.take(np.argsort(codes, kind="stable"))
        stops = np.cumsum(np.bincount(codes, minlength=len(labels))).tolist()
        for label, start, stop in zip(labels, [0, *stops], stops, strict=False):
            yield label[1:], columns.slice(start, stop)

    def _levels_of(self, columns: Columns) -> Iterator[tuple[list[str], Any]]:
        """For each field the distinct parts of paths, and for each record which of them is its own."""
        if self.time is not None:
            found, codes = np.unique(_moments(columns[self.time]).astype(_UNITS[self.every]), return_inverse=True)
            yield [self._folder_of_time(moment) for moment in found], codes
        for name in self.by:
            values, codes = _distinct(columns.encoded(name))
            texts = [_text(name, value) for value in values]
            folders = {text: place for place, text in enumerate(dict.fromkeys(texts))}
            if len(folders) < len(texts):  # what is missing and what is empty go to one folder
                codes = np.array([folders[text] for text in texts])[codes]
            yield [f"{name}={text}" for text in folders], codes

    def _folder_of_time(self, moment: np.datetime64) -> str:
        values = [NO_VALUE, NO_VALUE] if np.isnat(moment) else str(moment).split("T")
        return "/".join(f"{level}={value}" for level, value in zip(_LEVELS[self.every], values, strict=False))


def _can_name(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_integer(type_)
        or pa.types.is_boolean(type_)
        or pa.types.is_date(type_)
    )


def _moments(times: Array) -> Any:
    """Times as datetime64 of the unit that they are in; NaT where there is none."""
    if isinstance(times, np.ndarray):
        return times.astype(np.int64).view("datetime64[ms]")
    unit = times.type.unit if pa.types.is_timestamp(times.type) else "ms"
    missing = np.iinfo(np.int64).min  # what NaT is
    numbers = times.cast(pa.int64()).fill_null(missing).to_numpy(zero_copy_only=False)
    return numbers.view(f"datetime64[{unit}]")


def _distinct(array: Array) -> tuple[list[Any], Any]:
    """The distinct values, and for each record the place of its own among them."""
    if isinstance(array, np.ndarray):
        found, codes = np.unique(array, return_inverse=True)
        return found.tolist(), codes
    encoded = array if isinstance(array, pa.DictionaryArray) else array.dictionary_encode()
    used, codes = np.unique(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), return_inverse=True)
    return [None if index < 0 else encoded.dictionary[index].as_py() for index in used.tolist()], codes


def _text(name: str, value: Any) -> str:
    if value is None or value == "":
        return NO_VALUE
    text = str(value).lower() if isinstance(value, bool) else quote(str(value), safe="")
    if len(name.encode()) + 1 + len(text) > _LONGEST_NAME:
        what = f"a folder's name can't have more than {_LONGEST_NAME} bytes, and so not {name!r} = {value!r:.100}"
        raise BadRecordError(what, hint="each byte of other characters than letters, digits and _.-~ takes three (%20)")
    return text
