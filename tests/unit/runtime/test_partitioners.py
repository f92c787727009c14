"""Partitioners: each record goes to exactly one target, keys where the key groups say; against the formulas."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Columns, Schema, to_rows
from streamcore.errors import TopologyError, UsageError
from streamcore.kernels.hashing import hash_key
from streamcore.runtime.keys import KeySelector
from streamcore.runtime.partition import make_partitioner
from streamcore.runtime.spec import Partitioning, Route


class Row(NamedTuple):
    user: int
    name: str


SCHEMA = Schema.of(user=int, name=str)
ROWS = st.lists(st.builds(Row, st.integers(-(2**63), 2**63 - 1), st.text(max_size=4)), max_size=40)


def as_columns(rows):
    return Columns(
        SCHEMA,
        {
            "user": np.array([r.user for r in rows], np.int64),
            "name": pa.array([r.name for r in rows], pa.string()),
        },
    )


def split(partitioner, batch):
    """target → its rows as tuples; no target twice."""
    result = {}
    for target, part in partitioner(batch):
        assert target not in result
        assert len(part) > 0
        result[target] = [tuple(row) for row in to_rows(part)]
    return result


def subtask_of(key, max_parallelism, parallelism):
    return hash_key(key) % max_parallelism * parallelism // max_parallelism


@given(ROWS, st.integers(1, 7), st.integers(7, 200), st.sampled_from(["user", "name", ("user", "name"), None]))
@settings(max_examples=150, deadline=None)
def test_hash_sends_each_record_to_its_key_s_subtask_in_order(rows, targets, max_parallelism, by):
    if not rows:
        return
    selector = KeySelector(by or (lambda r: r.user % 3 if isinstance(r, Row) else r[0] % 3))
    key_of = {"user": lambda r: r.user, "name": lambda r: r.name, None: lambda r: r.user % 3}.get(by, tuple)
    partitioner = make_partitioner(Partitioning(Route.HASH, key=selector), 0, targets, max_parallelism)
    expected = {}
    for row in rows:
        expected.setdefault(subtask_of(key_of(row), max_parallelism, targets), []).append(tuple(row))
    assert split(partitioner, list(rows)) == expected
    assert split(partitioner, as_columns(rows)) == expected


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 6), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_rebalance_deals_every_record_once_and_evenly(sizes, targets, subtask):
    partitioner = make_partitioner(Partitioning(Route.REBALANCE), subtask % targets, targets, 128)
    shares, next_record, seen = Counter(), 0, []
    for size in sizes:
        batch = list(range(next_record, next_record + size))
        next_record += size
        for target, part in partitioner(batch):
            shares[target] += len(part)
            seen.extend(part)
    assert sorted(seen) == list(range(next_record))
    counts = [shares[t] for t in range(targets)]
    assert max(counts) - min(counts) <= 1


def test_rebalance_starts_at_the_sender_s_own_number():
    """Else many senders of small batches would all begin with target 0."""
    firsts = [next(make_partitioner(Partitioning(Route.REBALANCE), i, 4, 128)([1]))[0] for i in range(4)]
    assert firsts == [0, 1, 2, 3]


def test_rebalance_of_columns():
    rows = [Row(i, str(i)) for i in range(10)]
    parts = split(make_partitioner(Partitioning(Route.REBALANCE), 0, 3, 128), as_columns(rows))
    assert sorted(row for part in parts.values() for row in part) == sorted(map(tuple, rows))
    assert sorted(len(part) for part in parts.values()) == [3, 3, 4]


def test_broadcast_and_forward():
    assert split(make_partitioner(Partitioning(Route.BROADCAST), 0, 3, 128), [(1,)]) == {t: [(1,)] for t in range(3)}
    assert split(make_partitioner(Partitioning(Route.FORWARD), 2, 4, 128), [(1,)]) == {2: [(1,)]}


def test_custom_asks_for_each_record_and_keeps_the_order():
    partitioner = make_partitioner(Partitioning(Route.CUSTOM, choose=lambda r, n: r % n), 0, 3, 128)
    assert {t: list(part) for t, part in partitioner(list(range(10)))} == {0: [0, 3, 6, 9], 1: [1, 4, 7], 2: [2, 5, 8]}


@pytest.mark.parametrize("wrong", [-1, 3, 99])
def test_custom_out_of_range_is_refused(wrong):
    partitioner = make_partitioner(Partitioning(Route.CUSTOM, choose=lambda r, n: wrong), 0, 3, 128)
    with pytest.raises(UsageError, match=f"chose subtask {wrong} of 3"):
        list(partitioner([1]))


def test_rows_without_the_key_s_field_are_named():
    partitioner = make_partitioner(Partitioning(Route.HASH, key=KeySelector("user")), 0, 2, 128)
    with pytest.raises(TopologyError, match=r"key_by\(user\): a record of type dict has no such field"):
        list(partitioner([{"usr": 1}]))


@pytest.mark.parametrize("form", ["named", "dict", "columns"])
def test_a_tuple_of_one_name_is_a_tuple_key_in_every_form(form):
    batch = {"named": [Row(1, "a")], "dict": [{"user": 1, "name": "a"}], "columns": as_columns([Row(1, "a")])}[form]
    selector = KeySelector(("user",))
    assert list(selector.keys(batch)) == [(1,)]
    assert selector.hashes(batch).tolist() == [hash_key((1,))]
