"""Records of a stream as Kafka's records: value, key, time, headers and topic of a whole batch at a time."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from streamcore.batch import Batch, Columns
from streamcore.batch.convert import to_rows
from streamcore.connectors.blocks import shorten
from streamcore.connectors.kafka.batches import Records
from streamcore.errors import BadRecordError

Selector = str | int | Callable[[Any], Any]
"""The name of a field, its number in a tuple, or a function of the record."""
_LATEST_MS = 2**63 - 1
Values = Callable[[Batch], list[bytes | None]]


class Encoder:
    """Makes Kafka's records of batches.

    Args:
        topic: a name, or a function of the record.
        values: the values of a batch; None is a tombstone.
        key, time_ms, headers: selectors; None where records have none.
    """

    def __init__(
        self,
        topic: str | Callable[[Any], str],
        values: Values,
        key: Selector | None = None,
        time_ms: Selector | None = None,
        headers: Callable[[Any], Any] | None = None,
    ) -> None:
        self._topic = topic
        self._values = values
        self._key = key
        self._time_ms = time_ms
        self._headers = headers

    def encode(self, batch: Batch) -> Iterable[tuple[str, Records]]:
        """The batch's records by topic, in order within each.

        Raises:
            BadRecordError: one has no such form.
        """
        records = Records(
            self._values(batch),
            None if self._key is None else _keys(select(batch, self._key)),
            None if self._time_ms is None else _times(select(batch, self._time_ms)),
            None if self._headers is None else _headers(select(batch, self._headers)),
        )
        if isinstance(self._topic, str):
            return [(self._topic, records)]
        return _by_topic(select(batch, self._topic), records)


def select(batch: Batch, selector: Selector) -> list[Any]:
    """A field of each record, or what the function gives for it.

    Raises:
        BadRecordError: a record has no such field.
    """
    if callable(selector):
        return list(map(selector, to_rows(batch)))
    if isinstance(batch, Columns):
        column: Any = batch[batch.schema.names[selector] if isinstance(selector, int) else selector]
        values: list[Any] = column.tolist() if isinstance(column, np.ndarray) else column.to_pylist()
        return values
    if not batch:
        return []
    by_item = isinstance(selector, int) or isinstance(batch[0], Mapping)
    get: Callable[[Any], Any] = operator.itemgetter(selector) if by_item else operator.attrgetter(selector)  # type: ignore[arg-type]
    try:
        return list(map(get, batch))
    except (LookupError, AttributeError, TypeError) as error:
        raise BadRecordError(f"a record for Kafka has no field {selector!r}: {shown(batch[0])}") from error


def as_bytes(values: list[Any], what: str) -> list[bytes | None]:
    """Bytes as they are, text in UTF-8, None as None.

    Raises:
        BadRecordError: a value is of another type.
    """
    kinds = set(map(type, values))
    if kinds <= {bytes, type(None)}:
        return values
    if kinds == {str}:
        try:
            return [value.encode("utf-8", "surrogateescape") for value in values]
        except UnicodeEncodeError:
            pass  # which one it is, is looked for below
    return [_one_as_bytes(value, what) for value in values]


def _one_as_bytes(value: Any, what: str) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _encoded(value, what)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise BadRecordError(
        f"a {what} for Kafka is a {type(value).__name__}, not bytes or text: {shown(value)}",
        hint=f"give {what}= as a function of the record that returns bytes",
    )


def _encoded(text: str, what: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise BadRecordError(f"a {what} for Kafka has no form in UTF-8: {shown(text)}") from error


def _keys(values: list[Any]) -> list[bytes | None]:
    """As the source reads keys: the text of a number for a field of `int`."""
    if set(map(type, values)) == {int}:
        return [b"%d" % value for value in values]
    return as_bytes([b"%d" % value if _is_whole(value) else value for value in values], "key")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _times(values: list[Any]) -> list[int]:
    if not set(map(type, values)) <= {int}:
        for value in values:
            if not _is_whole(value):
                raise BadRecordError(f"a timestamp for Kafka is no whole number of milliseconds: {shown(value)}")
        values = [int(value) for value in values]
    if min(values, default=0) < 0:  # a message that has none, read from another topic
        now = int(time.time() * 1000)
        values = [now if value < 0 else value for value in values]
    if (latest := max(values, default=0)) > _LATEST_MS:
        raise BadRecordError(f"a timestamp for Kafka has more than 64 bits: {latest}")
    return values


def _headers(values: list[Any]) -> list[list[tuple[str, bytes | None]]]:
    return [_one_header_list(value) for value in values]


def _one_header_list(value: Any) -> list[tuple[str, bytes | None]]:
    pairs = value.items() if isinstance(value, Mapping) else value or ()
    try:
        return [(_header_name(name), _one_as_bytes(content, "header")) for name, content in pairs]
    except (TypeError, ValueError) as error:
        raise BadRecordError(f"headers for Kafka are pairs of a name and bytes, not {shown(value)}") from error


def _header_name(name: Any) -> str:
    text = str(name)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRecordError(f"a header's name for Kafka has no form in UTF-8: {shown(text)}") from error
    return text


def _by_topic(topics: Sequence[Any], records: Records) -> Iterable[tuple[str, Records]]:
    places: dict[Any, list[int]] = {}
    for place, topic in enumerate(topics):
        places.setdefault(topic, []).append(place)
    for topic, chosen in places.items():
        if not isinstance(topic, str):
            raise BadRecordError(f"the name of a topic for Kafka is {shown(topic)}, no text")
        yield topic, _taken(records, chosen)


def _taken(records: Records, places: list[int]) -> Records:
    def take(column: Any) -> Any:
        return None if column is None else [column[place] for place in places]

    return Records(take(records.values), take(records.keys), take(records.times_ms), take(records.headers))


def shown(value: Any) -> str:
    """The record, shortened, for messages."""
    return shorten(repr(value).encode("utf-8", "backslashreplace"))
