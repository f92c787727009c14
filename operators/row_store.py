"""Columns that are added a batch at a time and read by row number."""

from __future__ import annotations

import numpy as np

from streamcore import Columns, Schema
from streamcore.operators.event_time_buffer import no_rows
from streamcore.operators.joining import Rows


class RowStore:
    """Records, numbered from 0 in the order of their coming.

    They lie in a few parts, each of more than twice the next one's size, so each is copied a number of times that
    grows with the logarithm of how many there are.

    Example:
        >>> store = RowStore(Schema.of(n=int))
        >>> for n in (10, 20, 30):
        ...     store.add(Columns.of(n=np.array([n])))
        >>> places, columns = store.take(np.array([2, 0]))
        >>> sorted(zip(places.tolist(), columns["n"].tolist()))
        [(0, 30), (1, 10)]
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.parts: list[Columns] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, columns: Columns) -> None:
        """Adds records behind the others."""
        if len(columns) == 0:
            return
        self._size += len(columns)
        parts = [*self.parts, Columns(self.schema, columns.arrays)]
        while len(parts) > 1 and len(parts[-2]) <= 2 * len(parts[-1]):
            parts[-2:] = [Columns.concat(parts[-2:])]
        self.parts = parts

    def take(self, rows: Rows) -> tuple[Rows, Columns]:
        """Some records (n,), which may repeat: the place in `rows` of each result, and the results, in an order
        that suits the store."""
        if len(self.parts) <= 1:
            return np.arange(len(rows)), self.rows().take(rows)
        taken, at, start = [], [], 0
        for part in self.parts:
            here = np.flatnonzero((rows >= start) & (rows < start + len(part)))
            if len(here):
                taken.append(part.take(rows[here] - start))
                at.append(here)
            start += len(part)
        if not taken:
            return np.empty(0, np.int64), no_rows(self.schema)
        return np.concatenate(at), Columns.concat(taken)

    def rows(self) -> Columns:
        """All records, in order."""
        return Columns.concat(self.parts) if self.parts else no_rows(self.schema)

    def keep(self, rows: Rows) -> None:
        """Forgets all records but some, which get the numbers from 0; `rows` is in order, each once."""
        kept = self.rows().take(rows)
        self._size = len(kept)
        self.parts = [kept] if len(kept) else []
