"""The file of the state of a subtask that is captured step by step: columnar state as arrays, as they lie in memory,
and state of objects as entries in the plain codec, which were encoded between the batches; so that writing it holds
up the stream with no codec.

::

    8 bytes            length of the header, little-endian
    header             plain codec: {"format": 3, "arrays": [[dtype, shape, offset], ...], "tables": [TABLE, ...],
                       "objects": [OBJECTS, ...]}
    body               the arrays, each at its offset from the body's beginning, a multiple of 64

    TABLE = {"uid", "name", "size", "first", "rows": array or None, "keys": [form, ...], "groups": array,
             "columns": {field: array}}         # `array`: its number in "arrays"
    OBJECTS = {"uid", "name", "kind", "whole", "entries": ENTRIES, "removed": ENTRIES}
    ENTRIES = [array of key groups, array of entries in each, array of bytes of each, array: the bytes of all]

The meaning of their parts is that of `streamcore.state.table_capture.SavedTable` and
`streamcore.state.object_capture.SavedObjects`. Format 2 had no objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import plain
from streamcore.checkpoint.object_section import assemble_objects, entries_of, section_of
from streamcore.checkpoint.storage import Buffer
from streamcore.errors import CheckpointError, DamagedCheckpointError
from streamcore.kernels.arrow_text import is_binary
from streamcore.kernels.key_columns import KeyColumns
from streamcore.kernels.key_index import concat_keys
from streamcore.state.object_capture import Entries, SavedObjects
from streamcore.state.table_capture import SavedTable

FORMAT = 3
_ALIGNMENT = 64

Tables = dict[tuple[str, str], SavedTable | SavedObjects]
"""(operator's uid, state name) → what a file has of it."""


def encode_tables(tables: Tables, *, allow_pickle: bool) -> list[Buffer]:
    """The file's content, in pieces that share memory with the arrays.

    Raises:
        StateCodecError: a key has no plain form.
    """
    body = _Body()
    entries = [
        {
            "uid": uid,
            "name": name,
            "size": table.size,
            "first": table.first,
            "rows": None if table.rows is None else body.add(table.rows),
            "keys": _encode_keys(table.keys, body, allow_pickle),
            "groups": body.add(table.groups),
            "columns": {field: body.add(values) for field, values in table.columns.items()},
        }
        for (uid, name), table in tables.items()
        if isinstance(table, SavedTable)
    ]
    objects = [
        {
            "uid": uid,
            "name": name,
            "kind": table.kind,
            "whole": table.is_whole,
            "entries": _encode_entries(table.entries, body),
            "removed": _encode_entries(table.removed, body),
        }
        for (uid, name), table in tables.items()
        if isinstance(table, SavedObjects)
    ]
    header = plain.encode({"format": FORMAT, "arrays": body.arrays, "tables": entries, "objects": objects})
    return [len(header).to_bytes(8, "little"), header, *body.pieces]


def decode_tables(data: bytes, *, allow_pickle: bool, as_fields: bool = False) -> Tables:
    """Reads a file's content; the arrays are views of it. `as_fields`: see `plain.decode`.

    Raises:
        CheckpointError: it was written by a newer version.
        StateCodecError: a key is of a class that isn't loaded, or pickled.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    header = plain.decode(data[8:start])
    if header["format"] > FORMAT:
        raise CheckpointError(
            f"a table file has format {header['format']}, this version reads up to {FORMAT}",
            hint="restore with the version that wrote it, or a newer one",
        )
    arrays = [_array(data, start, *entry) for entry in header["arrays"]]
    tables: Tables = {
        (table["uid"], table["name"]): SavedTable(
            table["size"],
            None if table["rows"] is None else arrays[table["rows"]],
            table["first"],
            _decode_keys(table["keys"], arrays, allow_pickle, as_fields),
            arrays[table["groups"]],
            {field: arrays[number] for field, number in table["columns"].items()},
        )
        for table in header["tables"]
    }
    for table in header.get("objects", ()):
        entries, removed = (_decode_entries(table[side], arrays) for side in ("entries", "removed"))
        tables[table["uid"], table["name"]] = SavedObjects(table["kind"], table["whole"], entries, removed)
    return tables


def assemble(files: Sequence[Tables], *, allow_pickle: bool = False) -> dict[tuple[str, str], dict[str, Any]]:
    """The state that a chain of files stands for, oldest first, in the forms that a `ColumnarTable` and an
    `ObjectTable` restore: `{"kind", "groups", "keys", "columns"}`, one entry per row, and `{"kind", "groups": {group:
    bytes of [[key, value], ...]}}`.

    Raises:
        DamagedCheckpointError: the files don't belong together.
    """
    chains: dict[tuple[str, str], list[SavedTable]] = {}
    objects: dict[tuple[str, str], list[SavedObjects]] = {}
    for tables in files:
        for name, table in tables.items():
            if isinstance(table, SavedObjects):
                if not table.is_whole and name not in objects:
                    raise DamagedCheckpointError(f"state {name[1]!r}: a file has changes of what isn't there")
                objects[name] = [*([] if table.is_whole else objects[name]), table]
                continue
            chain = [] if table.is_whole else chains.get(name, [])
            have = chain[-1].size if chain else 0
            if table.first != have or (not chain and not table.is_whole):
                raise DamagedCheckpointError(f"state {name[1]!r}: a file has row {table.first} next, not row {have}")
            chains[name] = [*chain, table]
    whole = {name: _assembled(chain) for name, chain in chains.items()}
    return whole | {name: assemble_objects(chain, allow_pickle=allow_pickle) for name, chain in objects.items()}


def _assembled(chain: list[SavedTable]) -> dict[str, Any]:
    first, size = chain[0], chain[-1].size
    columns = first.columns
    if len(chain) > 1:
        columns = {}
        for field, values in first.columns.items():
            whole = np.empty((size, *values.shape[1:]), values.dtype)
            whole[: first.size] = values
            for table in chain[1:]:
                whole[table.rows] = table.columns[field]
            columns[field] = whole
    keys, groups = concat_keys([table.keys for table in chain]), np.concatenate([table.groups for table in chain])
    return {"kind": "columnar", "groups": groups, "keys": keys, "columns": columns}


class _Body:
    """The arrays of a file, as they are gathered."""

    def __init__(self) -> None:
        self.arrays: list[list[Any]] = []
        self.pieces: list[Buffer] = []
        self._size = 0

    def add(self, array: np.ndarray[Any, Any]) -> int:
        """Puts an array at the end; returns its number."""
        piece = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        self.arrays.append([array.dtype.str, list(array.shape), self._size])
        padding = -len(piece) % _ALIGNMENT
        self.pieces += [piece, bytes(padding)]
        self._size += len(piece) + padding
        return len(self.arrays) - 1

    def add_bytes(self, pieces: Sequence[Buffer]) -> int:
        """Puts an array of bytes that comes in pieces at the end; returns its number."""
        size = sum(map(len, pieces))
        self.arrays.append(["|u1", [size], self._size])
        padding = -size % _ALIGNMENT
        self.pieces += [*pieces, bytes(padding)]
        self._size += size + padding
        return len(self.arrays) - 1


def _array(data: bytes, start: int, dtype: str, shape: list[int], offset: int) -> np.ndarray[Any, Any]:
    count = int(np.prod(shape))
    return np.frombuffer(data, np.dtype(dtype), count, start + offset if count else 0).reshape(shape)


def _encode_entries(entries: Entries, body: _Body) -> list[int]:
    section, pieces = section_of(entries)
    return [*map(body.add, section), body.add_bytes(pieces)]


def _decode_entries(encoded: list[int], arrays: list[np.ndarray[Any, Any]]) -> Entries:
    groups, counts, sizes, body = (arrays[number] for number in encoded)
    return entries_of((groups, counts, sizes), body.data)


def _encode_keys(keys: Any, body: _Body, allow_pickle: bool) -> list[Any]:
    if isinstance(keys, np.ndarray):
        return ["numbers", body.add(keys)]
    if isinstance(keys, pa.Array):
        start = keys.offset
        _, offsets, content = keys.buffers()
        places = np.frombuffer(offsets, np.int64)[start : start + len(keys) + 1]
        text = np.frombuffer(content, np.uint8)[places[0] : places[-1]]
        missing = np.flatnonzero(keys.is_null().to_numpy(zero_copy_only=False))
        form = "bytes" if is_binary(keys.type) else "text"
        return [form, body.add(places - places[0]), body.add(text), body.add(missing)]
    if isinstance(keys, KeyColumns):
        return ["fields", *(_encode_keys(field, body, allow_pickle) for field in keys.fields)]
    return ["objects", plain.encode(keys, allow_pickle=allow_pickle)]


def _decode_keys(encoded: list[Any], arrays: list[np.ndarray[Any, Any]], allow_pickle: bool, as_fields: bool) -> Any:
    form, *parts = encoded
    if form == "numbers":
        return arrays[parts[0]]
    if form == "objects":
        return plain.decode(parts[0], allow_pickle=allow_pickle, as_fields=as_fields)
    if form == "fields":
        return KeyColumns([_decode_keys(part, arrays, allow_pickle, as_fields) for part in parts])
    offsets, text, missing = (arrays[part] for part in parts)
    valid = None
    if len(missing):
        bits = np.ones(len(offsets) - 1, np.uint8)
        bits[missing] = 0
        valid = pa.py_buffer(np.packbits(bits, bitorder="little"))
    kind = pa.large_binary() if form == "bytes" else pa.large_string()
    return pa.Array.from_buffers(kind, len(offsets) - 1, [valid, pa.py_buffer(offsets), pa.py_buffer(text)])
