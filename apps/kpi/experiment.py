"""The events of an experiment with ads: from a file, or made with a known effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from streamcore import Columns, DataStream, Schema, StreamEnvironment, bounded_out_of_orderness, col, seconds
from streamcore.connectors.csv_source import CsvSource
from streamcore.connectors.generator_source import GeneratorSource

EVENT = Schema.of(time=int, user=int, ad=str, variant=str, event=str)
IMPRESSION, CLICK, CONVERSION = "impression", "click", "conversion"
LIMIT_S = 3600.0
"""How long after the impression a conversion counts."""

CLICK_RATES = {"banner": 0.01, "search": 0.08, "video": 0.03}

_BEGIN_MS = 1_442_016_000_000  # 2015-09-12
_DAY_MS = 86_400_000
_CLICK_MS, _CONVERSION_MS = 600_000, 3_600_000


@dataclass(frozen=True)
class Effect:
    """An experiment that is known: `users` come over a day; of those shown variant "a" `rate` convert, and of those
    shown "b" `rate + effect`. A pure function of the record's number."""

    users: int
    rate: float
    effect: float
    seed: int

    def make(self, start: int, stop: int) -> Columns:
        """The records from `start` up to, not including, `stop`: three a user, of which those with the event "" are
        none."""
        number = np.arange(start, stop)
        user, slot = number // 3, number % 3
        ad, variant = (self._chance(user, 10) * len(CLICK_RATES)).astype(int), self._chance(user, 11) < 0.5
        rate = np.where(slot == 1, np.array(list(CLICK_RATES.values()))[ad], self.rate + self.effect * variant)
        event = np.where((slot == 0) | (self._chance(user, slot) < rate), slot, 3)
        delay = self._chance(user, slot + 5) * np.array([0, _CLICK_MS, _CONVERSION_MS])[slot]
        arrays: dict[str, Any] = {
            "time": _BEGIN_MS + user * _DAY_MS // self.users + delay.astype(np.int64),
            "user": user,
            "ad": pa.array(list(CLICK_RATES)).take(pa.array(ad)),
            "variant": pa.array(["a", "b"]).take(pa.array(variant.astype(int))),
            "event": pa.array([IMPRESSION, CLICK, CONVERSION, ""]).take(pa.array(event)),
        }
        return Columns(EVENT, arrays)

    def _chance(self, user: Any, purpose: Any) -> Any:
        """A number from 0 to 1 that depends on nothing else (splitmix64: Steele, Lea, Flood, OOPSLA 2014)."""
        bits = (user * 16 + purpose).astype(np.uint64) + np.uint64(self.seed << 40)
        bits = (bits + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((bits ^ (bits >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


class Events(NamedTuple):
    """The events of an experiment, and what of its file could not be read."""

    stream: DataStream[Any]
    malformed: DataStream[Any] | None


def events(env: StreamEnvironment, path: str, made: Effect) -> Events:
    """The events in CSV files (columns time in milliseconds, user, ad, variant "a" or "b", event "impression", "click"
    or "conversion"; up to an hour out of order), or with no path those that are made."""
    watermarks = bounded_out_of_orderness("time", seconds(LIMIT_S))
    if path:
        table = CsvSource(path, EVENT, on_error="side_output")
        order = watermarks.with_bad_times("side_output", min_time=None)
        found: DataStream[Any] = env.source(table, name="experiment", watermarks=order)
        return Events(found, found.bad_records())
    generator = GeneratorSource(made.make, count=3 * made.users, schema=EVENT)
    some = env.source(generator, name="experiment").filter_batch(col("event") != "")
    return Events(some.assign_watermarks(watermarks), None)
