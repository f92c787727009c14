"""The interpreter's way to run what could not be compiled, over the same columns and arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streamcore.batch import Columns, Schema, to_columns, to_rows
from streamcore.kernels.functions.layout import Layout
from streamcore.kernels.functions.run import IntArray, keep_state


class InterpretedFold:
    """Runs `function(state, record) -> state` over states in arrays, as `KeyedLoop` does."""

    def __init__(self, function: Callable[[Any, Any], Any], state: Layout, columns: Schema) -> None:
        self._function = function
        self._state = state
        self._columns = columns

    def run(self, slots: IntArray, states: Mapping[str, Any], batch: Columns) -> None:
        """Takes the records in order, each with the state in its slot; see `KeyedLoop.run`."""
        function, build = self._function, self._state.build
        arrays = [states[name] for _, name, _ in self._state.numbers]
        for slot, record in zip(slots.tolist(), to_rows(batch, self._columns), strict=True):
            new = function(build([array[slot].item() for array in arrays]), record)
            keep_state(self._state, new, arrays, slot, record)


class InterpretedMap:
    """Runs `function(record) -> result`, as `MapLoop` does."""

    def __init__(self, function: Callable[[Any], Any], columns: Schema, out: Schema) -> None:
        self._function = function
        self._columns = columns
        self._out = out

    def run(self, batch: Columns) -> Columns:
        """One record out for each record in."""
        function = self._function
        return to_columns([function(record) for record in to_rows(batch, self._columns)], self._out)
