"""Which column may become which without losing anything, and batches from a time when their schema was another."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch.columns import Array, Columns, to_arrow_array
from streamcore.batch.schema import Field, Schema
from streamcore.errors import IncompatibleSnapshotError

_ONLY_WIDER = "only wider numbers that hold every old value exactly are made without being told"
_FRACTION_BITS = {2: 11, 4: 24, 8: 53}


def is_exact(old: np.dtype[Any], new: np.dtype[Any]) -> bool:
    """Whether every number of one dtype is one of the other; bool counts as 0 and 1."""
    if old == new or old.kind == "b":
        return old == new or new.kind in "iuf"
    if old.kind in "iu" and new.kind == "f":
        bits = 8 * old.itemsize - (old.kind == "i")
        return bits <= _FRACTION_BITS[new.itemsize]
    return new.kind in "iuf" and np.can_cast(old, new, "safe")


def widened(array: np.ndarray[Any, Any], field: Field, what: str) -> np.ndarray[Any, Any]:
    """Saved numbers as those of a field.

    Args:
        array: (n,), or (n, width) of a vector.
        what: whose field it is, for the message.

    Raises:
        IncompatibleSnapshotError: the field is of another kind, narrower, or of another width.
    """
    dtype = field.dtype
    assert dtype is not None, f"{field} is not of fixed width"
    width = array.shape[1] if array.ndim > 1 else 0
    if width != field.width:
        was = f"{width} numbers" if width else "one number"
        now = f"{field.width} numbers" if field.width else "one number"
        raise IncompatibleSnapshotError(
            f"{what}: field {field.name!r} has {was} in the snapshot, and {now} now",
            hint="keep the width, or give the descriptor a version and a migrate function",
        )
    if not is_exact(array.dtype, dtype):
        raise IncompatibleSnapshotError(
            f"{what}: field {field.name!r} is {array.dtype} in the snapshot, and {dtype} now, which can't hold every "
            "old value",
            hint=f"{_ONLY_WIDER}; keep {array.dtype}, or give the descriptor a version and a migrate function",
        )
    return array.astype(dtype, copy=False)


def is_wider(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether a saved column may become one of another type: the same, or wider numbers."""
    if old == new:
        return True
    before, after = Field("", old).dtype, Field("", new).dtype
    if before is None or after is None or Field("", old).width != Field("", new).width:
        return False
    return is_exact(before, after)


def as_of_now(batch: Columns, schema: Schema, what: str) -> Columns:
    """Saved columns with the schema that they have now: wider numbers; a new field has the default of the row type, or
    is missing where it may be; a field that is gone is left out.

    Args:
        what: whose columns they are, for the message.

    Raises:
        IncompatibleSnapshotError: a field is of another kind or narrower, or is new and must have a value.
    """
    if batch.schema == schema:
        return Columns(schema, batch.arrays)  # whose rows are of the user's class again
    return Columns(schema, {field.name: _column(batch, schema, field, what) for field in schema.fields})


def _column(batch: Columns, schema: Schema, field: Field, what: str) -> Array:
    old = batch.schema.by_name.get(field.name)
    if old is None:
        return _new_column(len(batch), schema, field, what)
    values = batch.encoded(field.name)
    has_gaps = not isinstance(values, np.ndarray) and values.null_count > 0
    if not is_wider(old.type, field.type) or (has_gaps and not field.nullable):
        was = f"{old}, with missing values," if has_gaps and not field.nullable else str(old)
        raise IncompatibleSnapshotError(
            f"{what}: field {field.name!r} is {was} in the snapshot, and {field} now",
            hint=f"{_ONLY_WIDER}; keep the field's type, or let what is in flight run out first: stop with drain",
        )
    if isinstance(values, np.ndarray) and field.dtype is not None:
        return widened(values, field, what)
    if old.type == field.type and not isinstance(values, np.ndarray):
        return values
    return to_arrow_array(values, old).cast(field.type)


def _new_column(count: int, schema: Schema, field: Field, what: str) -> Array:
    default = _default(schema.row_type, field.name)
    if default is None and not field.nullable:
        raise IncompatibleSnapshotError(
            f"{what}: field {field} is not in the snapshot, which has other fields, and it has no default",
            hint="give the field a default in the class of the records, or let it be missing: X | None",
        )
    if field.dtype is not None and field.width:
        return np.broadcast_to(np.asarray(default, field.dtype), (count, field.width)).copy()
    if field.dtype is not None:
        return np.full(count, default, field.dtype)
    return pa.array([default] * count, type=field.type)


def _default(row_type: Any, name: str) -> Any:
    """What the row type's constructor puts into a field that isn't given; None: it has none, or it is None."""
    if row_type is None:
        return None
    if dataclasses.is_dataclass(row_type):
        for field in dataclasses.fields(row_type):
            if field.name == name and field.default_factory is not dataclasses.MISSING:
                return field.default_factory()
    parameter = inspect.signature(row_type).parameters.get(name)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default
