"""Records in order of several fields, and where in that order a field changes: what a reducer sees after a sort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamcore import Columns

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]


def sort_by(columns: Columns, names: Sequence[str]) -> Columns:
    """The records in ascending order of the fields, the first one first; what is missing comes last."""
    fields = [columns[name] for name in names]
    table = pa.table([pa.array(field) for field in fields], names=list(names))
    return columns.take(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in names]).to_numpy())


def changes(columns: Columns, names: Sequence[str]) -> Mask:
    """Where in sorted records any of the fields differs from that of the record before; the first one does; bool (n,).

    Example:
        >>> changes(Columns.of(word=pa.array(["a", "a", "b"]), n=np.array([1, 2, 2])), ["word"])
        array([ True, False,  True])
    """
    found = np.zeros(len(columns), bool)
    found[:1] = True
    for name in names:
        array = columns[name]
        if isinstance(array, np.ndarray):
            found[1:] |= array[1:] != array[:-1]
        else:
            this, before = array[1:], array[:-1]
            differs = pc.not_equal(this, before)
            if array.null_count:
                is_missing = pc.not_equal(pc.is_null(this), pc.is_null(before))
                differs = pc.or_(pc.fill_null(differs, False), is_missing)
            found[1:] |= differs.to_numpy(zero_copy_only=False)
    return found


def sums(values: Any, starts: Numbers) -> Numbers:
    """The sum of each group, which begins at one of `starts`; int64 (n,) or of the values' type."""
    found: Numbers = np.add.reduceat(values, starts) if len(starts) else values[:0]
    return found
