"""A capture of columnar state that is taken at once and copied later, while the stream goes on.

The rows are copied a chunk at a time between batches. A row that is asked for before its chunk has been copied is set
aside first, as it was; when all chunks are there, the rows set aside are put in their places. (Copy on update, as
in Cao et al., "Fast Checkpoint Recovery Algorithms for Frequently Consistent Applications", SIGMOD 2011, by row.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamcore.state.key_groups import IntArray

CHUNK_ROWS = 4096

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class SavedTable:
    """What one checkpoint saves of a table: all of it, or what has changed since another checkpoint.

    Attributes:
        size: rows of the table.
        rows: which of them `columns` has, ascending, int64 (m,); None: all.
        first: the first row that is new; `keys` and `groups` begin with it. 0 if the whole table is saved.
        keys: int64 array, Arrow array of text, `KeyColumns` or list (size - first,).
        groups: the key group of each of these; int32 (size - first,).
        columns: field -> array (m,) or (m, width).
    """

    size: int
    rows: IntArray | None
    first: int
    keys: Any
    groups: np.ndarray[Any, np.dtype[np.int32]]
    columns: Arrays

    @property
    def is_whole(self) -> bool:
        """Whether it needs no other checkpoint."""
        return self.rows is None


class TableCapture:
    """The state of one table as of one moment. All but `saved` belongs to the subtask's task; `saved` may be
    called in any thread once the capture is done.

    Args:
        arrays: gives the table's arrays as they are now.
        size: rows at the moment of the capture.
        rows: those to copy, ascending; None: all.
        first: the first row whose key is saved.
        keys: gives the keys from `first` to `size`; may be called in another thread.
        groups: the key groups of the same rows, which nothing writes to any more.
        spare: memory to copy into, of an earlier capture; where it is too short, new memory is taken, which costs
            several times as much time.
        give_back: takes the memory when the capture has been written.
    """

    def __init__(
        self,
        arrays: Callable[[], Arrays],
        size: int,
        rows: IntArray | None,
        first: int,
        keys: Callable[[], Any],
        groups: np.ndarray[Any, np.dtype[np.int32]],
        spare: Arrays,
        give_back: Callable[[Arrays], None],
    ) -> None:
        self._arrays = arrays
        self._size = size
        self._rows = rows
        self._first = first
        self._keys = keys
        self._groups = groups
        self._count = size if rows is None else len(rows)
        self._copied = 0
        self._give_back = give_back
        self._memory = {
            name: spare[name] if name in spare and len(spare[name]) >= self._count else _empty_like(array, self._count)
            for name, array in arrays().items()
        }
        self._columns = {name: memory[: self._count] for name, memory in self._memory.items()}
        self._kept: list[tuple[IntArray, Arrays]] = []

    @property
    def is_whole(self) -> bool:
        """Whether all rows are captured."""
        return self._rows is None

    @property
    def is_empty(self) -> bool:
        """Whether nothing has changed since the checkpoint that this one builds on."""
        return self._rows is not None and self._count == 0 and self._first == self._size

    @property
    def done(self) -> bool:
        """Whether every row has been copied."""
        return self._copied == self._count

    @property
    def next_row(self) -> int:
        """All captured rows before this one have been copied."""
        if self.done:
            return self._size
        return self._copied if self._rows is None else int(self._rows[self._copied])

    @property
    def size(self) -> int:
        """Rows at the moment of the capture."""
        return self._size

    def step(self) -> bool:
        """Copies a chunk; true when that was the last."""
        start, stop = self._copied, min(self._copied + CHUNK_ROWS, self._count)
        chosen = slice(start, stop) if self._rows is None else self._rows[start:stop]
        for name, array in self._arrays().items():
            self._columns[name][start:stop] = array[chosen]
        self._copied = stop
        return self.done

    def finish(self) -> None:
        """Copies all that is left."""
        while not self.done:
            self.step()

    def abandon(self) -> None:
        """The checkpoint is given up: nothing is to be copied any more."""
        self._copied = self._count

    def keep(self, rows: IntArray) -> None:
        """Sets rows aside that are about to change; each at most once, and only ones that have not been copied."""
        self._kept.append((rows, {name: array[rows] for name, array in self._arrays().items()}))

    def release(self) -> None:
        """Tells that what `saved` returned is not needed any more: its memory is used again."""
        self._give_back(self._memory)

    def saved(self) -> SavedTable:
        """The rows as they were at the moment of the capture."""
        assert self.done, "a capture was used before all of it was copied"
        for rows, arrays in self._kept:
            places = rows if self._rows is None else np.searchsorted(self._rows, rows)
            for name, values in arrays.items():
                self._columns[name][places] = values
        self._kept = []
        return SavedTable(self._size, self._rows, self._first, self._keys(), self._groups, self._columns)


def _empty_like(array: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    return np.empty((count, *array.shape[1:]), array.dtype)
