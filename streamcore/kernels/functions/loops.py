"""The source of the one loop over a batch that runs a user's function: loads, the call, stores.

The generated function's arguments are: start and stop row, `progress` (int64[2]), then arrays: the slots and states of
a keyed loop, the numbers of the record, the results. `progress[0]` is the row to go on from when the loop has raised:
that row itself in a keyed loop, the first of its block of rows in one without state, whose inner loop stays free of it.
Indices are unsigned: numba would compare signed ones with zero, to count from the end.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
from numba import from_dtype, types

from streamcore.batch import Field, Schema
from streamcore.kernels.functions.classes import is_tuple_class
from streamcore.kernels.functions.emit import show
from streamcore.kernels.functions.layout import WIDE, Kind, Layout, Shape
from streamcore.kernels.functions.records import ColumnValue, numba_type
from streamcore.kernels.functions.refusal import NotCompilableError

BLOCK = 64
"""Rows that are run again by the interpreter when a function without state gives up on one of them."""

SEEN = "seen?"
"""The state field of a reduce that says whether the key has had a record; no Python name, so none of the user's."""


@dataclasses.dataclass(frozen=True)
class Results:
    """Where the columns of a result come from.

    Attributes:
        stored: (field of the result's schema, position in the returned value) of those that the loop writes.
        handed_on: field → column of the record whose values it takes as they are.
    """

    stored: tuple[tuple[str, int], ...]
    handed_on: dict[str, str]

    def as_text(self) -> str:
        """For the first line of the generated file."""
        return json.dumps([self.stored, self.handed_on])

    @staticmethod
    def from_text(text: str) -> Results:
        """The inverse of `as_text`."""
        stored, handed_on = json.loads(text)
        return Results(tuple((name, position) for name, position in stored), handed_on)


NO_RESULTS = Results((), {})


def plan_results(returned: Any, record: Schema, out: Schema) -> Results:
    """How a returned value of a numba type becomes the columns of `out`.

    Raises:
        NotCompilableError: it has another number of fields, or a column of another type is handed on.
    """
    if not isinstance(returned, types.BaseTuple):
        raise NotCompilableError(f"returns {show(returned)}, not a record of {out}")
    cls = returned.instance_class.stands_for if isinstance(returned, types.BaseNamedTuple) else None
    if cls is not None and not is_tuple_class(cls):
        missing = [name for name in out.names if name not in returned.fields]
        if missing:
            raise NotCompilableError(f"returns a {cls.__name__}, which has no field {missing[0]!r}")
        positions = [returned.fields.index(name) for name in out.names]
    else:
        if len(returned) != len(out.fields):
            raise NotCompilableError(f"returns {len(returned)} values, not the {len(out.fields)} of {out}")
        positions = list(range(len(returned)))
    stored: list[tuple[str, int]] = []
    handed_on: dict[str, str] = {}
    for field, position in zip(out.fields, positions, strict=True):
        value = returned.types[position]
        if isinstance(value, ColumnValue):
            _check_handed_on(field, record.by_name[value.column])
            handed_on[field.name] = value.column
        elif field.dtype is None or field.width or field.dtype == np.float16:
            raise NotCompilableError(f"field {field} of the result can only be taken from a column of the record")
        else:
            stored.append((field.name, position))
    return Results(tuple(stored), handed_on)


def _check_handed_on(field: Field, column: Field) -> None:
    if column.type != field.type or (column.nullable and not field.nullable):
        raise NotCompilableError(f"column {column} is handed on as {field}")


def map_source(record: Layout, columns: Schema, results: Results) -> str:
    """For each row: `results = function(record)`."""
    body = [f"result = function({_record(record, columns)})", *_stores(results)]
    return _blocks(_arguments(_inputs(record), _outputs(results)), body, counting=False)


def filter_source(record: Layout, columns: Schema) -> str:
    """The rows where `function(record)` is true, gathered in `kept`; `progress[1]` is how many there are."""
    body = ["kept[np.uint64(count)] = row", f"count += truth(function({_record(record, columns)}))"]
    return _blocks(_arguments(_inputs(record), ["kept"]), body, counting=True)


def _blocks(arguments: str, body: list[str], *, counting: bool) -> str:
    lines = [f"def loop(start, stop, progress, {arguments}):"]
    lines += ["    count = progress[1]"] * counting
    lines += [f"    for block in range(start, stop, {BLOCK}):", "        progress[0] = block"]
    lines += ["        progress[1] = count"] * counting
    lines += [f"        for row in range(block, min(block + {BLOCK}, stop)):"]
    lines += [f"            {line}" for line in ["i = np.uint64(row)", *body]]
    lines += ["    progress[1] = count"] * counting
    return "\n".join(lines) + "\n"


def keyed_source(kind: str, record: Layout, columns: Schema, state: Layout, results: Results) -> str:
    """For each row, with the state of its slot: a scan's `(state, result) = function(state, record)`, a reduce's or a
    fold's `state = function(state, record)`, whose result is the state. States are stored when nothing can fail
    any more."""
    new = [f"new_{i} = {_part('state', state, i)}" for i, _, _ in state.numbers]
    call = f"function(make_state({', '.join(f's_{i}[slot]' for i, _, _ in state.numbers)}), record)"
    seen: list[str] = []
    if kind == "scan":
        body = [f"state, result = {call}", *new]
    elif kind == "fold":
        body = [f"state = {call}", *new]
    else:
        seen = ["seen"]
        body = ["if seen[slot]:", f"    state = {call}", "else:", "    state = record", *new, "result = state"]
    body = ["i = np.uint64(row)", "slot = np.uint64(slots[i])", f"record = {_record(record, columns)}", *body]
    body += [f"out_{i} = store_{i}(result[{position}])" for i, (_, position) in enumerate(results.stored)]
    body += [f"o_{i}[i] = out_{i}" for i in range(len(results.stored))]
    body += [f"s_{i}[slot] = new_{i}" for i, _, _ in state.numbers] + ["seen[slot] = True"] * len(seen)
    states = [f"s_{i}" for i, _, _ in state.numbers]
    arguments = _arguments(["slots"], states, seen, _inputs(record), _outputs(results))
    lines = [f"def loop(start, stop, progress, {arguments}):", "    for row in range(start, stop):"]
    return "\n".join([*lines, *(f"        {line}" for line in ["progress[0] = row", *body])]) + "\n"


def signature(kind: str, record: Layout, columns: Schema, state: Layout | None, results: Results, out: Any) -> Any:
    """The types of the loop's arguments."""
    inputs = [_array(columns.by_name[name].dtype, readonly=True) for _, name, _ in record.numbers]
    outputs = [_array(out.by_name[name].dtype) for name, _ in results.stored]
    integers = _array(WIDE[Kind.INT])
    keyed: list[Any] = []
    if state is not None:
        keyed = [integers, *(_array(WIDE[number]) for _, _, number in state.numbers)]
        keyed += [_array(WIDE[Kind.BOOL])] * (kind == "reduce")
    kept = [integers] * (kind == "filter")
    return types.void(types.int64, types.int64, integers, *keyed, *inputs, *outputs, *kept)


def _array(dtype: Any, *, readonly: bool = False) -> Any:
    return types.Array(from_dtype(np.dtype(dtype)), 1, "C", readonly=readonly)


def check_state(returned: Any, state: Layout) -> None:
    """Refuses a function whose new state is not exactly like the old one.

    Raises:
        NotCompilableError: names the field that differs.
    """
    wanted = numba_type(state)
    returned = types.unliteral(returned)
    if returned == wanted:
        return
    if isinstance(returned, types.BaseTuple) and isinstance(wanted, types.BaseTuple) and len(returned) == len(wanted):
        for name, old, new in zip(state.names, wanted.types, returned.types, strict=True):
            if old != new:
                raise NotCompilableError(f"the new state has {name} {_word(new)}, the old one {_word(old)}")
    raise NotCompilableError(f"the new state is {show(returned)}, the old one {show(wanted)}")


def _word(number: Any) -> str:
    return {types.int64: "int", types.float64: "float", types.boolean: "bool"}.get(number) or show(number)


def _part(value: str, layout: Layout, position: int) -> str:
    return value if layout.shape is Shape.SCALAR else f"{value}[{position}]"


def _record(record: Layout, columns: Schema) -> str:
    loads = []
    for position, name, _ in record.numbers:
        load, dtype = f"c_{position}[i]", columns.by_name[name].dtype
        if dtype == np.uint64:
            load = f"from_uint64({load})"
        elif dtype not in WIDE.values():
            load = f"np.{WIDE[record.kinds[position]].name}({load})"
        loads.append(load)
    return f"make_record({', '.join(loads)})"


def _inputs(record: Layout) -> list[str]:
    return [f"c_{position}" for position, _, _ in record.numbers]


def _outputs(results: Results) -> list[str]:
    return [f"o_{i}" for i in range(len(results.stored))]


def _stores(results: Results) -> list[str]:
    return [f"o_{i}[i] = store_{i}(result[{position}])" for i, (_, position) in enumerate(results.stored)]


def _arguments(*names: list[str]) -> str:
    return ", ".join(name for group in names for name in group)
