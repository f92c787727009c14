"""Aggregates that keep values of whole records: the first, the last, the highest ones, all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from streamcore.batch import Columns
from streamcore.errors import TopologyError
from streamcore.runtime.aggregates import Aggregate, Made, Over
from streamcore.runtime.event_time import EventTime
from streamcore.state.accumulators import Numbers
from streamcore.state.object_parts import ListCodec, ValueCodec
from streamcore.state.picks import ByArrival, ByField, Collected, Highest, Order, Pick, Wanted, in_order
from streamcore.state.values import Rows, is_number, is_time, result_column


@dataclass(frozen=True)
class ByTime:
    """Order by event time, in milliseconds."""

    time: EventTime

    @property
    def name(self) -> str:
        """The field with the time, if it is one."""
        return self.time.by if isinstance(self.time.by, str) else "time"

    @property
    def is_float(self) -> bool:
        """Times are whole."""
        return False

    def places(self, batch: Columns) -> tuple[Numbers, Rows | None]:
        """The event times of the records."""
        return self.time.times(batch), None


def first_of(field: str) -> Aggregate:
    """The value of a field in the record of the earliest event time; where the stream has no event time, in the record
    that came first. Named `first_FIELD`, of the field's type. Records in which it is missing don't count.

    Of records of the same millisecond it is the one that came first. In what order records come is defined only for
    those that come the same way - from one split, through the same subtasks: of two of the same millisecond from
    different subtasks, and of all of them in a stream without event time, it may be either. `min_by` goes by any
    field, with times finer than milliseconds too.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, first_of
        >>> rows = [("a", 7.0), ("a", 2.0), ("b", 5.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(first_of("price")).execute_and_collect()
        [Record(shop='a', first_price=7.0), Record(shop='b', first_price=5.0)]
    """
    return Aggregate(f"first_{field}", (field,), lambda over: _pick(over, field, _by_time(over), "lowest"))


def last_of(field: str) -> Aggregate:
    """The value of a field in the record of the latest event time - of the same millisecond: in the one that came
    last - or, without event time, in the record that came last. Named `last_FIELD`; see `first_of`.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, last_of
        >>> rows = [("a", 7.0), ("a", 2.0), ("b", 5.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(last_of("price")).execute_and_collect()
        [Record(shop='a', last_price=2.0), Record(shop='b', last_price=5.0)]
    """
    return Aggregate(f"last_{field}", (field,), lambda over: _pick(over, field, _by_time(over), "latest"))


def min_by(field: str, by: str) -> Aggregate:
    """The value of a field in the record where another field, of numbers or times, is lowest. Named
    `FIELD_at_min_BY`, of the field's type; missing where it is missing there, and where `by` is missing or NaN in all
    records. Of records that are equal in `by`, the one that came first (see `first_of`).

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, min_by
        >>> rows = [("a", "tea", 7.0), ("a", "jam", 2.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, item=str, price=float))
        >>> sales.key_by("shop").aggregate(min_by("item", "price")).execute_and_collect()
        [Record(shop='a', item_at_min_price='jam')]
    """
    return Aggregate(f"{field}_at_min_{by}", (field, by), lambda over: _pick_by(over, field, by, "lowest"))


def max_by(field: str, by: str) -> Aggregate:
    """The value of a field in the record where another is highest. Named `FIELD_at_max_BY`; see `min_by`.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, max_by
        >>> rows = [("a", "tea", 7.0), ("a", "jam", 2.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, item=str, price=float))
        >>> sales.key_by("shop").aggregate(max_by("item", "price")).execute_and_collect()
        [Record(shop='a', item_at_max_price='tea')]
    """
    return Aggregate(f"{field}_at_max_{by}", (field, by), lambda over: _pick_by(over, field, by, "highest"))


def top_values(field: str, k: int, *, by: str | None = None) -> Aggregate:
    """The `k` highest values of a field, highest first, in a list; with `by`, its values in the `k` records that are
    highest in that field. Exact, and the same however the job runs: of records equal in `by`, those with the lowest
    values come first, NaN last. Named `top_FIELD`, an Arrow list of the field's type.

    What is ordered by is a field of numbers or times. Records in which either field is missing, or the one that is
    ordered by is NaN, don't count.

    Raises:
        TopologyError: `k` is no number of values.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, top_values
        >>> rows = [("a", "tea", 7.0), ("a", "jam", 2.0), ("a", "nut", 4.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, item=str, price=float))
        >>> best = top_values("item", 2, by="price")
        >>> sales.key_by("shop").aggregate(top_values("price", 2), best=best).execute_and_collect()
        [Record(shop='a', top_price=[7.0, 4.0], best=['tea', 'nut'])]
    """
    if not isinstance(k, int) or k < 1:
        raise TopologyError(f"top_values: k is {k!r}", hint="the number of values to keep, 1 or more")

    def make(over: Over) -> Made:
        found, ordering = over.value(field), over.number(by if by is not None else field, or_time=True)
        order = ByField(ordering.name, pa.types.is_floating(ordering.type))
        kept = Highest(field, found.type, order, k)
        return Made((kept,), lambda parts: ListCodec(found.type).encode(parts[2]), pa.list_(found.type))

    return Aggregate(f"top_{field}", (field,) if by is None else (field, by), make)


def collect(field: str) -> Aggregate:
    """All values of a field in a list, in the order of event time; of the same millisecond, or without event time, in
    the order in which they came (see `first_of`). Missing ones are left out. Named `collect_FIELD`, an Arrow list of
    the field's type.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, collect
        >>> rows = [("a", 7.0), ("a", 2.0), ("b", 5.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(collect("price")).execute_and_collect()
        [Record(shop='a', collect_price=[7.0, 2.0]), Record(shop='b', collect_price=[5.0])]
    """

    def make(over: Over) -> Made:
        found = over.value(field)
        kept = Collected(field, found.type, _by_time(over))
        codec = ListCodec(found.type)
        return Made((kept,), lambda parts: codec.encode(in_order(parts[0], parts[1])), pa.list_(found.type))

    return Aggregate(f"collect_{field}", (field,), make)


def _by_time(over: Over) -> Order:
    if over.time is None:
        return ByArrival()
    over.time.check(over.schema, f"{over.where}: {over.name} goes by event time")
    return ByTime(over.time)


def _pick_by(over: Over, field: str, by: str, wanted: Wanted) -> Made:
    ordering = over.number(by, or_time=True)
    order = ByField(by, pa.types.is_floating(ordering.type))
    may_lack_place = ordering.nullable or order.is_float
    return _pick(over, field, order, wanted, skip_missing=False, may_lack_place=may_lack_place)


def _pick(
    over: Over,
    field: str,
    order: Order,
    wanted: Wanted,
    *,
    skip_missing: bool = True,
    may_lack_place: bool = False,
) -> Made:
    found = over.value(field)
    in_numpy = (is_number(found.type) or is_time(found.type)) and not found.nullable
    kept = Pick(field, found.type, in_numpy, order, wanted, skip_missing)
    nullable = found.nullable or may_lack_place
    result = partial(_picked, found.type, in_numpy=in_numpy, nullable=nullable)
    return Made((kept,), result, found.type, nullable)


def _picked(type_: pa.DataType, kept: list[Numbers], *, in_numpy: bool, nullable: bool) -> Any:
    number, _, values = kept
    if in_numpy:
        return result_column(values, type_, number == 0 if nullable else None)
    return ValueCodec(type_).encode(values)
