"""One state of one operator in a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import Columns, schema_of
from streamcore.checkpoint.log import SubtaskEntry
from streamcore.errors import UnknownStateError
from streamcore.snapshots import saved as forms
from streamcore.state.key_groups import groups_of

ReadState = Callable[[SubtaskEntry], dict[str, Any] | None]
"""Reads a part of the state."""


class SnapshotState:
    """The state that an operator keeps under one name; made by `Snapshot.state`. Each method reads the files anew, one
    subtask's after the other.

    Records of the user's classes come as dictionaries of their fields, so that the classes need not be there.
    Every method raises UnknownStateError if there is no such state.
    """

    def __init__(
        self,
        entries: list[SubtaskEntry],
        max_parallelism: int,
        read: ReadState,
        missing: Callable[[], UnknownStateError],
        *,
        allow_pickle: bool,
    ) -> None:
        self._entries = entries
        self._max_parallelism = max_parallelism
        self._read = read
        self._missing = missing
        self._allow_pickle = allow_pickle

    @property
    def kind(self) -> str:
        """`value`, `list`, `map`, `columnar` or `table`."""
        kind: str = next(self._parts())["kind"]
        return kind

    def __len__(self) -> int:
        return sum(forms.count(part, allow_pickle=self._allow_pickle) for part in self._parts())

    def items(self) -> Iterator[tuple[Any, Any]]:
        """The keys and what they have: a value, a list, a dictionary; of columnar state the fields by name; of table
        state one row, also by name, where several may have one key."""
        for part in self._parts():
            yield from forms.pairs(part, allow_pickle=self._allow_pickle)

    def keys(self) -> Iterator[Any]:
        """The keys."""
        return (key for key, _ in self.items())

    def rows(self) -> Iterator[dict[str, Any]]:
        """A dictionary for each key: `key` and the fields of columnar state, or `key` and `value`; of table state one
        for each row, as it is."""
        for part in self._parts():
            for key, value in forms.pairs(part, allow_pickle=self._allow_pickle):
                if part["kind"] == "table":
                    yield value
                elif part["kind"] == "columnar":
                    yield {"key" if "key" not in value else "state_key": key, **value}
                else:
                    yield {"key": key, "value": value}

    def get(self, key: Any, default: Any = None) -> Any:
        """What the state has for a key; of table state a list of rows. Only the files of the subtask that had the key
        are read, and of object state only the key's group is decoded."""
        key = key.item() if isinstance(key, np.generic) else key
        group = int(groups_of([key], self._max_parallelism)[0])
        read = [self._read(e) for e in self._entries if e.index == group * e.parallelism // self._max_parallelism]
        parts = [part for part in read if part is not None]
        if not parts:
            next(self._parts())  # there is such a state, but not of this key
            return default
        found = [
            value
            for part in parts
            for value in forms.find(part, key, group, self._max_parallelism, allow_pickle=self._allow_pickle)
        ]
        if parts[0]["kind"] == "table":
            return found or default
        return found[0] if found else default

    def to_arrow(self) -> pa.Table:
        """The state as a table: the key in a column `key` (a key of several fields in `key_0`, `key_1`, …), then the
        fields of columnar state or of a record, or a column `value`; of map state a row for each entry, its key in
        `map_key`. Table state is as it is. Values that have no common Arrow type become JSON."""
        parts = [forms.columns_of(part, allow_pickle=self._allow_pickle) for part in self._parts()]
        filled = [part for part in parts if part is not None]
        return forms.concat(filled) if filled else pa.table({})

    def columns(self) -> Columns:
        """The same as `Columns`."""
        table = self.to_arrow().combine_chunks()
        schema = schema_of(table.schema)
        assert schema is not None, "an Arrow schema is one of ours"
        batches = table.to_batches()
        return Columns.from_arrow(batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema), schema)

    def _parts(self) -> Iterator[dict[str, Any]]:
        exists = False
        for entry in self._entries:
            part = self._read(entry)
            if part is not None:
                exists = True
                yield part
        if not exists:
            raise self._missing()
