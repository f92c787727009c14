"""Lets a key's records through at a limited rate of event time: a token bucket per key."""

from __future__ import annotations

import math
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
    OutputTag,
    Schema,
    TopologyError,
    kernel,
)
from streamcore.operators.joining import key_of

HELD_BACK = "held_back"

_STATE = Schema.of(known=bool, latest_us=np.int64, full_us=np.int64, held_back=np.int64)
"""Per key: the time of the latest record, and when the bucket will be full again; microseconds."""


class RateLimitError(TopologyError):
    """The stream has no such fields, or the rate can't be."""


def rate_limit(
    stream: DataStream[Any],
    by: str | tuple[str, ...],
    *,
    every: float,
    at_once: int = 1,
    time: str = "time",
    excess: OutputTag[Any] | None = None,
) -> DataStream[Any]:
    """The records for which their key has a token, in the order in which they come; the others are held back for good.

    A key's bucket holds at most `at_once` tokens, is full at the key's first record, and gets a token every `every`
    seconds of event time. Counted as times instead of tokens (the generic cell rate algorithm, ITU-T I.371), so it is
    exact and the same for any batches. A record that comes after later ones is taken as of the latest. Of every
    key 25 bytes and the key are kept. Compiled.

    The results have a field more, `held_back` (int64): how many of the key were held back since its last result.

    Args:
        by: the fields of the key.
        every: seconds, a microsecond or more.
        time: the field with the record's time: int64 milliseconds.
        excess: the side output for what is held back, of the stream's type.

    Raises:
        RateLimitError: a field isn't there, the time isn't whole milliseconds, there is a field `held_back` already,
            or a number is out of range.

    Example:
        >>> from streamcore import Schema, StreamEnvironment, minutes
        >>> alerts = [("web", 0), ("web", 1_000), ("web", 2_000), ("mail", 2_000), ("web", 61_000)]
        >>> stream = StreamEnvironment().from_values(alerts, Schema.of(service=str, time=int))
        >>> limited = rate_limit(stream, "service", every=minutes(1)).execute_and_collect()
        >>> [(record.service, record.time, record.held_back) for record in limited]
        [('web', 0, 0), ('mail', 2000, 0), ('web', 61000, 2)]
    """
    schema, names = stream.schema, by if isinstance(by, tuple) else (by,)
    if schema is None or not names or any(name not in schema.by_name for name in names):
        raise RateLimitError(f"rate_limit needs the fields {names}", hint=f"the stream's type is {schema}")
    field = schema.by_name.get(time)
    if field is None or field.dtype is None or not pa.types.is_integer(field.type):
        raise RateLimitError(f"rate_limit: {time!r} must be whole milliseconds", hint=f"the stream's type is {schema}")
    if HELD_BACK in schema.by_name:
        raise RateLimitError(f"rate_limit adds a field {HELD_BACK!r}, and there is one already", hint=f"{schema}")
    if not 1e-6 <= every < math.inf or at_once < 1:
        raise RateLimitError(
            f"rate_limit(every={every}, at_once={at_once}) can't be",
            hint="every is a microsecond or more, at_once 1 or more",
        )
    out = Schema((*schema.fields, Field(HELD_BACK, pa.int64())))
    function = RateLimit(out, by, time, round(every * 1e6), at_once, excess)
    tags = [] if excess is None else [excess]
    return stream.key_by(by).process(function, returns=out, tags=tags).name(f"limit of each {', '.join(names)}")


class RateLimit(BatchFunction[Any]):
    """Keeps when each key's bucket will be full. Keyed by `by`."""

    def __init__(
        self,
        schema: Schema,
        by: str | tuple[str, ...],
        time: str,
        every_us: int,
        at_once: int,
        excess: OutputTag[Any] | None,
    ) -> None:
        self._schema = schema
        self._by = by
        self._time = time
        self._every_us = every_us
        self._slack_us = every_us * (at_once - 1)
        self._excess = excess

    def open(self, ctx: Context[Any]) -> None:
        self._state = ctx.state(ColumnarState("buckets", _STATE))

    def process(self, columns: Columns, ctx: Context[Any]) -> None:
        slots = self._state.slots(key_of(columns, self._by))
        times = columns[self._time].astype(np.int64, copy=False)
        state = [self._state[name] for name in _STATE.names]
        passes, held_back = _pass(slots, times, self._every_us, self._slack_us, *state)
        ctx.emit_batch(Columns(self._schema, {**columns.arrays, HELD_BACK: held_back}).filter(passes))
        if self._excess is not None and not passes.all():
            ctx.side_output_batch(self._excess, columns.filter(~passes))


@kernel
def _pass(
    slots: Any, times: Any, every_us: int, slack_us: int, known: Any, latest_us: Any, full_us: Any, held_back: Any
) -> Any:
    """Whether each record passes, bool (n,), and how many of its key were held back before it, int64 (n,)."""
    passes, before = np.empty(len(slots), np.bool_), np.empty(len(slots), np.int64)
    for i in range(len(slots)):
        slot, now = slots[i], times[i] * 1000
        if not known[slot]:
            known[slot], latest_us[slot], full_us[slot] = True, now, now
        now = latest_us[slot] = max(latest_us[slot], now)
        passes[i] = full_us[slot] - now <= slack_us
        before[i] = held_back[slot]
        if passes[i]:
            full_us[slot] = max(full_us[slot], now) + every_us
            held_back[slot] = 0
        else:
            held_back[slot] += 1
    return passes, before
