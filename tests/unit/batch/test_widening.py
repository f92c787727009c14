"""Which numbers become wider without losing anything, compared with NumPy's own conversions; and whole batches."""

from __future__ import annotations

import datetime
import itertools
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from streamcore.batch import Columns, Schema, Vector, schema_of
from streamcore.batch.widening import as_of_now, is_exact, widened
from streamcore.errors import IncompatibleSnapshotError

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


def edges(dtype):
    """The numbers of a dtype that another is most likely to lack."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        numbers = [info.min, info.max, info.max - 1, 0, *(2**n + d for n in range(63) for d in (-1, 1))]
        return np.array([n for n in numbers if info.min <= n <= info.max], dtype)
    info = np.finfo(dtype)
    return np.array([info.min, info.max, info.eps, info.smallest_subnormal, 1 + info.eps, 0.1], dtype)


@pytest.mark.parametrize(("old", "new"), list(itertools.product(DTYPES, DTYPES)))
def test_a_number_may_become_one_of_another_type_if_all_numbers_may(old, new):
    old, new = np.dtype(old), np.dtype(new)
    numbers = edges(old).tolist()
    with np.errstate(all="ignore"):
        converted = edges(old).astype(new).tolist()
    is_other_kind = new.kind == "b" != old.kind or (old.kind == "f" != new.kind)
    assert is_exact(old, new) == (numbers == converted and not is_other_kind)


def test_vectors_keep_their_width():
    pair = Schema.of(v=Vector(2, "f8")).fields[0]
    array = np.ones((3, 2), "f4")
    assert widened(array, pair, "state 's'").dtype == np.float64
    for other, was in ((np.ones((3, 4)), "4 numbers"), (np.ones(3), "one number")):
        with pytest.raises(
            IncompatibleSnapshotError, match=rf"state 's': field 'v' has {was} in the snapshot, and 2 n"
        ):
            widened(other, pair, "state 's'")
    with pytest.raises(IncompatibleSnapshotError, match=r"'v' is float64 in the snapshot, and float32 now"):
        widened(np.ones((3, 2)), Schema.of(v=Vector(2, "f4")).fields[0], "state 's'")


class Short(NamedTuple):
    name: str
    n: int


class Row(NamedTuple):
    name: str
    n: int
    rate: float = 0.5
    note: str | None = None
    city: str = "?"
    weight: int | None = None


def test_columns_of_an_older_schema():
    old = Columns.of(n=np.array([1, 2], np.int32), name=pa.array(["a", "b"]), gone=np.array([1.0, 2.0]))
    assert as_of_now(old, schema_of(Row), "records").to_rows() == [Row("a", 1), Row("b", 2)]


def test_columns_of_the_same_schema_get_its_class():
    old = Columns(Schema(schema_of(Short).fields), {"name": pa.array(["a"]), "n": np.array([1])})
    assert type(as_of_now(old, schema_of(Short), "records").to_rows()[0]) is Short


def test_values_that_may_be_missing():
    old = Columns.of(n=pa.array([1, None], pa.int32()), m=np.array([1, 2]))
    optional = Schema.of(n=int | None, m=int | None)
    assert as_of_now(old, optional, "records").to_rows() == [(1, 1), (None, 2)]
    with pytest.raises(IncompatibleSnapshotError, match=r"field 'n' is n: int32\?, with missing values, in the"):
        as_of_now(old, Schema.of(n=int, m=int), "records")
    assert as_of_now(old.slice(0, 1), Schema.of(n=int, m=int), "records").to_rows() == [(1, 1)]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (Schema.of(n=np.int16), "records: field 'n' is n: int32 in the snapshot, and n: int16 now"),
        (Schema.of(n=str), "records: field 'n' is n: int32 in the snapshot, and n: string now"),
        (Schema.of(n=Vector(2, "i4")), "records: field 'n' is n: int32 in the snapshot, and n: fixed_size_list"),
        (Schema.of(n=int, at=datetime.datetime), "field at: timestamp[us] is not in the snapshot, which has other"),
        (Schema.of(n=int, m=int), "field m: int64 is not in the snapshot, which has other fields, and it has no"),
    ],
)
def test_what_columns_can_t_become(schema, message):
    old = Columns.of(n=np.array([1, 2], np.int32))
    with pytest.raises(IncompatibleSnapshotError) as caught:
        as_of_now(old, schema, "records")
    assert message in caught.value.message
