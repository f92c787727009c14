"""Running programs over batches, and the interpreter's part: the records on which compiled code gives up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from streamcore.batch import Columns, to_columns
from streamcore.errors import BadRecordError
from streamcore.kernels.functions.layout import Layout
from streamcore.kernels.functions.loops import BLOCK, SEEN
from streamcore.kernels.functions.program import Program

IntArray = np.ndarray[Any, np.dtype[np.int64]]
_MOST_AT_ONCE = 256


class _Loaded:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._loop = program.load()
        self._function = program.function
        self._schema = program.columns
        self._inputs = [name for _, name, _ in program.record.numbers]
        self._dtypes = [program.columns.by_name[name].dtype for name in self._inputs]
        self._progress = np.zeros(2, np.int64)

    def _numbers(self, batch: Columns) -> list[Any] | None:
        """The columns that the loop reads; None for a batch that isn't what its schema says."""
        if batch.schema is not self._schema and batch.schema != self._schema:
            return None
        arrays = [batch.arrays[name] for name in self._inputs]
        for array, dtype in zip(arrays, self._dtypes, strict=True):
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
                return None
        handed_on = self._program.results.handed_on.values()
        if any(_lacks(batch, name) for name in handed_on):
            return None
        return [_laid_out(array) for array in arrays]

    def _rows(self, batch: Columns, start: int, stop: int) -> list[Any]:
        part = batch.slice(start, stop)
        return Columns(self._schema, part.arrays).to_rows() if part.schema == self._schema else part.to_rows()

    def _results(self, batch: Columns, stored: list[Any]) -> Columns:
        out, results = self._program.out, self._program.results
        assert out is not None, "a program without results"
        arrays = {name: array for (name, _), array in zip(results.stored, stored, strict=True)}
        arrays.update({name: batch.arrays[column] for name, column in results.handed_on.items()})
        return Columns(out, arrays)

    def _empty(self, count: int) -> list[Any]:
        out = self._program.out
        return [] if out is None else [np.empty(count, out.by_name[n].dtype) for n, _ in self._program.results.stored]

    def _put(self, stored: list[Any], start: int, results: list[Any]) -> None:
        """Stores the interpreter's results as rows of a typed stream are."""
        out = self._program.out
        assert out is not None, "a program without results"
        columns = to_columns(results, out)
        for (name, _), array in zip(self._program.results.stored, stored, strict=True):
            array[start : start + len(results)] = columns.arrays[name]


def _laid_out(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array as compiled loops take it; a copy where it was a view with gaps."""
    return array if array.flags.c_contiguous and array.flags.aligned else np.array(array)


def _lacks(batch: Columns, name: str) -> bool:
    array = batch.arrays[name]
    return not batch.schema.by_name[name].nullable and not isinstance(array, np.ndarray) and array.null_count > 0


class MapLoop(_Loaded):
    """Runs a compiled map."""

    def run(self, batch: Columns) -> Columns:
        """One record out for each record in.

        Raises:
            BadRecordError: a result doesn't fit the schema.
        """
        function, out, count = self._function, self._program.out, len(batch)
        assert out is not None, "a map has results"
        numbers = self._numbers(batch)
        if numbers is None:
            return to_columns([function(record) for record in self._rows(batch, 0, count)], out)
        stored, start, progress = self._empty(count), 0, self._progress
        while start < count and not _ran(self._loop, start, count, progress, *numbers, *stored):
            block = int(progress[0])
            start = min(block + BLOCK, count)
            self._put(stored, block, [function(record) for record in self._rows(batch, block, start)])
        return self._results(batch, stored)


class FilterLoop(_Loaded):
    """Runs a compiled filter."""

    def run(self, batch: Columns) -> Columns:
        """The records for which the function is true."""
        function, count, progress = self._function, len(batch), self._progress
        numbers = self._numbers(batch)
        if numbers is None:
            return batch.take(_true_rows(function, self._rows(batch, 0, count)))
        kept, start = np.empty(count, np.int64), 0
        progress[1] = 0
        while start < count and not _ran(self._loop, start, count, progress, *numbers, kept):
            block, found = int(progress[0]), int(progress[1])
            start = min(block + BLOCK, count)
            more = block + _true_rows(function, self._rows(batch, block, start))
            kept[found : found + len(more)] = more
            progress[1] = found + len(more)
        found = int(progress[1])
        return batch if found == count else batch.take(kept[:found])


def _true_rows(function: Callable[[Any], object], rows: list[Any]) -> IntArray:
    return np.flatnonzero([bool(function(record)) for record in rows])


class KeyedLoop(_Loaded):
    """Runs a compiled scan, reduce or fold over states in arrays."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        assert program.state is not None, f"a {program.kind} has a state"
        self._layout: Layout = program.state
        self._names = [name for _, name, _ in program.state.numbers]

    def run(self, slots: IntArray, states: Mapping[str, Any], batch: Columns) -> Columns | None:
        """Takes the records in order, each with the state in its slot.

        Args:
            slots: int64 (n,), the place of each record's state in the arrays. One view with gaps costs a copy; arrays
                of states that are views are left to the interpreter.
            states: the arrays of the state's fields (a reduce's also has `SEEN`, bool), changed in place.

        Returns:
            The results, one a record; None for a program without results.

        Raises:
            BadRecordError: a result or state doesn't fit its declared type.
        """
        count, progress = len(batch), self._progress
        slots = slots if slots.flags.carray else np.array(slots)
        arrays = [states[name] for name in self._names]
        seen = [states[SEEN]] if self._program.kind == "reduce" else []
        numbers = self._numbers(batch)
        stored = self._empty(count)
        if numbers is None:
            parts = self._interpret(slots, arrays, seen, batch, 0, count)
            if self._program.out is None:
                return None
            return to_columns(parts, self._program.out)
        start, at_once = 0, 1
        while start < count and not _ran(self._loop, start, count, progress, slots, *arrays, *seen, *numbers, *stored):
            row = int(progress[0])
            at_once = min(2 * at_once, _MOST_AT_ONCE) if row - start < BLOCK else 1
            start = min(row + at_once, count)
            results = self._interpret(slots, arrays, seen, batch, row, start)
            if self._program.out is not None:
                self._put(stored, row, results)
        return None if self._program.out is None else self._results(batch, stored)

    def _interpret(
        self, slots: IntArray, arrays: list[Any], seen: list[Any], batch: Columns, start: int, stop: int
    ) -> list[Any]:
        """Runs some records through the function itself, on the states in the arrays."""
        function, kind, layout = self._function, self._program.kind, self._layout
        rows = self._rows(batch, start, stop)
        opaque = [(i, name) for i, name in enumerate(layout.names) if name not in self._names]
        results = []
        for slot, record in zip(slots[start:stop].tolist(), rows, strict=True):
            if seen and not seen[0][slot]:
                result = new = record
            else:
                values = [array[slot].item() for array in arrays]
                for position, name in opaque:  # a field of the key: the state's is the record's
                    values.insert(position, getattr(record, name))
                result = new = function(layout.build(values), record)
            if kind == "scan":
                new, result = new
            keep_state(layout, new, arrays, slot, record)
            if seen:
                seen[0][slot] = True
            results.append(result)
        return results


def keep_state(layout: Layout, new: Any, arrays: list[Any], slot: int, record: Any) -> None:
    """Puts a state that the interpreter has made into its slot.

    Raises:
        BadRecordError: it isn't of the layout; names the record.
    """
    try:
        values = layout.values(new)
    except ValueError as error:
        raise BadRecordError(
            f"the new state can't be kept in arrays: {error} (on record {record!r})",
            hint="give compiled=False to keep states as Python objects",
        ) from None
    for array, (position, _, _) in zip(arrays, layout.numbers, strict=True):
        array[slot] = values[position]


def _ran(loop: Any, start: int, stop: int, progress: IntArray, *arguments: Any) -> bool:
    """Runs a compiled loop; false when it gave up at a record, from whatever cause: the interpreter then says which."""
    progress[0] = start  # where it has given up if it can't even be called, with arrays that it wasn't compiled for
    try:
        loop(start, stop, progress, *arguments)
    except Exception:  # noqa: BLE001 - the interpreter runs the record again and raises what is to be raised
        return False
    return True
