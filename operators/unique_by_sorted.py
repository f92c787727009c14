"""Events and unique users per key and period, counted in one pass over records sorted by key and user."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from streamcore import Columns, DataStream, Field, OutputTag, Schema, TopologyError
from streamcore.operators.periods import Period, Times, period_end
from streamcore.operators.revisions import END, REVISION, START, Revising, Revisions
from streamcore.operators.secondary_sort import changes, sort_by, sums

EVENTS, USERS = "events", "users"


def unique_by_sorted(
    stream: DataStream[Any],
    by: str | tuple[str, ...],
    user: str,
    *,
    period: Period,
    every: float = 86_400.0,
    lateness: float | None = None,
    time: str = "time",
    late: OutputTag[Any] | None = None,
) -> DataStream[Any]:
    """How many records and how many different users each key has in each period of the calendar (UTC).

    This is MapReduce's secondary sort (Dean and Ghemawat, OSDI 2004; "value-to-key conversion"): records are
    partitioned by key but sorted by key *and* user, so that a user's records lie side by side, and a count goes up by
    one wherever the user changes. No set of users is built. Of a period, the sorted run of (key, user, events) is kept;
    the records of a slice of event time are sorted and merged with it.

    Each result is a revision (see `revisions.py`): the key's fields, `period_start`, `period_end` (exclusive;
    milliseconds), `events`, `users`, `revision` from 1.

    Args:
        by: the key: a field, or several.
        user: a field that is never missing.
        every: seconds of event time between two revisions; a revision costs time in what its periods have so far.
        lateness: for how many seconds after a period's end its state is kept, to be corrected; None: for good.
        late: the side output for records that come later still (the key's fields, the user, the time).

    Raises:
        TopologyError: there is no such field, one is named as a result is, or a number is out of range.

    Example:
        >>> from streamcore import StreamEnvironment, monotonous
        >>> plays = [("jazz", 1, 0), ("jazz", 2, 10), ("jazz", 1, 20), ("rock", 1, 30)]
        >>> stream = StreamEnvironment().from_values(plays, Schema.of(genre=str, user=int, time=int))
        >>> stream = stream.assign_watermarks(monotonous("time"))
        >>> results = unique_by_sorted(stream, "genre", "user", period="day").execute_and_collect()
        >>> sorted((r.genre, r.events, r.users, r.revision) for r in results)
        [('jazz', 3, 2, 1), ('rock', 1, 1, 1)]
    """
    revising = Revising.of(by, time, every, period, lateness, late)
    schema = stream.schema
    wanted = (*revising.key, user, time)
    if schema is None or any(name not in schema.by_name for name in wanted):
        raise TopologyError(f"unique_by_sorted needs the fields {', '.join(wanted)}", hint=f"there are {schema}")
    if schema.by_name[user].nullable:
        raise TopologyError(
            f"unique_by_sorted: {schema.by_name[user]} may be missing", hint='filter_batch(col("…").is_not_null())'
        )
    if taken := {START, END, EVENTS, USERS, REVISION}.intersection(revising.key):
        raise TopologyError(f"unique_by_sorted makes a field {min(taken)!r}, and the key has one")
    function = UniqueBySorted(revising, schema, user)
    keyed = stream.select(*wanted).key_by(by)
    return keyed.process(function, returns=function.lines, tags=revising.tags).name(f"unique {user} per {period}")


class UniqueBySorted(Revisions):
    """Keeps a row per key, user and period: how many events. Keyed."""

    def __init__(self, revising: Revising, schema: Schema, user: str) -> None:
        key = schema.select(revising.key).fields
        start, events, revision = (Field(name, pa.int64()) for name in (START, EVENTS, REVISION))
        rows = Schema((*key, schema.by_name[user], start, events, revision))
        super().__init__(revising, schema.select((*revising.key, user, revising.time)), rows)
        self._order = (*revising.key, user)
        self._user = user
        self._rows_schema = rows
        self.lines = Schema((*key, start, *(Field(name, pa.int64()) for name in (END, EVENTS, USERS, REVISION))))
        """The type of the results."""

    def fresh(self, columns: Columns, starts: Times) -> Columns:
        one, none = np.ones(len(columns), np.int64), np.zeros(len(columns), np.int64)
        arrays = {name: columns.encoded(name) for name in self._order}
        return Columns(self._rows_schema, {**arrays, START: starts, EVENTS: one, REVISION: none})

    def merge(self, rows: Columns) -> tuple[Columns, Columns]:
        key, period = self._revising.key, self._revising.period
        assert period is not None, "unique users of no period"
        rows = sort_by(rows, self._order)
        is_user, is_key = changes(rows, self._order), changes(rows, key)
        user_starts, key_starts = np.flatnonzero(is_user), np.flatnonzero(is_key)
        is_new = np.minimum.reduceat(rows[REVISION], key_starts) == 0
        revisions = np.maximum.reduceat(rows[REVISION], key_starts) + is_new
        key_of_row = np.cumsum(is_key) - 1

        kept = rows.take(user_starts)
        arrays = {EVENTS: sums(rows[EVENTS], user_starts), REVISION: revisions[key_of_row[user_starts]]}
        kept = Columns(self._rows_schema, {**kept.arrays, **arrays})

        first = rows.take(key_starts)
        results = {
            START: first[START],
            END: period_end(first[START], period),
            EVENTS: sums(rows[EVENTS], key_starts),
            USERS: sums(is_user.astype(np.int64), key_starts),
            REVISION: revisions,
        }
        lines = Columns(self.lines, {**{name: first.encoded(name) for name in key}, **results})
        return kept, lines.filter(is_new)
