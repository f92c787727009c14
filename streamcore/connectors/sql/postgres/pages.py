"""How a table is polled: the queries for its pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from psycopg import sql

from streamcore.batch import Schema
from streamcore.connectors.sql.postgres.column_types import select_list
from streamcore.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Polling:
    """What is read: see `PostgresSource`.

    Attributes:
        rows: the table, or the query in parentheses, as `streamcore_rows`.
        name: of the table, for messages.
        cursor: the columns by which rows are in order.
    """

    rows: sql.Composable
    name: str
    schema: Schema
    cursor: tuple[str, ...]
    bounded: bool
    every_s: float
    lag_s: float | None
    splits: int
    page_rows: int

    @property
    def what(self) -> str:
        """What is being done, for messages."""
        return f"read {self.name}"

    def probe(self) -> sql.Composed:
        """Reads nothing, but as the pages do."""
        return sql.SQL("SELECT {} FROM {} LIMIT 0").format(select_list(self.schema), self.rows)

    def cursor_probe(self) -> sql.Composed:
        """Reads nothing of the cursor's columns."""
        columns = sql.SQL(", ").join(map(column, self.cursor))
        return sql.SQL("SELECT {} FROM {} LIMIT 0").format(columns, self.rows)

    def end(self) -> sql.Composed:
        """The last order there is now."""
        order = column(self.cursor[0])
        conditions = [sql.SQL("{} IS NOT NULL").format(order), *self.lag()]
        return sql.SQL("SELECT {}::text FROM {} WHERE {} ORDER BY {} DESC LIMIT 1").format(
            order, self.rows, sql.SQL(" AND ").join(conditions), order
        )

    def lag(self) -> list[sql.Composable]:
        """What keeps rows out that are too young; nothing without lag."""
        if self.lag_s is None:
            return []
        order = column(self.cursor[0])
        return [sql.SQL("{} <= now() - make_interval(secs => {})").format(order, sql.Literal(self.lag_s))]


@dataclasses.dataclass(frozen=True)
class Pages:
    """The pages of one part.

    Attributes:
        number: of the part.
        types: of the cursor's columns, as SQL calls them.
        end: the last order to read, as text; None: there is none.
    """

    polling: Polling
    number: int
    types: tuple[str, ...]
    end: str | None

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to read when a bounded source started."""
        return self.polling.bounded and self.end is None

    def after(self, last: Sequence[str] | None) -> sql.Composed:
        """The rows after `last`, the values of the cursor's columns as texts (None: from the first), in order; behind
        their own columns those of the cursor as texts.

        Raises:
            UsageError: `last` is of a snapshot of another cursor.
        """
        polling = self.polling
        names = list(map(column, polling.cursor))
        types = list(map(sql.SQL, self.types))
        conditions: list[sql.Composable] = [sql.SQL("{} IS NOT NULL").format(name) for name in names]
        if last is not None:
            if len(last) != len(names):
                raise UsageError(
                    f"the snapshot of {polling.name} has a position of {len(last)} columns, and the source now"
                    f" has {len(names)}: {', '.join(polling.cursor)}",
                    hint="give the same order and key as before, or start without the snapshot",
                )
            values = [sql.SQL("{}::{}").format(sql.Literal(v), t) for v, t in zip(last, types, strict=True)]
            conditions.append(sql.SQL("({}) > ({})").format(sql.SQL(", ").join(names), sql.SQL(", ").join(values)))
        if self.end is not None:
            conditions.append(sql.SQL("{} <= {}::{}").format(names[0], sql.Literal(self.end), types[0]))
        if polling.splits > 1:
            part = sql.SQL("abs(hashtext({}::text)::bigint) % {} = {}")
            conditions.append(part.format(names[-1], sql.Literal(polling.splits), sql.Literal(self.number)))
        conditions += polling.lag()
        return sql.SQL("SELECT {}, {} FROM {} WHERE {} ORDER BY {} LIMIT {}").format(
            select_list(polling.schema),
            sql.SQL(", ").join([sql.SQL("{}::text").format(name) for name in names]),
            polling.rows,
            sql.SQL(" AND ").join(conditions),
            sql.SQL(", ").join(names),
            sql.Literal(polling.page_rows),
        )


def column(name: str) -> sql.Identifier:
    """A column of what is read, not of the result that is called the same."""
    return sql.Identifier("streamcore_rows", name)
