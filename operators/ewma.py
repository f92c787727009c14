"""Exponentially weighted moving averages per key, with the spread of the readings around them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import (
    BatchFunction,
    ColumnarState,
    Columns,
    Context,
    DataStream,
    Field,
    Schema,
    TopologyError,
    kernel,
)
from streamcore.operators.joining import key_of

AVERAGE, EXPECTED, SPREAD = "ewma", "expected", "spread"

_STATE = Schema.of(mean=float, variance=float, first_share=float, last_ms=np.int64, seen=np.int64)
"""Per key. `first_share` is how much of the average still is the first value."""


class EwmaError(TopologyError):
    """The average can't be made of such a stream, or with such a weight."""


def ewma(
    stream: DataStream[Any],
    by: str | tuple[str, ...],
    value: str,
    *,
    alpha: float | None = None,
    half_life: float | None = None,
    time: str = "time",
) -> DataStream[Any]:
    """Every record with the moving average of its key, `new = alpha * value + (1 - alpha) * last`; the first is the
    value itself. Compiled.

    Three fields are added, float64: `ewma`, the average with this record; `expected`, the average before it; `spread`,
    the square root of the moving average (of equal weights) of the squared differences between values and what was
    expected, before it. A value that is further from `expected` than a few times `spread` is out of the ordinary.
    Both are NaN for a key's first record, and `spread` until the first value is no more than half of the average.

    Args:
        by: the fields of the key.
        value: a field of numbers. A value that is NaN changes nothing.
        alpha: the weight of a new value, above 0 and at most 1.
        half_life: instead of `alpha`, in seconds: the weight of what was falls by half in that time, so readings
            may come at any intervals. (RiskMetrics' average, for uneven intervals as in Eckner, "Algorithms for
            Unevenly Spaced Time Series", 2014: the form in which the new value holds for the interval before it.)
            A record that is no later than the last of its key has no weight.
        time: with `half_life`, the field with the record's time: int64 milliseconds.

    Raises:
        EwmaError: a field isn't there or has no numbers, or the weight isn't one of the two.

    Example:
        >>> from streamcore import Schema, StreamEnvironment
        >>> readings = StreamEnvironment().from_values([("a", 10.0), ("a", 20.0)], Schema.of(sensor=str, celsius=float))
        >>> [record.ewma for record in ewma(readings, "sensor", "celsius", alpha=0.1).execute_and_collect()]
        [10.0, 11.0]
    """
    schema = stream.schema
    if schema is None:
        raise EwmaError("ewma needs a typed stream", hint="give the source or the map before it a type")
    if (alpha is None) == (half_life is None):
        raise EwmaError("ewma needs either alpha or half_life", hint="alpha=0.1, or half_life=minutes(30)")
    if alpha is not None and not 0 < alpha <= 1:
        raise EwmaError(f"ewma: alpha is {alpha}", hint="it is above 0 and at most 1")
    if half_life is not None and not 0 < half_life < math.inf:
        raise EwmaError(f"ewma: the half-life is {half_life} s", hint="it is above 0")
    for name in (value,) if half_life is None else (value, time):
        field = schema.by_name.get(name)
        if field is None or field.dtype is None or field.width:
            raise EwmaError(f"ewma: {name!r} must be a plain number", hint=f"the stream's type is {schema}")
    if half_life is not None and not pa.types.is_integer(schema.by_name[time].type):
        raise EwmaError(f"ewma: {time!r} must be whole milliseconds", hint=f"the stream's type is {schema}")
    added = [Field(name, pa.float64()) for name in (AVERAGE, EXPECTED, SPREAD)]
    if taken := [field.name for field in added if field.name in schema.by_name]:
        raise EwmaError(f"ewma adds a field {taken[0]!r}, and there is one already", hint=f"{schema}")
    out = Schema((*schema.fields, *added))
    weight = ByCount(alpha) if alpha is not None else ByTime(half_life or 0.0, time)
    function = Ewma(out, by, value, weight)
    return stream.key_by(by).process(function, returns=out).name(f"ewma of {value}")


class ByCount:
    """Every value has the same weight when it comes."""

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha

    def update(self, slots: Any, values: Any, columns: Columns, state: Mapping[str, Any]) -> Any:
        """(average, expected, spread) of each record; float64 (n,) each."""
        no_times = slots  # which nothing reads without a rate
        return _update(slots, values, no_times, self._alpha, 0.0, *state.values())


class ByTime:
    """What was loses half its weight in `half_life` seconds."""

    def __init__(self, half_life: float, time: str) -> None:
        self._rate = math.log(2) / (half_life * 1000)
        self._time = time

    def update(self, slots: Any, values: Any, columns: Columns, state: Mapping[str, Any]) -> Any:
        """(average, expected, spread) of each record; float64 (n,) each."""
        times = columns[self._time].astype(np.int64, copy=False)
        return _update(slots, values, times, 0.0, self._rate, *state.values())


class Ewma(BatchFunction[Any]):
    """Keeps average and spread of each key. Keyed by `by`."""

    def __init__(self, schema: Schema, by: str | tuple[str, ...], value: str, weight: ByCount | ByTime) -> None:
        self._schema = schema
        self._by = by
        self._value = value
        self._weight = weight

    def open(self, ctx: Context[Any]) -> None:
        self._state = ctx.state(ColumnarState("ewma", _STATE))

    def process(self, columns: Columns, ctx: Context[Any]) -> None:
        slots = self._state.slots(key_of(columns, self._by))
        values = columns[self._value].astype(np.float64, copy=False)
        state = {name: self._state[name] for name in _STATE.names}
        average, expected, spread = self._weight.update(slots, values, columns, state)
        arrays = {**columns.arrays, AVERAGE: average, EXPECTED: expected, SPREAD: spread}
        ctx.emit_batch(Columns(self._schema, arrays))


@kernel
def _update(
    slots: Any, values: Any, times: Any, alpha: float, rate: float,
    mean: Any, variance: Any, first_share: Any, last_ms: Any, seen: Any,
) -> Any:  # fmt: skip
    """With a rate, the weight of a value is that of the time since the last one: 1 - exp(-rate * milliseconds)."""
    n = len(slots)
    average, expected, spread = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        slot, x = slots[i], values[i]
        expected[i] = mean[slot] if seen[slot] else np.nan
        spread[i] = np.sqrt(variance[slot]) if seen[slot] and first_share[slot] <= 0.5 else np.nan
        if not np.isnan(x):
            if seen[slot]:
                weight = alpha
                if rate > 0.0:
                    weight = -np.expm1(-rate * max(times[i] - last_ms[slot], 0))
                    last_ms[slot] = max(times[i], last_ms[slot])
                deviation = x - mean[slot]
                mean[slot] = weight * x + (1.0 - weight) * mean[slot]
                variance[slot] = weight * deviation * deviation + (1.0 - weight) * variance[slot]
                first_share[slot] *= 1.0 - weight
            else:
                mean[slot], first_share[slot] = x, 1.0
                if rate > 0.0:
                    last_ms[slot] = times[i]
            seen[slot] += 1
        average[i] = mean[slot] if seen[slot] else np.nan
    return average, expected, spread
