"""The state of scan, reduce and count in columns and as objects: a job that was compiled goes on interpreted, and the
other way round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from streamcore.batch import Schema
from streamcore.batch.widening import first_value
from streamcore.kernels.functions.layout import WIDE, Kind, Layout, record_layout, state_layout
from streamcore.kernels.functions.loops import SEEN
from streamcore.kernels.functions.refusal import NotCompilableError
from streamcore.runtime.keys import KeySelector
from streamcore.state.evolution import OtherForm, Pairs

COUNT = OtherForm(
    ("count",),
    lambda name: 0,
    lambda counts: {"count": np.array(counts, np.int64)},
    lambda keys, columns: list(zip(keys, columns["count"].tolist(), strict=True)),
)


def scan_form(initial: Any) -> OtherForm | None:
    """States that begin as `initial`; None: they have no form in columns."""
    try:
        layout = state_layout(initial)
    except NotCompilableError:
        return None
    first = dict(zip(layout.names, layout.values(initial), strict=True))

    def to_values(keys: list[Any], columns: Mapping[str, Any]) -> Pairs:
        fields = [columns[name].tolist() for name in layout.names]
        return [(key, layout.build(values)) for key, *values in zip(keys, *fields, strict=True)]

    return OtherForm(layout.names, lambda name: first[name], lambda states: _columns(layout, states), to_values)


def reduce_form(columns: Schema | None, key: KeySelector) -> OtherForm | None:
    """Folded records of a stream; None: they have no form in columns. Fields that are no numbers are the key's."""
    if columns is None:
        return None
    try:
        layout = record_layout(columns)
    except NotCompilableError:
        return None
    numbers = tuple(name for _, name, _ in layout.numbers)
    if set(layout.names) - {*numbers, *key.fields}:
        return None

    def to_columns(records: list[Any]) -> Mapping[str, Any]:
        return {**_columns(layout, records), SEEN: np.ones(len(records), np.bool_)}

    def to_values(keys: list[Any], arrays: Mapping[str, Any]) -> Pairs:
        fields = [
            arrays[name].tolist() if kind is not Kind.OPAQUE else _part(keys, key, name)
            for name, kind in zip(layout.names, layout.kinds, strict=True)
        ]
        rows = zip(arrays[SEEN].tolist(), keys, *fields, strict=True)
        return [(found, layout.build(values)) for seen, found, *values in rows if seen]

    def first(name: str) -> Any:
        return first_value(columns, columns.by_name[name], "state 'reduce'")

    return OtherForm((*numbers, SEEN), first, to_columns, to_values)


def _columns(layout: Layout, objects: list[Any]) -> dict[str, Any]:
    rows = [layout.values(each) for each in objects]
    return {name: np.array([row[place] for row in rows], WIDE[kind]) for place, name, kind in layout.numbers}


def _part(keys: list[Any], key: KeySelector, name: str) -> list[Any]:
    return keys if key.single else [each[key.fields.index(name)] for each in keys]
