"""The state of one name in one subtask's part of a snapshot, by key group: how each kind of state is taken apart.

A state comes in the form that `checkpoint.parts.read_part` gives it: `{"kind": "value" | "list" | "map", "groups":
{group: bytes}}`, `{"kind": "columnar", "groups", "keys", "columns"}` or `{"kind": "table", "key", "form", "rows"}`.
Records of the user's classes are left as their fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import Columns, Field, Schema, plain
from streamcore.batch.codec import decode_saved
from streamcore.batch.json_values import encode_json
from streamcore.batch.record_forms import SavedRecord
from streamcore.kernels.key_columns import KeyColumns, as_list
from streamcore.kernels.key_index import take_keys
from streamcore.state.key_groups import groups_of

Saved = dict[str, Any]
Row = dict[str, Any]


def table_rows(saved: Saved) -> Columns:
    """The rows of table state."""
    rows = decode_saved(saved["form"], saved["rows"], allow_pickle=False)
    assert isinstance(rows, Columns), "a saved table is columns"
    return rows


def table_keys(saved: Saved, rows: Columns) -> Any:
    """The key of each row of table state; of rows without a key, 0."""
    key = saved["key"]
    if not key:
        return np.zeros(len(rows), np.int64)
    return rows[key] if isinstance(key, str) else KeyColumns([rows[name] for name in key])


def pairs(saved: Saved, *, allow_pickle: bool) -> Iterator[tuple[Any, Any]]:
    """The keys and values of a state: of columnar state a dictionary of fields, of table state one of a row's
    columns."""
    kind = saved["kind"]
    if kind == "columnar":
        columns = [values.tolist() for values in saved["columns"].values()]
        names = list(saved["columns"])
        for key, *values in zip(as_list(saved["keys"]), *columns, strict=True):
            yield key, dict(zip(names, values, strict=True))
    elif kind == "table":
        rows = table_rows(saved)
        for key, row in zip(as_list(table_keys(saved, rows)), rows.to_arrow().to_pylist(), strict=True):
            yield key, row
    else:
        for body in saved["groups"].values():
            for key, value in entries(body, allow_pickle):
                yield key, value


def entries(body: bytes, allow_pickle: bool) -> list[list[Any]]:
    """The [key, value] pairs of one key group of object state."""
    found: list[list[Any]] = plain.decode(body, allow_pickle=allow_pickle, as_fields=True)
    return found


def find(saved: Saved, key: Any, group: int, max_parallelism: int, *, allow_pickle: bool) -> list[Any]:
    """What a state has for one key, of table state several rows perhaps; only the key's group is looked at."""
    kind = saved["kind"]
    if kind == "columnar":
        places = np.flatnonzero(saved["groups"] == group)
        candidates = as_list(take_keys(saved["keys"], places))
        own = [row for row, found in zip(places, candidates, strict=True) if found == key]
        return [{name: values[row].tolist() for name, values in saved["columns"].items()} for row in own]
    if kind == "table":
        rows = table_rows(saved)
        keys = table_keys(saved, rows)
        places = np.flatnonzero(groups_of(keys, max_parallelism) == group) if len(rows) else np.empty(0, np.int64)
        own = [row for row, found in zip(places, as_list(take_keys(keys, places)), strict=True) if found == key]
        found_rows: list[Any] = rows.take(np.array(own, np.int64)).to_arrow().to_pylist()
        return found_rows
    body = saved["groups"].get(group)
    if body is None:
        return []
    return [value for found, value in entries(body, allow_pickle) if found == key]


def count(saved: Saved, *, allow_pickle: bool) -> int:
    """How many keys a state has; of table state, rows."""
    if saved["kind"] == "columnar":
        return len(saved["groups"])
    if saved["kind"] == "table":
        return len(table_rows(saved))
    return sum(len(entries(body, allow_pickle)) for body in saved["groups"].values())


def size_bytes(saved: Saved) -> int:
    """What a state takes; of columnar state, in memory and without its keys."""
    if saved["kind"] == "columnar":
        return int(saved["groups"].nbytes + sum(values.nbytes for values in saved["columns"].values()))
    if saved["kind"] == "table":
        return len(saved["rows"])
    return sum(len(body) for body in saved["groups"].values())


def columns_of(saved: Saved, *, allow_pickle: bool) -> Columns | None:
    """The state as columns, None where it is empty: the key in a column `key` (a key of several fields in `key_0`,
    `key_1`, …), then the fields, or a column `value`; of map state a row for each entry, its key in `map_key`. Table
    state has its own columns."""
    kind = saved["kind"]
    if kind == "table":
        rows = table_rows(saved)
        return rows if len(rows) else None
    if kind == "columnar":
        arrays = {**_key_columns(saved["keys"], set(saved["columns"])), **saved["columns"]}
        return Columns.of(**arrays) if len(saved["groups"]) else None
    found = list(pairs(saved, allow_pickle=allow_pickle))
    if kind == "map":
        flat = [(key, inner, value) for key, entry in found for inner, value in entry.items()]
        keys, values = [key for key, _, _ in flat], [value for _, _, value in flat]
        arrays = {**_key_columns(keys, set()), "map_key": as_arrow([inner for _, inner, _ in flat])}
    else:
        keys, values = [key for key, _ in found], [value for _, value in found]
        arrays = _key_columns(keys, set())
    return _optional({**arrays, **_value_columns(values, set(arrays))}) if keys else None


def as_arrow(values: list[Any]) -> pa.Array:
    """Any values as an Arrow array; where they have no common Arrow type, as JSON."""
    try:
        return pa.array([_for_arrow(value) for value in values])
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.array([encode_json(value).decode() for value in values])


def _key_columns(keys: Any, taken: set[str]) -> dict[str, Any]:
    name = "key" if "key" not in taken else "state_key"
    if isinstance(keys, list) and keys and all(type(key) is tuple and len(key) == len(keys[0]) for key in keys):
        keys = KeyColumns([list(field) for field in zip(*keys, strict=True)]) if keys[0] else keys
    if isinstance(keys, KeyColumns):
        return {f"{name}_{n}": _column(field) for n, field in enumerate(keys.fields)}
    return {name: _column(keys)}


def _column(keys: Any) -> Any:
    return as_arrow(keys) if isinstance(keys, list) else keys


def _value_columns(values: list[Any], taken: set[str]) -> dict[str, Any]:
    """One column a field where all values are records of the same fields."""
    first = values[0] if values else None
    if isinstance(first, SavedRecord) and not taken & first.keys():
        names = list(first)
        if all(isinstance(value, SavedRecord) and list(value) == names for value in values):
            return {name: as_arrow([value[name] for value in values]) for name in names}
    return {"value": as_arrow(values)}


def _optional(arrays: dict[str, Any]) -> Columns:
    """Columns in which any value may be missing: parts of one state must have one schema."""
    arrays = {
        name: as_arrow(array.tolist()) if isinstance(array, np.ndarray) else array for name, array in arrays.items()
    }
    schema = Schema(tuple(Field(name, array.type, nullable=True) for name, array in arrays.items()))
    return Columns(schema, arrays)


def _for_arrow(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _for_arrow(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_for_arrow(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value


def concat(parts: Iterable[Columns]) -> pa.Table:
    """The parts one after the other; where a column has other types in some of them, the more general one, or JSON."""
    tables = [pa.Table.from_batches([part.to_arrow()]) for part in parts]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException:
        rows = [row for table in tables for row in table.to_pylist()]
        names = list(dict.fromkeys(name for table in tables for name in table.column_names))
        return pa.table({name: as_arrow([row.get(name) for row in rows]) for name in names})
