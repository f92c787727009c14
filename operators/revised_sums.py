"""Sums per key, of a period or of all time, as revisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import Columns, DataStream, Field, OutputTag, Schema, TopologyError
from streamcore.operators.periods import Period, Times, period_end
from streamcore.operators.revisions import END, REVISION, START, Revising, Revisions
from streamcore.operators.secondary_sort import changes, sort_by, sums


def revised_sums(
    stream: DataStream[Any],
    by: str | tuple[str, ...],
    fields: tuple[str, ...],
    *,
    every: float,
    period: Period | None = None,
    lateness: float | None = None,
    time: str = "time",
    late: OutputTag[Any] | None = None,
) -> DataStream[Any]:
    """The sums of integer fields per key, each a revision (see `revisions.py`): the key's fields, `period_start` and
    `period_end` if there is a period, the sums, `revision` from 1.

    Changes are summed like anything else: a record of -1 retracts one of 1.

    Args:
        fields: integers of 64 bits, never missing.
        every: seconds of event time between two revisions.
        period: a period of the calendar (UTC), or None for sums over all time.
        lateness: for how many seconds after a period's end its sums are kept, to be corrected; None: for good.
        late: the side output for records that come later still.

    Raises:
        TopologyError: there is no such field, one can't be summed, or a number is out of range.

    Example:
        >>> from streamcore import StreamEnvironment, monotonous
        >>> sold = [("pen", 2, 0), ("ink", 1, 400), ("pen", 3, 1500)]
        >>> stream = StreamEnvironment().from_values(sold, Schema.of(item=str, number=int, time=int))
        >>> stream = stream.assign_watermarks(monotonous("time"))
        >>> results = revised_sums(stream, "item", ("number",), every=1).execute_and_collect()
        >>> sorted((r.item, r.revision, r.number) for r in results)
        [('ink', 1, 1), ('pen', 1, 2), ('pen', 2, 5)]
    """
    revising = Revising.of(by, time, every, period, lateness, late)
    schema = stream.schema
    wanted = (*revising.key, *fields, time)
    if schema is None or any(name not in schema.by_name for name in wanted):
        raise TopologyError(f"revised_sums needs the fields {', '.join(wanted)}", hint=f"there are {schema}")
    for name in fields:
        if schema.by_name[name].dtype != np.int64:
            raise TopologyError(
                f"revised_sums of {schema.by_name[name]}: sums of fractions would depend on their order",
                hint="int64 fields that are never missing; count small units, such as cents",
            )
    if taken := {START, END, REVISION}.intersection((*revising.key, *fields)):
        raise TopologyError(f"revised_sums makes a field {min(taken)!r}, and there is one already")
    function = RevisedSums(revising, schema, fields)
    keyed = stream.select(*dict.fromkeys(wanted)).key_by(by)
    return keyed.process(function, returns=function.lines, tags=revising.tags).name("revised sums")


class RevisedSums(Revisions):
    """Keeps a row per key and period: the sums. Keyed."""

    def __init__(self, revising: Revising, schema: Schema, fields: tuple[str, ...]) -> None:
        key, summed = schema.select(revising.key).fields, schema.select(fields).fields
        start, end, revision = (Field(name, pa.int64()) for name in (START, END, REVISION))
        rows = Schema((*key, start, *summed, revision))
        super().__init__(revising, schema.select(dict.fromkeys((*revising.key, *fields, revising.time))), rows)
        self._fields = fields
        self._rows_schema = rows
        times = (start, end) if revising.period is not None else ()
        self.lines = Schema((*key, *times, *summed, revision))
        """The type of the results."""

    def fresh(self, columns: Columns, starts: Times) -> Columns:
        arrays = {name: columns.encoded(name) for name in (*self._revising.key, *self._fields)}
        return Columns(self._rows_schema, {**arrays, START: starts, REVISION: np.zeros(len(columns), np.int64)})

    def merge(self, rows: Columns) -> tuple[Columns, Columns]:
        key, period = self._revising.key, self._revising.period
        rows = sort_by(rows, key)
        starts = np.flatnonzero(changes(rows, key))
        is_new = np.minimum.reduceat(rows[REVISION], starts) == 0
        summed: dict[str, Any] = {name: sums(rows[name], starts) for name in self._fields}
        summed[REVISION] = np.maximum.reduceat(rows[REVISION], starts) + is_new
        kept = Columns(self._rows_schema, {**rows.take(starts).arrays, **summed})
        ends = {} if period is None else {END: period_end(kept[START], period)}
        return kept, Columns(self.lines, {**kept.arrays, **ends}).filter(is_new)
