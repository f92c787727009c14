"""Files and topics of readings as streams of one form, whatever columns are called and whatever unit they are in."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from streamcore import (
    Columns,
    DataStream,
    Schema,
    StreamcoreError,
    StreamEnvironment,
    UsageError,
    bounded_out_of_orderness,
    seconds,
)
from streamcore.apps.conventions import is_topics, messages, patient
from streamcore.connectors.csv_source import CsvSource
from streamcore.connectors.paths import expand

TIMES = ("time", "timestamp", "date_time", "time_hour")
VALUES = ("value", "temp")
SENSORS = ("sensor", "origin")

MESSAGE = Schema.of(sensor=str, value=float, time=np.int64)
"""One reading as a message: an object with `sensor` and `value`; its time is the message's own."""

READING = Schema.of(sensor=str, time=np.int64, fahrenheit=float)
"""One reading; `time` in milliseconds since 1970."""

Numbers = TypeVar("Numbers", float, "np.ndarray[Any, Any]")
"""A float, or an array of them."""

Span = tuple[int, int]
"""First and last millisecond."""

_HEAD_BYTES = 1 << 16
_ZONE = re.compile(r"(Z|[+-]\d\d:?\d\d)$")


class ReadingsError(StreamcoreError):
    """A file isn't of the documented form."""

    exit_code = 3


def celsius_to_fahrenheit(celsius: Numbers) -> Numbers:
    """CtoF."""
    return celsius * 9 / 5 + 32


def kelvin_to_fahrenheit(kelvin: Numbers) -> Numbers:
    """KtoF."""
    return celsius_to_fahrenheit(kelvin - 273.15)


def to_celsius(fahrenheit: Numbers) -> Numbers:
    """FtoC."""
    return (fahrenheit - 32) * 5 / 9


def _as_it_is(fahrenheit: Numbers) -> Numbers:
    return fahrenheit


CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "celsius": celsius_to_fahrenheit,
    "kelvin": kelvin_to_fahrenheit,
    "fahrenheit": _as_it_is,
}


@dataclass(frozen=True)
class Layout:
    """Where a file has what. Without a column of sensors, the file is of one sensor that has its name."""

    time: str
    value: str
    sensor: str | None
    has_zone: bool


def layout_of(path: str) -> Layout:
    """Reads the header and the first record of a CSV file, gzip or plain; of several, those of the first.

    Raises:
        ConnectorError: there is no such file.
        ReadingsError: there is no column of times, or none of values.
    """
    try:
        head = _head(Path(expand(path)[0]))
    except OSError:
        return Layout(TIMES[0], VALUES[0], None, has_zone=False)  # the source says better what is wrong
    rows = list(csv.reader(io.StringIO(head)))
    names, first = (rows[0] if rows else []), (rows[1] if len(rows) > 1 else [])
    found = {}
    for what, known in (("times", TIMES), ("values", VALUES), ("sensors", SENSORS)):
        found[what] = next((name for name in known if name in names), None)
        if found[what] is None and what != "sensors":
            raise ReadingsError(
                f"{path} has no column of {what}",
                hint=f"it is named {' or '.join(known)}; "
                + (f"the file's columns are: {', '.join(names)}" if names else "the file is empty"),
            )
    time = str(found["times"])
    text = first[names.index(time)] if len(first) > names.index(time) else ""
    return Layout(time, str(found["values"]), found["sensors"], has_zone=_ZONE.search(text) is not None)


def readings(
    env: StreamEnvironment, path: str, unit: str, out_of_order_s: float, name: str
) -> tuple[DataStream[Any], DataStream[Any]]:
    """The readings of a file or of topics in degrees Fahrenheit (`READING`), and what of them could not be read.

    Args:
        path: a file, or an address of topics.
        unit: celsius, kelvin or fahrenheit.
        out_of_order_s: how many seconds of event time a reading may come after later ones.
        name: of the source, in snapshots too.

    Raises:
        ReadingsError: the file isn't of the documented form.
        UsageError: the unit is unknown.
    """
    if unit not in CONVERSIONS:
        raise UsageError(f"the unit {unit!r} is unknown", hint=f"use one of: {', '.join(CONVERSIONS)}")
    order = bounded_out_of_orderness("time", seconds(out_of_order_s)).with_bad_times("side_output", min_time=None)
    source, sensor = (messages(path, MESSAGE, timestamp="time"), None) if is_topics(path) else _file_source(path)
    raw = env.source(source, name=name, watermarks=patient(order, path))
    converted: DataStream[Any] = raw.map_batch(partial(_convert, CONVERSIONS[unit], sensor), returns=READING)
    # one subtask, beside the source: dealt out over several, a sensor's readings would lose their order
    return converted.name(f"{unit} to fahrenheit").uid(f"{name}-convert").parallelism(1), raw.bad_records()


def _file_source(path: str) -> tuple[CsvSource, str | None]:
    """A CSV file, and the name of its one sensor if it has no column of them."""
    layout = layout_of(path)
    moment = pa.timestamp("ms", "UTC" if layout.has_zone else None)
    fields: dict[str, Any] = {
        "time": pa.field("time", moment, nullable=False),
        "value": pa.field("value", pa.float64()),
    }
    rename = {layout.time: "time", layout.value: "value"}
    if layout.sensor is not None:
        fields["sensor"] = pa.field("sensor", pa.string(), nullable=False)
        rename[layout.sensor] = "sensor"
    source = CsvSource(path, pa.schema(list(fields.values())), rename=rename, on_error="side_output")
    return source, None if layout.sensor else Path(path).name.partition(".")[0]


def read_labels(path: str) -> dict[str, list[Span]]:
    """Sensor -> spans, from a CSV file (gzip as it is) with the columns sensor, start, end: ISO times, UTC.

    Raises:
        ReadingsError: the file can't be read, or isn't of that form.
    """
    spans: defaultdict[str, list[Span]] = defaultdict(list)
    try:
        with gzip.open(path, "rt") if path.endswith(".gz") else Path(path).open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                spans[row["sensor"]].append((_milliseconds(row["start"]), _milliseconds(row["end"])))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ReadingsError(
            f"{path} has no labels that can be used: {error}",
            hint="a CSV file with the columns sensor, start, end; --set labels= for none",
        ) from error
    return dict(spans)


def _milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def _convert(to_fahrenheit: Callable[[Any], Any], sensor: str | None, columns: Columns) -> Columns:
    """Readings as they came as `READING`; `sensor` if the file doesn't name it."""
    time = columns["time"]
    arrays = {
        "sensor": pa.repeat(pa.scalar(sensor), len(columns)) if sensor else columns.encoded("sensor"),
        "time": time if isinstance(time, np.ndarray) else time.cast(pa.int64()).to_numpy(),
        "fahrenheit": to_fahrenheit(columns["value"]),
    }
    return Columns(READING, arrays)


def _head(path: Path) -> str:
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if is_gzip else path.open("rb") as file:
        return file.read(_HEAD_BYTES).decode("utf-8-sig", "replace")
