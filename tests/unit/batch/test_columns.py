"""Columns: take, filter, slice, with_columns, concat and equality, against lists."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Columns, Schema, Vector, concat, concat_columns, slice_batch, take
from streamcore.errors import TopologyError

SCHEMA = Schema.of(n=int, word=str | None, good=bool, vector=Vector(2, "f4"))
ROW = st.tuples(
    st.integers(-9, 9), st.one_of(st.none(), st.text(max_size=3)), st.booleans(), st.tuples(*[st.integers(-5, 5)] * 2)
)
ROWS = st.lists(ROW, max_size=12)


def make(rows):
    return Columns(
        SCHEMA,
        {
            "n": np.array([r[0] for r in rows], np.int64),
            "word": pa.array([r[1] for r in rows], pa.string()),
            "good": np.array([r[2] for r in rows], bool),
            "vector": np.array([r[3] for r in rows], np.float32).reshape(len(rows), 2),
        },
    )


def plain(columns):
    assert columns.schema == SCHEMA
    return [(r.n, r.word, r.good, tuple(r.vector.tolist())) for r in columns.to_rows()]


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_rows(rows):
    assert plain(make(rows)) == rows
    assert len(make(rows)) == len(rows)


@given(ROWS.filter(len), st.data())
@settings(max_examples=80, deadline=None)
def test_take_filter_and_slice(rows, data):
    columns = make(rows)
    indices = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20))
    mask = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    assert plain(columns.take(np.array(indices, np.int64))) == [rows[i] for i in indices]
    assert plain(columns.filter(np.array(mask))) == [r for r, kept in zip(rows, mask, strict=True) if kept]
    assert plain(columns.filter(pa.array(mask))) == [r for r, kept in zip(rows, mask, strict=True) if kept]
    sliced = columns.slice(start, stop)
    assert plain(sliced) == rows[start:stop]
    assert plain(sliced.take(np.arange(len(sliced)))) == rows[start:stop]
    assert plain(Columns.from_arrow(sliced.to_arrow(), SCHEMA)) == rows[start:stop]


@given(st.lists(ROWS, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_concat(parts):
    assert plain(concat_columns([make(rows) for rows in parts])) == [r for rows in parts for r in rows]
    assert concat([list(rows) for rows in parts]) == [r for rows in parts for r in rows]


def test_take_and_slice_of_rows():
    assert take(["a", "b", "c"], np.array([2, 0, 0])) == ["c", "a", "a"]
    assert slice_batch(["a", "b", "c"], 1, 3) == ["b", "c"]


def test_with_columns_replaces_and_adds():
    columns = make([(1, "a", True, (0, 0)), (2, None, False, (1, 1))])
    changed = columns.with_columns(n=columns["n"] + 1, half=columns["n"] / 2)
    assert changed["n"].tolist() == [2, 3]
    assert changed["half"].tolist() == [0.5, 1.0]
    assert changed.schema.names == ("n", "word", "good", "vector", "half")
    assert columns["n"].tolist() == [1, 2]
    assert "half" not in columns


def test_with_columns_keeps_the_schema_where_the_types_stay():
    columns = make([(1, "a", True, (0, 0))])
    assert columns.with_columns(n=columns["n"] * 2, word=pa.array(["b"])).schema is columns.schema
    assert columns.with_columns(n=columns["n"] * 0.5).schema != columns.schema


def test_select_and_unknown_columns():
    columns = make([(1, "a", True, (0, 0))])
    assert columns.select("word", "n").schema.names == ("word", "n")
    for call in (lambda: columns["nn"], lambda: columns.select("nn")):
        with pytest.raises((TopologyError, KeyError)):
            call()
    with pytest.raises(TopologyError, match="there is no column 'nn'") as caught:
        columns["nn"]
    assert "n, word, good, vector" in str(caught.value)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="column 'b' has 1 rows, the first column has 2"):
        Columns.of(a=np.arange(2), b=np.arange(1))


def test_of_takes_the_types_of_the_arrays():
    columns = Columns.of(
        a=np.arange(2, dtype=np.int16), b=np.zeros((2, 3), np.float32), c=pa.array(["x", None]), d=pa.array(["x", "y"])
    )
    assert str(columns.schema) == "(a: int16, b: fixed_size_list<item: float>[3], c: string?, d: string)"


def test_equality():
    rows = [(1, "a", True, (0, 1)), (2, None, False, (1, 1))]
    assert make(rows) == make(rows)
    assert make([rows[0], *rows]).slice(1, 3) == make(rows)
    assert make(rows) != make(rows[:1])
    assert make(rows) != make([(1, "a", True, (0, 2)), rows[1]])
    assert make(rows) != make([(1, "b", True, (0, 1)), rows[1]])
    assert make(rows) != rows


def test_empty():
    assert plain(make([])) == []
    assert Columns(Schema(()), {}).to_rows() == []
