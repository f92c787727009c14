"""The inner join of two streams by key, without windows: each record meets all of the other stream so far."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore import (
    CoBatchFunction,
    ColumnarState,
    ColumnarTable,
    Columns,
    Context,
    DataStream,
    Schema,
    TableState,
    kernel,
)
from streamcore.operators.joining import JoinFields, Rows, key_of
from streamcore.operators.row_store import RowStore


def stream_join(
    left: DataStream[Any], right: DataStream[Any], *, on: str | tuple[Any, Any], suffix: str = "_right"
) -> DataStream[Any]:
    """Every pair of a left and a right record with equal keys, as soon as both have come: a symmetric hash join
    (Wilschut and Apers 1991). It keeps the records of both streams for good, so their number must have a bound;
    `interval_join` forgets them.

    The results have the left's fields, and those of the right that aren't its key.

    Args:
        on: a field that both have, or the left's and the right's: a field or a tuple of fields each. Missing values
            are equal to each other.
        suffix: what is added to the names of those of the right's fields whose names the left has too.

    Raises:
        JoinError: the streams lack such keys, or two fields would have one name.

    Example:
        >>> from streamcore import StreamEnvironment
        >>> env = StreamEnvironment()
        >>> sales = env.from_values([(1, "pen"), (2, "ink"), (1, "nib")], Schema.of(seller=int, item=str))
        >>> people = env.from_values([(1, "ann"), (3, "cat")], Schema.of(id=int, name=str))
        >>> joined = stream_join(sales, people, on=("seller", "id"))
        >>> sorted((record.name, record.item) for record in joined.execute_and_collect())
        [('ann', 'nib'), ('ann', 'pen')]
    """
    fields = JoinFields("stream_join", left, right, on, suffix=suffix)
    keyed = left.connect(right).key_by(fields.left_key, fields.right_key)
    return keyed.process(StreamJoin(fields), returns=fields.result).name("join")


class StreamJoin(CoBatchFunction[Any]):
    """Keeps both streams' records in a chain per key. Keyed by the fields to join on."""

    def __init__(self, fields: JoinFields) -> None:
        self._fields = fields
        self._left, self._right = ChainedRows(fields.left), ChainedRows(fields.right)

    def open(self, ctx: Context[Any]) -> None:
        fields = self._fields
        self._keys = ColumnarTable(ColumnarState("keys", Schema(())))
        ctx.table_state(TableState("left", fields.left_key, self._left.rows, self._restore_left))
        ctx.table_state(TableState("right", fields.right_key, self._right.rows, self._restore_right))

    def process_first(self, columns: Columns, ctx: Context[Any]) -> None:
        slots = self._keys.slots(key_of(columns, self._fields.left_key))
        own_rows, others = self._right.meet(slots)
        self._left.add(columns, slots)
        if others is not None:
            ctx.emit_batch(self._fields.results(columns.take(own_rows), others))

    def process_second(self, columns: Columns, ctx: Context[Any]) -> None:
        slots = self._keys.slots(key_of(columns, self._fields.right_key))
        own_rows, others = self._left.meet(slots)
        self._right.add(columns, slots)
        if others is not None:
            ctx.emit_batch(self._fields.results(others, columns.take(own_rows)))

    def _restore_left(self, rows: Columns) -> None:
        self._left.add(rows, self._keys.slots(key_of(rows, self._fields.left_key)))

    def _restore_right(self, rows: Columns) -> None:
        self._right.add(rows, self._keys.slots(key_of(rows, self._fields.right_key)))


class ChainedRows:
    """One stream's records, those of each slot linked from the newest to the oldest."""

    def __init__(self, schema: Schema) -> None:
        self.store = RowStore(schema)
        self._newest = np.full(64, -1, np.int64)
        self._count = np.zeros(64, np.int64)
        self._older = np.empty(64, np.int64)

    def add(self, columns: Columns, slots: Rows) -> None:
        """Adds records, each to the chain of its slot (n,)."""
        if len(columns) == 0:
            return
        first = len(self.store)
        slot_count = int(slots.max()) + 1
        self._newest = _longer(self._newest, slot_count, -1)
        self._count = _longer(self._count, slot_count, 0)
        self._older = _longer(self._older, first + len(columns), -1)
        link(slots, first, self._newest, self._count, self._older)
        self.store.add(columns)

    def meet(self, slots: Rows) -> tuple[Rows, Columns | None]:
        """All records in the chains of some slots (n,): the place in `slots` of each, and the records; None instead
        of no records."""
        places, rows = follow(slots, self._newest, self._count, self._older)
        if len(rows) == 0:
            return places, None
        order, columns = self.store.take(rows)
        return places[order], columns

    def rows(self) -> Columns:
        """All records, in the order of their coming, for a snapshot."""
        return self.store.rows()


@kernel
def link(slots: Rows, first_row: int, newest: Rows, count: Rows, older: Rows) -> None:
    """Puts rows `first_row`, `first_row` + 1, … at the heads of their slots' chains."""
    for place in range(len(slots)):
        slot, row = slots[place], first_row + place
        older[row] = newest[slot]
        newest[slot] = row
        count[slot] += 1


@kernel
def follow(slots: Rows, newest: Rows, count: Rows, older: Rows) -> tuple[Rows, Rows]:
    """All rows in the chains of some slots: for each its place in `slots`, and its number."""
    total = 0
    for slot in slots:
        if slot < len(count):
            total += count[slot]
    places, rows = np.empty(total, np.int64), np.empty(total, np.int64)
    pair = 0
    for place in range(len(slots)):
        slot = slots[place]
        row = newest[slot] if slot < len(newest) else -1
        while row >= 0:
            places[pair] = place
            rows[pair] = row
            pair += 1
            row = older[row]
    return places, rows


def _longer(array: Rows, length: int, fill: int) -> Rows:
    """The array, or one of at least twice its length with room for `length`."""
    if length <= len(array):
        return array
    bigger = np.full(max(length, 2 * len(array)), fill, np.int64)
    bigger[: len(array)] = array
    return bigger
