"""Accumulators that pick records by an order: the value of one field where another is lowest, highest, or latest."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from streamcore.batch import Columns
from streamcore.batch.dictionary import decoded
from streamcore.kernels.grouping import keep_better
from streamcore.state.accumulators import Entries, Numbers, Part
from streamcore.state.object_parts import ListCodec, ValueCodec, by_entry, last_rows, object_array
from streamcore.state.values import Rows, numbers, objects, ordered_rows, present_rows, rows_of, wide_dtype

Wanted = Literal["lowest", "highest", "latest"]
"""Which record: that of the lowest order, of the highest (of equal ones, the one that came first), or of the highest
(of equal ones, the one that came last)."""


class Order(Protocol):
    """By what records are compared. Equal orders are one order: it is part of what an accumulator is."""

    @property
    def name(self) -> str:
        """Its name among the orders of one stream."""
        ...

    @property
    def is_float(self) -> bool:
        """Whether places are float64; else they are int64."""
        ...

    def places(self, batch: Columns) -> tuple[Numbers, Rows | None]:
        """The places of the records that have one, int64 or float64 (m,); and which records these are (None: all)."""
        ...


@dataclass(frozen=True)
class ByField:
    """Order by a field of numbers or times. Records in which it is missing or NaN have no place."""

    field: str
    is_float: bool

    @property
    def name(self) -> str:
        """The field."""
        return self.field

    def places(self, batch: Columns) -> tuple[Numbers, Rows | None]:
        """The values of the field."""
        column = batch[self.field]
        rows = ordered_rows(column)
        return numbers(rows_of(column, rows)), rows


@dataclass(frozen=True)
class ByArrival:
    """All records in one place, so that they stay in the order in which they come."""

    @property
    def name(self) -> str:
        """Short for the order."""
        return "arrival"

    @property
    def is_float(self) -> bool:
        """They are not."""
        return False

    def places(self, batch: Columns) -> tuple[Numbers, Rows | None]:
        """0 for every record."""
        return np.zeros(len(batch), np.int64), None


@dataclass(frozen=True)
class Pick:
    """The value of `field`, of type `type`, in one record.

    Args:
        skip_missing: records in which the field is missing don't count; else their value is a missing one.
    """

    field: str
    type: pa.DataType
    in_numpy: bool
    order: Order
    wanted: Wanted
    skip_missing: bool = True

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """How many records had a place, the best place, and the value there."""
        label = f"{self.wanted}{'' if self.skip_missing else '_row'}_{self.order.name}_{self.field}"
        place = np.dtype(np.float64 if self.order.is_float else np.int64)
        value = Part(label, wide_dtype(self.type), 0) if self.in_numpy else self._object_part(label)
        return (Part(f"number_{label}", np.dtype(np.int64), 0), Part(f"place_{label}", place, 0), value)

    def _object_part(self, label: str) -> Part:
        return Part(label, np.dtype(object), None, ValueCodec(self.type))

    def add(self, totals: Sequence[Numbers], entries: Entries, batch: Columns) -> None:
        """Adds records: record i to entries[i]."""
        places, rows = self.order.places(batch)
        column = batch.encoded(self.field)
        if self.skip_missing and (present := present_rows(column)) is not None:
            kept = present if rows is None else np.intersect1d(rows, present, assume_unique=True)
            places = places[kept if rows is None else np.searchsorted(rows, kept)]
            rows = kept
        if rows is not None:
            entries = entries[rows]
        winners = self._keep(totals, entries, places, np.ones(len(entries), np.int64))
        chosen = winners if rows is None else rows[winners]
        if self.in_numpy:
            totals[2][entries[winners]] = numbers(column)[chosen]  # the last of an entry is written last
        else:
            distinct, last = last_rows(entries[winners])
            totals[2][distinct] = object_array(objects(decoded(rows_of(column, chosen[last]))))

    def merge(self, totals: Sequence[Numbers], entries: Entries, partial: Sequence[Numbers]) -> None:
        """Adds what was picked elsewhere: the i-th to entries[i]."""
        winners = self._keep(totals, entries, partial[1], partial[0])
        totals[2][entries[winners]] = partial[2][winners]

    def _keep(self, totals: Sequence[Numbers], entries: Entries, places: Numbers, weights: Numbers) -> Rows:
        lowest, last = self.wanted == "lowest", self.wanted == "latest"
        winners: Rows = keep_better(totals[0], totals[1], entries, places, weights, lowest, last)
        return winners


@dataclass(frozen=True)
class Highest:
    """The `k` highest places by `by`, descending, and the values of `field` in these records, of type `type`; of equal
    places the lowest values, NaN last."""

    field: str
    type: pa.DataType
    by: ByField
    k: int

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """The place that a record must reach, the places, and the values."""
        label = f"top{self.k}_{self.by.name}_{self.field}"
        floor: Any = -np.inf if self.by.is_float else np.iinfo(np.int64).min
        held = pa.float64() if self.by.is_float else pa.int64()
        return (
            Part(f"floor_{label}", np.dtype(np.float64 if self.by.is_float else np.int64), floor),
            Part(f"places_{label}", np.dtype(object), None, ListCodec(held)),
            Part(label, np.dtype(object), None, ListCodec(self.type)),
        )

    def add(self, totals: Sequence[Numbers], entries: Entries, batch: Columns) -> None:
        """Adds records: record i to entries[i]."""
        places, rows = self.by.places(batch)
        chosen = np.flatnonzero(places >= totals[0][entries if rows is None else entries[rows]])
        places, rows = places[chosen], chosen if rows is None else rows[chosen]
        column = batch.encoded(self.field)
        if (present := present_rows(rows_of(column, rows))) is not None:
            places, rows = places[present], rows[present]
        order, groups = by_entry(entries[rows])
        high, values = places[order].tolist(), objects(decoded(rows_of(column, rows[order])))
        for entry, start, stop in groups:
            self._keep(totals, entry, high[start:stop], values[start:stop])

    def merge(self, totals: Sequence[Numbers], entries: Entries, partial: Sequence[Numbers]) -> None:
        """Adds the highest of other records: the i-th to those of entries[i]."""
        for entry, high, values in zip(entries.tolist(), partial[1].tolist(), partial[2].tolist(), strict=True):
            if high is not None:
                self._keep(totals, entry, high, values)

    @functools.cached_property
    def _may_be_nan(self) -> bool:
        return pa.types.is_floating(self.type) and self.field != self.by.field

    def _keep(self, totals: Sequence[Numbers], entry: int, high: list[Any], values: list[Any]) -> None:
        floors, highs, held = totals
        if highs[entry] is not None:
            high, values = highs[entry] + high, held[entry] + values
        if len(high) > 1:
            order = _nan_last if self._may_be_nan else None
            best = sorted(zip(map(operator.neg, high), values, strict=True), key=order)[: self.k]
            high, values = [-place for place, _ in best], [value for _, value in best]
        highs[entry], held[entry] = high, values
        if len(high) == self.k:
            floors[entry] = high[-1]


def _nan_last(pair: tuple[Any, float]) -> tuple[Any, bool, float]:
    place, value = pair
    return place, value != value, value  # noqa: PLR0124 - true for NaN


@dataclass(frozen=True)
class Collected:
    """All values of `field`, of type `type`, with the places of their records by `order`."""

    field: str
    type: pa.DataType
    order: Order

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """The places, and the values, both as they came."""
        label = f"collected_{self.order.name}_{self.field}"
        held = pa.float64() if self.order.is_float else pa.int64()
        return (
            Part(f"places_{label}", np.dtype(object), None, ListCodec(held)),
            Part(label, np.dtype(object), None, ListCodec(self.type)),
        )

    def add(self, totals: Sequence[Numbers], entries: Entries, batch: Columns) -> None:
        """Adds records: record i to entries[i]."""
        places, rows = self.order.places(batch)
        assert rows is None, "records are collected by arrival or event time, which all have"
        column = batch.encoded(self.field)
        if (rows := present_rows(column)) is not None:
            entries, places = entries[rows], places[rows]
        order, groups = by_entry(entries)
        values = objects(decoded(rows_of(column, order if rows is None else rows[order])))
        at = places[order].tolist()
        for entry, start, stop in groups:
            self._extend(totals, entry, at[start:stop], values[start:stop])

    def merge(self, totals: Sequence[Numbers], entries: Entries, partial: Sequence[Numbers]) -> None:
        """Adds values that were collected elsewhere: the i-th to those of entries[i]."""
        for entry, places, values in zip(entries.tolist(), partial[0].tolist(), partial[1].tolist(), strict=True):
            if places is not None:
                self._extend(totals, entry, places, values)

    @staticmethod
    def _extend(totals: Sequence[Numbers], entry: int, places: list[Any], values: list[Any]) -> None:
        if totals[0][entry] is None:
            totals[0][entry], totals[1][entry] = list(places), list(values)
        else:
            totals[0][entry] += places
            totals[1][entry] += values


def in_order(places: Numbers, values: Numbers) -> Numbers:
    """Collected lists sorted by their places, equal ones as they came; (n,) of lists or None."""
    return object_array(
        [
            None
            if held is None
            else [value for _, value in sorted(zip(at, held, strict=True), key=lambda pair: pair[0])]
            for at, held in zip(places.tolist(), values.tolist(), strict=True)
        ]
    )
