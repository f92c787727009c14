"""What trends: counts per key that halve with time, and the k keys with the highest, period by period."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import (
    BatchFunction,
    ColumnarState,
    ColumnarTable,
    Columns,
    Context,
    DataStream,
    Field,
    Schema,
    TableState,
    TopologyError,
    col,
    lit,
    sum_of,
    tumbling,
)
from streamcore.operators.event_time_buffer import no_rows
from streamcore.operators.joining import key_of
from streamcore.operators.top_k import RANK, by_window, highest

SCORE, WEIGHT, END = "score", "weight", "window_end"

RANKED = Field(RANK, pa.int64())

ONE = 1 << 32
"""A weight of 1. Weights are whole multiples of 2**-32, so that a sum of them is the same in any order."""

_FIRST_LIMIT = 1024


class DecayError(TopologyError):
    """The stream has no such fields, or a number is out of range."""


def decayed_counts(
    stream: DataStream[Any],
    by: str | tuple[str, ...],
    *,
    half_life: float,
    every: float,
    k: int,
    forget: float = 0.01,
    time: str = "time",
) -> DataStream[Any]:
    """The `k` keys with the highest scores at the end of each period in which there are records.

    A key's score at a time `now` is the sum of `0.5 ** ((now - t) / half_life)` over its records before `now`, each
    weight being rounded to 2**-32. A record costs O(1): its weight is that at the end of its period, weights are added
    up before and after the exchange, and a key's sum is scaled only when it gets another (forward decay: Cormode,
    Shkapenyuk, Srivastava, Xu, ICDE 2009). All scores shrink alike, so only the k highest of the period's own keys and
    the k of the last period have to be compared.

    The results have the key's fields, `window_end` (milliseconds, the period's end), `score` and `rank` from 1;
    among equals, the lower key comes first.

    Args:
        by: a field or several.
        half_life: seconds of event time in which a score halves.
        every: the length of a period in seconds of event time.
        forget: a key whose score has sunk below it starts from 0 again, and its state goes. So the number of keys that
            are kept is at most about `records per half-life / (ln 2 * forget)`, however many there have ever been.
        time: the field with event time, int64 milliseconds. Records that come after their period are dropped.

    Raises:
        DecayError: there is no such field, one is named as a result is, or a number is out of range.

    Example:
        >>> from streamcore import StreamEnvironment, monotonous
        >>> words = [("a", 0), ("a", 500), ("b", 1000), ("c", 5000)]
        >>> stream = StreamEnvironment().from_values(words, Schema.of(word=str, time=int))
        >>> stream = stream.assign_watermarks(monotonous("time"))
        >>> top = decayed_counts(stream, "word", half_life=1, every=2, k=2).execute_and_collect()
        >>> sorted((r.window_end, r.rank, r.word, round(r.score, 3)) for r in top)
        [(2000, 1, 'a', 0.604), (2000, 2, 'b', 0.5), (6000, 1, 'c', 0.5), (6000, 2, 'a', 0.038)]
    """
    fields = (by,) if isinstance(by, str) else by
    schema = _checked(stream, fields, time)
    half_life_ms, every_ms = round(half_life * 1000), round(every * 1000)
    if half_life_ms < 1 or every_ms < 1 or k < 1 or not forget > 0:
        raise DecayError(
            f"decayed_counts(half_life={half_life}, every={every}, k={k}, forget={forget}) can't be",
            hint="half_life and every are at least a millisecond, k is at least 1, and forget is above 0",
        )
    key = schema.select(fields)
    age = (col(time) // every_ms + 1) * every_ms - col(time)
    weighted = stream.select(*fields, time, weight=(lit(0.5) ** (age / half_life_ms) * ONE).round().cast(int))
    sums = weighted.key_by(by).window(tumbling(every), time=time).aggregate(weight=sum_of(WEIGHT))
    scored = Schema((*key.fields, Field(END, pa.int64()), Field(SCORE, pa.float64())))
    scores = sums.key_by(by).process(DecayedCounts(by, scored, half_life_ms, k, forget), returns=scored)
    top = DecayedTop(by, scored, half_life_ms, k, forget)
    best = scores.name("decayed counts").key_by(END).process(top, returns=Schema((*scored.fields, RANKED)))
    return best.name(f"top {k} by decayed count").parallelism(1)


class DecayedCounts(BatchFunction[Any]):
    """Adds each period's sums of weights to the scores. Gives the k highest of the period's keys here. Keyed."""

    def __init__(self, by: str | tuple[str, ...], scored: Schema, half_life_ms: int, k: int, forget: float) -> None:
        self._by = by
        self._scored = scored
        self._key = Schema(tuple(field for field in scored.fields if field.name not in (END, SCORE)))
        self._half_life_ms = half_life_ms
        self._k = k
        self._forget = forget
        self._keys: list[Columns] = []  # of the rows of the table, in order

    def open(self, ctx: Context[Any]) -> None:
        self._clear()
        ctx.table_state(TableState("scores", self._by, self._rows, self._restore))

    def process(self, columns: Columns, ctx: Context[Any]) -> None:
        for end, part in by_window(columns, END):
            ctx.emit_batch(self._add(end, part))
        if len(self._table) > self._limit and ctx.watermark is not None:
            # what comes later ends later, so a key that counts as forgotten at the watermark will do so then
            self._restore(self._kept(ctx.watermark + 1))

    def _add(self, end: int, part: Columns) -> Columns:
        slots = self._slots(part)
        scores, ends = self._table[SCORE], self._table["at"]
        before = scores[slots] * decay(np.maximum(end - ends[slots], 0), self._half_life_ms)  # of new keys: 0
        before[before < self._forget] = 0.0
        scores[slots] = before + part[WEIGHT] / ONE
        ends[slots] = end
        names = {name: part.encoded(name) for name in self._key.names}
        return highest(Columns(self._scored, {**names, END: ends[slots], SCORE: scores[slots]}), self._k, SCORE)

    def _slots(self, part: Columns) -> Any:
        size = len(self._table)
        slots = self._table.slots(key_of(part, self._by))
        new = np.flatnonzero(slots >= size)
        if len(new):
            self._keys.append(part.select(*self._key.names).take(new[np.argsort(slots[new], kind="stable")]))
        return slots

    def _rows(self) -> Columns:
        if not self._keys:
            return no_rows(self._scored)
        self._keys = [Columns.concat(self._keys)]
        arrays = {END: self._table["at"].copy(), SCORE: self._table[SCORE].copy()}
        return Columns(self._scored, {**self._keys[0].arrays, **arrays})

    def _kept(self, now: int) -> Columns:
        rows = self._rows()
        return rows.filter(rows[SCORE] * decay(now - rows[END], self._half_life_ms) >= self._forget)

    def _clear(self) -> None:
        self._table = ColumnarTable(ColumnarState("scores", Schema.of(score=float, at=int)))
        self._keys = []
        self._limit = _FIRST_LIMIT

    def _restore(self, rows: Columns) -> None:
        self._clear()
        slots = self._slots(rows)
        self._table[SCORE][slots] = rows[SCORE]
        self._table["at"][slots] = rows[END]
        self._limit = max(_FIRST_LIMIT, 2 * len(rows))


class DecayedTop(BatchFunction[Any]):
    """The k highest of all keys at the end of each period: of those of the period before, and of the period's own."""

    def __init__(self, by: str | tuple[str, ...], scored: Schema, half_life_ms: int, k: int, forget: float) -> None:
        self._by = by
        self._scored = scored
        self._ranked = Schema((*scored.fields, RANKED))
        self._half_life_ms = half_life_ms
        self._k = k
        self._forget = forget
        self._best = no_rows(scored)
        self._waiting: list[Columns] = []

    def open(self, ctx: Context[Any]) -> None:
        self._watermark = ctx.watermark
        ctx.table_state(TableState("best", END, self._rows, self._restore))

    def process(self, columns: Columns, ctx: Context[Any]) -> None:
        self._waiting.append(Columns(self._scored, columns.arrays))

    def on_watermark(self, time_ms: int, ctx: Context[Any]) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = Columns.concat(self._waiting), []
        is_due = waiting[END] - 1 <= time_ms
        if not is_due.all():
            self._waiting.append(waiting.filter(~is_due))
        for end, part in by_window(waiting.filter(is_due), END):
            self._best = self._merge(end, part)
            ranks = np.arange(1, len(self._best) + 1, dtype=np.int64)
            ctx.emit_batch(Columns(self._ranked, {**self._best.arrays, RANK: ranks}))

    def _merge(self, end: int, part: Columns) -> Columns:
        old = self._best
        shrunk = old[SCORE] * decay(end - old[END], self._half_life_ms)
        old = Columns(self._scored, {**old.arrays, END: np.full(len(old), end), SCORE: shrunk})
        both = Columns.concat([old, part])
        slots = ColumnarTable(ColumnarState("keys", Schema(()))).slots(key_of(both, self._by))
        newest = np.zeros(int(slots.max()) + 1, np.int64)
        newest[slots] = np.arange(len(both))  # of two rows of one key the period's own, which comes later
        both = both.take(newest)
        return highest(both.filter(both[SCORE] >= self._forget), self._k, SCORE)

    def _rows(self) -> Columns:
        return Columns.concat([self._best, *self._waiting])

    def _restore(self, rows: Columns) -> None:
        is_best = np.zeros(len(rows), bool) if self._watermark is None else rows[END] - 1 <= self._watermark
        rows = Columns(self._scored, rows.arrays)
        self._best = rows.filter(is_best)
        self._waiting = [rows.filter(~is_best)] if not is_best.all() else []


def decay(age_ms: Any, half_life_ms: int) -> Any:
    """By what a score shrinks in that time; float64 (n,)."""
    return 0.5 ** (age_ms / half_life_ms)


def _checked(stream: DataStream[Any], fields: tuple[str, ...], time: str) -> Schema:
    schema = stream.schema
    if schema is None or any(name not in schema.by_name for name in (*fields, time)):
        raise DecayError(f"decayed_counts needs the fields {', '.join((*fields, time))}", hint=f"there are {schema}")
    if schema.by_name[time].dtype != np.int64:
        raise DecayError(f"decayed_counts: {schema.by_name[time]} is no event time", hint="it is int64 milliseconds")
    if taken := {END, SCORE, RANK, WEIGHT}.intersection(fields):
        raise DecayError(f"decayed_counts makes a field {min(taken)!r}, and the key has one", hint="rename the key's")
    return schema
