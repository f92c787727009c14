"""Aggregates of distinct values and of distributions: exact counts, and estimates by sketches (Apache DataSketches,
the package `datasketches`: `pip install 'streamcore[sketches]'`).

Estimates depend a little on how records came together: with another batch size, parallelism or number of stages, and
after a restore, they may be others, within the error that is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from streamcore.errors import TopologyError
from streamcore.runtime.aggregates import Aggregate, Made, Over
from streamcore.state.sketches import Digest, Distinct, HyperLogLog, estimates, quantiles_of, sizes, sketch_library


def count_distinct(field: str) -> Aggregate:
    """How many different values a field has, exactly; int64, named `distinct_FIELD`. Missing values are left out, and
    NaN is one value. Keeps every value of a group: about 60 bytes for a number; where that is too much, take
    `approx_count_distinct`.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, count_distinct
        >>> rows = [("a", 1.0), ("a", 2.0), ("a", 1.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(count_distinct("price")).execute_and_collect()
        [Record(shop='a', distinct_price=2)]
    """

    def make(over: Over) -> Made:
        return Made((Distinct(field, over.value(field).type),), lambda parts: sizes(parts[0]), pa.int64())

    return Aggregate(f"distinct_{field}", (field,), make)


def approx_count_distinct(field: str, *, lg_k: int = 12) -> Aggregate:
    """About how many different values a field has, by HyperLogLog; int64, named `approx_distinct_FIELD`. Missing
    values are left out.

    The relative standard error is 1.04 / sqrt(2**lg_k): 1.6 % for 12; a few values are counted exactly. A group needs
    at most about 2**lg_k bytes.

    Args:
        field: of numbers, text, bytes or times.
        lg_k: from 7 to 21.

    Raises:
        TopologyError: `lg_k` is out of range, or the package `datasketches` isn't installed.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, approx_count_distinct
        >>> rows = [("a", 1.0), ("a", 2.0), ("a", 1.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(approx_count_distinct("price")).execute_and_collect()
        [Record(shop='a', approx_distinct_price=2)]
    """
    if not 7 <= lg_k <= 21:
        raise TopologyError(f"approx_count_distinct: lg_k is {lg_k}", hint="from 7 (error 9 %) to 21 (0.07 %)")
    sketch_library("approx_count_distinct")

    def make(over: Over) -> Made:
        found = over.value(field)
        if pa.types.is_decimal(found.type):
            raise TopologyError(
                f"{over.where}: {over.name} of field {found}", hint="it takes numbers, text, bytes and times"
            )
        return Made((HyperLogLog(field, lg_k),), lambda parts: estimates(parts[0]), pa.int64())

    return Aggregate(f"approx_distinct_{field}", (field,), make)


def quantile(field: str, q: float) -> Aggregate:
    """The value below which a share `q` of a field's values lies; float64, named after the percentile:
    `quantile("ms", 0.99)` is `q99_ms`, `quantile("ms", 0.999)` is `q99_9_ms`.

    Groups of up to 512 values have the exact quantile, between two neighbours in proportion, as `numpy.quantile`.
    Larger ones are kept as a t-digest of about 20 KB: of a million values its result has a rank that is at most about
    0.01 from 0.5, 0.004 from 0.1 and 0.9, 0.0005 from 0.01 and 0.99, 0.00005 from 0.999 (the largest of ten
    trials; a t-digest has no guaranteed bound). Several quantiles of one field share it.

    NaN and missing values are left out; NaN where there is nothing else.

    Args:
        field: of numbers.
        q: from 0, the lowest, to 1, the highest value.

    Raises:
        TopologyError: `q` is out of range, or the package `datasketches` isn't installed.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, quantile
        >>> rows = [("a", 1.0), ("a", 2.0), ("a", 6.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(quantile("price", 0.75), low=quantile("price", 0)).execute_and_collect()
        [Record(shop='a', q75_price=4.0, low=1.0)]
    """
    if not 0 <= q <= 1:
        raise TopologyError(f"quantile: {q} is no share", hint="from 0 to 1: 0.5 for the median, 0.99 for p99")
    sketch_library("quantile")
    return Aggregate(f"q{_percent(q)}_{field}", (field,), partial(_quantile, field, q))


def quantiles(field: str, shares: Sequence[float]) -> tuple[Aggregate, ...]:
    """Several quantiles of one field, kept once: `aggregate(*quantiles("ms", [0.5, 0.99]))` gives `q50_ms`, `q99_ms`.

    Raises:
        TopologyError: as `quantile`.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, quantiles
        >>> rows = [("a", 1.0), ("a", 2.0), ("a", 6.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(*quantiles("price", [0, 0.5, 1])).execute_and_collect()
        [Record(shop='a', q0_price=1.0, q50_price=2.0, q100_price=6.0)]
    """
    return tuple(quantile(field, share) for share in shares)


def median(field: str) -> Aggregate:
    """The 0.5-quantile of a field, named `median_FIELD`; see `quantile`.

    Raises:
        TopologyError: the package `datasketches` isn't installed.

    Examples:
        >>> from streamcore import Schema, StreamEnvironment, median
        >>> rows = [("a", 1.0), ("a", 2.0), ("a", 6.0)]
        >>> sales = StreamEnvironment().from_values(rows, Schema.of(shop=str, price=float))
        >>> sales.key_by("shop").aggregate(median("price")).execute_and_collect()
        [Record(shop='a', median_price=2.0)]
    """
    return quantile(field, 0.5).named(f"median_{field}")


def _quantile(field: str, q: float, over: Over) -> Made:
    over.number(field)
    return Made((Digest(field),), lambda parts: quantiles_of(parts[0], q), pa.float64())


def _percent(q: float) -> str:
    return f"{100 * q:.10g}".replace(".", "_")
