"""Key selectors: the key of each record of a batch, in either form, and its stable hash."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from streamcore.batch import Batch, Columns
from streamcore.errors import TopologyError
from streamcore.kernels.hashing import hash_keys
from streamcore.kernels.key_columns import KeyColumns


class KeySelector:
    """Finds keys by field name(s) or with the user's function. A tuple of names gives tuple keys."""

    def __init__(self, by: str | tuple[str, ...] | Callable[[Any], Any], names: tuple[str, ...] = ()) -> None:
        self.by = by
        self._names = names  # of the stream's fields, by which plain tuples are read
        self.fields: tuple[str, ...] = (by,) if isinstance(by, str) else by if isinstance(by, tuple) else ()
        self.single = isinstance(by, str)

    def __str__(self) -> str:
        if callable(self.by):
            return getattr(self.by, "__name__", "function")
        return self.by if isinstance(self.by, str) else "(" + ", ".join(self.by) + ")"

    def row_getter(self, sample: Any) -> Callable[[Any], Any]:
        """A function from record to key for rows that look like `sample`."""
        if callable(self.by):
            return self.by
        get: Callable[[Any], Any]
        if isinstance(sample, tuple) and self._names and not hasattr(sample, self.fields[0]):
            get = operator.itemgetter(*map(self._names.index, self.fields))
        else:
            get = (operator.itemgetter if isinstance(sample, dict) else operator.attrgetter)(*self.fields)
        if len(self.fields) == 1 and not self.single:
            return lambda record: (get(record),)
        return get

    def keys(self, batch: Batch) -> Any:
        """The keys: a list, the array of a single key column (maybe dictionary-encoded), or `KeyColumns` of several.

        Raises:
            TopologyError: a record doesn't have the key's field.
        """
        if isinstance(batch, Columns):
            if self.single:
                return batch.encoded(self.fields[0])
            if self.fields:
                return KeyColumns([batch.encoded(name) for name in self.fields])
            batch = batch.to_rows()
        if not batch:
            return []
        get = self.row_getter(batch[0])
        if callable(self.by):
            return [get(record) for record in batch]
        try:
            return list(map(get, batch))
        except (AttributeError, KeyError, TypeError) as error:
            raise TopologyError(
                f"key_by({self}): a record of type {type(batch[0]).__name__} has no such field ({error})",
                hint="name a field that every record has, or give key_by a function of the record",
            ) from error

    def hashes(self, batch: Batch) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """The stable hash of each record's key; uint64 (n,)."""
        return hash_keys(self.keys(batch))
