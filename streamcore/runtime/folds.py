"""Folds: a group's state that the user's own functions add records to, merge, and read. The state is kept in arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamcore.batch import Columns, Field, Schema
from streamcore.kernels.functions.build import state_schema
from streamcore.kernels.functions.interpret import InterpretedFold, InterpretedMap
from streamcore.kernels.functions.layout import WIDE, Layout
from streamcore.kernels.functions.program import Program
from streamcore.kernels.functions.run import KeyedLoop, MapLoop
from streamcore.state.accumulators import Accumulating, Entries, Numbers, Part


@dataclass(frozen=True)
class Step:
    """A function of the user's, and what it was compiled to, if it was."""

    function: Callable[..., Any]
    program: Program | None


@dataclass(frozen=True, eq=False)
class Fold:
    """An accumulator by the user's functions.

    Attributes:
        columns: of the stream's records.
        state: the state's layout.
        first: the values of the state before the first record.
        add_step: `function(state, record) -> state`.
        merge_step: `function(state, state) -> state`; without it groups can't be merged.
    """

    columns: Schema
    state: Layout
    first: tuple[Any, ...]
    add_step: Step
    merge_step: Step | None

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """An array per value of the state."""
        values = zip(self.state.numbers, self.first, strict=True)
        return tuple(Part(f"fold_{name}", WIDE[kind], value) for (_, name, kind), value in values)

    def add(self, totals: Sequence[Numbers], entries: Entries, batch: Columns) -> None:
        """Adds records in order: record i to the state in entries[i]."""
        self._adding.run(entries, self._named(totals), batch)

    def merge(self, totals: Sequence[Numbers], entries: Entries, partial: Sequence[Numbers]) -> None:
        """Merges states, the i-th into that in entries[i]."""
        self._merging.run(entries, self._named(totals), Columns(state_schema(self.state), self._named(partial)))

    def _named(self, arrays: Sequence[Numbers]) -> dict[str, Numbers]:
        return {name: array for (_, name, _), array in zip(self.state.numbers, arrays, strict=True)}

    @functools.cached_property
    def _adding(self) -> KeyedLoop | InterpretedFold:
        return self._loop(self.add_step, self.columns)

    @functools.cached_property
    def _merging(self) -> KeyedLoop | InterpretedFold:
        assert self.merge_step is not None, "a fold without merge is computed in one stage, over windows side by side"
        return self._loop(self.merge_step, state_schema(self.state))

    def _loop(self, step: Step, columns: Schema) -> KeyedLoop | InterpretedFold:
        return KeyedLoop(step.program) if step.program else InterpretedFold(step.function, self.state, columns)

    def __getstate__(self) -> tuple[Any, ...]:
        return (self.columns, self.state, self.first, self.add_step, self.merge_step)  # loops are loaded where they run

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for name, value in zip(("columns", "state", "first", "add_step", "merge_step"), state, strict=True):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class BoundFold:
    """A fold as an aggregate: its results are those of `result`, or the states themselves."""

    fold: Fold
    result: Step | None
    out: Schema

    @property
    def accumulators(self) -> tuple[Fold, ...]:
        """The fold itself."""
        return (self.fold,)

    @property
    def columns(self) -> tuple[Field, ...]:
        """The fields of the results."""
        return self.out.fields

    def results(self, values: Mapping[Accumulating, Sequence[Numbers]]) -> dict[str, Any]:
        """The results of n groups from their states, part by part; (n,) each."""
        schema = state_schema(self.fold.state)
        states = dict(zip(schema.names, values[self.fold], strict=True))
        return self._loop.run(Columns(schema, states)).arrays if self.result is not None else states

    @functools.cached_property
    def _loop(self) -> MapLoop | InterpretedMap:
        assert self.result is not None, "a fold without a function for its results"
        if self.result.program is not None:
            return MapLoop(self.result.program)
        return InterpretedMap(self.result.function, state_schema(self.fold.state), self.out)

    def __getstate__(self) -> tuple[Any, ...]:
        return (self.fold, self.result, self.out)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for name, value in zip(("fold", "result", "out"), state, strict=True):
            object.__setattr__(self, name, value)
