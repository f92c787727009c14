"""Partial results per batch, to be combined behind an exchange: MapReduce's combiner (Dean and Ghemawat, 2004)."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow as pa

from streamcore import Aggregate, Columns, DataStream, Field, Schema, TopologyError, max_of, min_of, sum_of

_COMBINE = {"sum": sum_of, "count": sum_of, "min": min_of, "max": max_of}

Part = tuple[str, str]
"""(field, function): what of which field."""


class PartialAggregateError(TopologyError):
    """The stream has no such fields, or they can't be aggregated so."""


def partial_aggregate(stream: DataStream[Any], by: str | tuple[str, ...], **parts: Part) -> DataStream[Any]:
    """One record per key of each batch: the key's fields, and what each part is over the key's records of that batch.

    It keeps nothing, so it costs no snapshot and needs no exchange. How many results there are depends on how the
    stream was cut into batches; what `combined` makes of them doesn't (but for the rounding of sums of floats).
    Built-in aggregates do the same by themselves (`two_stage` of the environment); this is for functions of your own
    behind it, and for partial results that go over a network of your own.

    Args:
        by: the fields of the key.
        parts: name of the result -> (field, function): "sum", "count", "min" or "max" of a field of plain numbers.

    Raises:
        PartialAggregateError: a field isn't there or isn't a plain number, or there is no such function.

    Example:
        >>> from streamcore import Schema, StreamEnvironment
        >>> readings = [("a", 20.0), ("b", 10.0), ("a", 22.0)]
        >>> stream = StreamEnvironment().from_values(readings, Schema.of(sensor=str, celsius=float))
        >>> parts = {"total": ("celsius", "sum"), "n": ("celsius", "count")}
        >>> means = partial_aggregate(stream, "sensor", **parts).key_by("sensor").aggregate(**combined(parts))
        >>> sorted((record.sensor, record.total / record.n) for record in means.execute_and_collect())
        [('a', 21.0), ('b', 10.0)]
    """
    schema, names = stream.schema, by if isinstance(by, tuple) else (by,)
    if schema is None or not names or any(name not in schema.by_name for name in names):
        raise PartialAggregateError(
            f"partial_aggregate needs the fields {names}", hint=f"the stream's type is {schema}"
        )
    fields = []
    for name, (field, function) in parts.items():
        known = schema.by_name.get(field)
        if known is None or known.dtype is None or known.width or known.dtype.kind == "b":
            raise PartialAggregateError(f"partial_aggregate: {field!r} must be a plain number", hint=f"{schema}")
        if function not in _COMBINE:
            raise PartialAggregateError(
                f"partial_aggregate: there is no {function!r}", hint=f"there are: {', '.join(_COMBINE)}"
            )
        is_float = known.dtype.kind == "f" and function != "count"
        fields.append(Field(name, pa.float64() if is_float else pa.int64()))
    if not parts or set(parts) & set(names):
        raise PartialAggregateError("partial_aggregate needs parts, named otherwise than the key's fields")
    out = Schema((*schema.select(names).fields, *fields))
    return stream.map_batch(partial(_per_key, names, parts, out), returns=out).name(f"partial by {', '.join(names)}")


def combined(parts: dict[str, Part]) -> dict[str, Aggregate]:
    """The aggregates that make final results of partial ones, under the same names: counts are summed, too."""
    return {name: _COMBINE[function](name) for name, (_, function) in parts.items()}


def _per_key(by: tuple[str, ...], parts: dict[str, Part], out: Schema, columns: Columns) -> Columns:
    table = pa.Table.from_batches([columns.to_arrow()]).group_by(list(by), use_threads=False)
    grouped = table.aggregate(list(parts.values()))
    names = {name: f"{field}_{function}" for name, (field, function) in parts.items()} | {name: name for name in by}
    chosen = [grouped.column(names[name]).cast(field.type) for name, field in out.by_name.items()]
    return Columns(out, dict(zip(out.names, chosen, strict=True)))
