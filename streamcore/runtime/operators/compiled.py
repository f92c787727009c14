"""map, filter, scan and reduce of typed streams, their functions compiled: columns in, columns out."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import Array, Batch, Columns, Schema, to_columns
from streamcore.kernels.functions.layout import Kind, array_schema, kind_of
from streamcore.kernels.functions.loops import SEEN
from streamcore.kernels.functions.program import Program
from streamcore.kernels.functions.run import FilterLoop, KeyedLoop, MapLoop
from streamcore.runtime.keys import KeySelector
from streamcore.runtime.operator import Operator
from streamcore.runtime.operators.state_forms import reduce_form, scan_form
from streamcore.state.columnar import ColumnarTable
from streamcore.state.descriptors import ColumnarState
from streamcore.state.evolution import OtherForm


class MapColumns(Operator):
    """One record out for each record in."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def open(self) -> None:
        self._loop = MapLoop(self._program)

    def process(self, batch: Batch, port: int) -> None:
        self.output.emit(self._loop.run(_typed(batch, self._program.columns)))


class FilterColumns(Operator):
    """The records for which the predicate is true."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def open(self) -> None:
        self._loop = FilterLoop(self._program)

    def process(self, batch: Batch, port: int) -> None:
        self.output.emit(self._loop.run(_typed(batch, self._program.columns)))


class _Keyed(Operator):
    def __init__(self, key: KeySelector, program: Program) -> None:
        self._key = key
        self._program = program
        self._table: ColumnarTable

    def open(self) -> None:
        self._loop = KeyedLoop(self._program)
        self._table = self.context.store.declare(self._descriptor(), other_form=self._other_form())

    def _descriptor(self) -> ColumnarState:
        raise NotImplementedError

    def _other_form(self) -> OtherForm | None:
        raise NotImplementedError

    def process(self, batch: Batch, port: int) -> None:
        table, columns = self._table, _typed(batch, self._program.columns)
        slots = table.slots(self._key.keys(columns))
        states = {name: table[name] for name in table.descriptor.schema.names}
        results = self._loop.run(slots, states, columns)
        if results is not None:
            self.output.emit(results)


class ScanColumns(_Keyed):
    """`function(state, record) -> (state, result)` along the records of each key, the states in arrays."""

    def __init__(self, key: KeySelector, program: Program, initial: Any) -> None:
        super().__init__(key, program)
        self._initial = initial

    def _descriptor(self) -> ColumnarState:
        layout = self._program.state
        assert layout is not None, "a scan has a state"
        first = dict(zip(layout.names, layout.values(self._initial), strict=True))
        return ColumnarState("scan", array_schema(layout), partial(_repeated, first))

    def _other_form(self) -> OtherForm | None:
        return scan_form(self._initial)


class ReduceColumns(_Keyed):
    """Folds the records of each key; without results of the program's, emits the folded records at the end."""

    def _descriptor(self) -> ColumnarState:
        return ColumnarState("reduce", array_schema(self._program.record, {SEEN: Kind.BOOL}))

    def _other_form(self) -> OtherForm | None:
        return reduce_form(self._program.columns, self._key)

    def finish(self) -> None:
        if self._program.out is None and len(self._table):
            self.output.emit(self._folded())

    def _folded(self) -> Columns:
        schema, table = self._program.columns, self._table
        arrays: dict[str, Any] = {}
        for field in schema.fields:
            if kind_of(field) is Kind.OPAQUE:
                arrays[field.name] = pa.array(self._key_values(field.name), field.type)
            else:
                arrays[field.name] = table[field.name].copy()
        wide = Columns(Schema(schema.fields, schema.row_type), arrays)
        if all(_fits(arrays[field.name], field.dtype) for field in schema.fields if kind_of(field) is not Kind.OPAQUE):
            for field in schema.fields:
                if kind_of(field) is not Kind.OPAQUE:
                    arrays[field.name] = arrays[field.name].astype(field.dtype, copy=False)
            return Columns(schema, arrays)
        return to_columns(wide.to_rows(), schema)  # raises and names the record

    def _key_values(self, name: str) -> list[Any]:
        keys = self._table.keys
        if self._key.single:
            return list(keys)
        place = self._key.fields.index(name)
        return [key[place] for key in keys]


def _fits(values: Any, dtype: Any) -> bool:
    if dtype.kind not in "iu" or not len(values):
        return True
    limits = np.iinfo(dtype)
    return int(values.min()) >= limits.min and int(values.max()) <= limits.max


def _repeated(first: dict[str, Any], keys: Array) -> dict[str, Any]:
    return {name: np.full(len(keys), value) for name, value in first.items()}


def _typed(batch: Batch, schema: Schema) -> Columns:
    """The batch with the stream's own schema, which knows the rows' class; one from another process doesn't."""
    assert isinstance(batch, Columns), "a compiled function got rows"
    if batch.schema is not schema and batch.schema == schema:
        return Columns(schema, batch.arrays)
    return batch
