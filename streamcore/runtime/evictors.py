"""Evictors: which of a window's records are left when it fires (as in Apache Flink)."""

from __future__ import annotations

import math
from abc import ABC
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from streamcore.errors import TopologyError
from streamcore.time import Duration

if TYPE_CHECKING:
    from streamcore.runtime.assigners import Window

T = TypeVar("T")


class TimedRecord(NamedTuple):
    """A record of a window and its time, milliseconds."""

    record: Any
    time_ms: int


class Evictor(ABC, Generic[T]):
    """Takes records out of a window when it fires; they are gone for good. Derive from it for rules of your own.

    A window with an evictor keeps its records until it goes, whatever is computed of them. One from which all were
    taken before the function has no result (Apache Flink calls the function with none).
    """

    needs_time = False
    """It looks at the records' times: the stream has event time, or the windows go by processing time."""

    def before(self, records: list[TimedRecord], window: Window) -> list[TimedRecord]:
        """What is left of the records, in the order in which they came, for the function to see."""
        return records

    def after(self, records: list[TimedRecord], window: Window) -> list[TimedRecord]:
        """What is left when the function has seen them."""
        return records


@dataclass(frozen=True)
class CountEvictor(Evictor[Any]):
    """Leaves the last `size` records."""

    size: int
    is_after: bool = False

    def before(self, records: list[TimedRecord], window: Window) -> list[TimedRecord]:
        return records if self.is_after else records[-self.size :]

    def after(self, records: list[TimedRecord], window: Window) -> list[TimedRecord]:
        return records[-self.size :] if self.is_after else records


@dataclass(frozen=True)
class TimeEvictor(Evictor[Any]):
    """Leaves the records that are less than `span_ms` older than the latest."""

    span_ms: int
    is_after: bool = False
    needs_time = True

    def before(self, records: list[TimedRecord], window: Window) -> list[TimedRecord]:
        return records if self.is_after else self._recent(records)

    def after(self, records: list[TimedRecord], window: Window) -> list[TimedRecord]:
        return self._recent(records) if self.is_after else records

    def _recent(self, records: list[TimedRecord]) -> list[TimedRecord]:
        first = max((timed.time_ms for timed in records), default=0) - self.span_ms
        return [timed for timed in records if timed.time_ms > first]


def count_evictor(size: int, *, after: bool = False) -> CountEvictor:
    """Leaves the last `size` records that came.

    Args:
        after: takes the others out when the function has seen them, not before.

    Raises:
        TopologyError: the size is below 1.
    """
    if size < 1:
        raise TopologyError(f"an evictor that leaves {size} records", hint="it leaves 1 at least")
    return CountEvictor(size, after)


def time_evictor(span: Duration, *, after: bool = False) -> TimeEvictor:
    """Leaves the records that are less than `span` seconds older than the window's latest.

    Args:
        after: takes the others out when the function has seen them, not before.

    Raises:
        TopologyError: the span is below a millisecond, or infinite.
    """
    if not math.isfinite(span) or round(span * 1000) < 1:
        raise TopologyError(f"an evictor that leaves {span} s", hint="the shortest is a millisecond")
    return TimeEvictor(round(span * 1000), after)
