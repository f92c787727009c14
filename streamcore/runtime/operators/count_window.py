"""Windows by count per key: the last `size` records after every `every`-th (as in Apache Flink)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamcore.batch import Columns, Schema
from streamcore.batch.convert import Batch
from streamcore.runtime.aggregates import Bound, needed_by
from streamcore.runtime.operator import Operator
from streamcore.runtime.operators.restored_windows import restored_windows
from streamcore.runtime.window_kinds import CountWindows
from streamcore.state.counted import CountTable
from streamcore.state.descriptors import TableState


class CountAggregate(Operator):
    """Emits the results of a window when its last record has come. What has not filled a window at the end of the input
    has no result."""

    def __init__(
        self, key: str | tuple[str, ...], windows: CountWindows, aggregates: Sequence[Bound], result: Schema
    ) -> None:
        names = (key,) if isinstance(key, str) else key
        self._key = key
        self._windows = windows
        self._aggregates = aggregates
        self._result = result
        self._table = CountTable(result.select(names), needed_by(aggregates), windows.size, windows.every)

    def open(self) -> None:
        restored_windows(self.context, str(self._windows))
        table = self._table
        self.context.store.declare_table(
            TableState("count windows", self._key, table.captured, table.restore, table.schema)
        )

    def process(self, batch: Batch, port: int) -> None:
        assert isinstance(batch, Columns), "a columnar aggregate got rows"
        completed = self._table.add(batch)
        if completed is None:
            return
        columns, values = completed
        for aggregate in self._aggregates:
            columns.update(aggregate.results(values))
        self.output.emit(Columns(self._result, columns))

    def capture(self, checkpoint_id: int) -> Any:
        return {"windows": str(self._windows)}
