"""Accumulators per key and slice, against dictionaries."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Columns, Schema
from streamcore.batch import to_columns
from streamcore.kernels.pair_grid import PairGrid
from streamcore.kernels.pairs import PairIndex
from streamcore.state import key_slots
from streamcore.state.accumulators import COUNT, Accumulator
from streamcore.state.slices import SliceTable

NOON = datetime.datetime.fromisoformat("2026-01-01T12:00:00")
BEFORE_1970 = datetime.datetime.fromisoformat("1960-02-29T23:59:59.999999")
RECORD = Schema.of(k=str, n=int, x=float)
ACCUMULATORS = (Accumulator("sum", "n"), Accumulator("min", "x", True), Accumulator("max", "n"), COUNT)


def table(accumulators=ACCUMULATORS, **options):
    return SliceTable(RECORD.select(["k"]), accumulators, **options)


def add(target, records, slices):
    target.add(to_columns(records, RECORD), np.array(slices, np.int64))


def columns_of(held, groups):
    """The key's columns and the values by the accumulator's name."""
    values = held.by_accumulator(groups.values)
    return held.key_columns(groups.slots), {kept.name: array for kept, (array,) in values.items()}


def in_words(partials):
    return {(row[0], row[1]): tuple(row[2:]) for row in partials.to_rows()}


def expected(records, slices):
    groups = {}
    for (key, n, x), number in zip(records, slices, strict=True):
        groups.setdefault((key, number), []).append((n, x))
    return {
        place: (sum(n for n, _ in got), min(x for _, x in got), max(n for n, _ in got), len(got))
        for place, got in groups.items()
    }


RECORDS = st.lists(
    st.tuples(
        st.tuples(st.sampled_from("abcdef"), st.integers(-9, 9), st.integers(-9, 9).map(float)), st.integers(-2, 2)
    ),
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(RECORDS, st.sampled_from(["", "remove", "forget", "move", "as partials"])), max_size=8))
def test_any_history_agrees_with_dictionaries(steps):
    held, all_of_it = table(), []
    for batch, action in steps:
        if action == "as partials" and batch:
            columns = to_columns([record for record, _ in batch], RECORD)
            held.add_partials(held.as_partials(columns, np.array([number for _, number in batch])))
        elif batch:
            add(held, *zip(*batch, strict=True))
        all_of_it += batch
        if action in ("remove", "forget"):
            held.remove([0, 1, 77])
            all_of_it = [(record, number) for record, number in all_of_it if number not in (0, 1)]
        if action == "forget":
            held._forget_keys()
        if action == "move":
            held, old = table(), held
            held.add_partials(old.partials(old.slices))
        wanted = expected([record for record, _ in all_of_it], [number for _, number in all_of_it])
        assert in_words(held.partials(held.slices)) == wanted
        assert held.slices == sorted({number for _, number in wanted})
        assert len(held) == len(wanted)


def test_a_window_merges_its_slices_by_key():
    held = table()
    add(held, [("a", 1, 5.0), ("b", 2, 6.0)], [0, 0])
    add(held, [("a", 3, 4.0), ("c", 9, 9.0)], [1, 1])
    add(held, [("a", 100, 0.0)], [2])
    keys, values = columns_of(held, held.merged(range(-1, 2)))
    found = dict(
        zip(keys["k"].to_pylist(), zip(*(values[a.name].tolist() for a in ACCUMULATORS), strict=True), strict=True)
    )
    assert found == {"a": (4, 4.0, 3, 2), "b": (2, 6.0, 2, 1), "c": (9, 9.0, 9, 1)}
    keys, values = columns_of(held, held.merged(range(2, 3)))
    assert keys["k"].to_pylist() == ["a"]
    assert values["sum_n"].tolist() == [100]


def test_a_window_leaves_the_table_as_it_is():
    held = table()
    add(held, [("a", 1, 5.0), ("a", 2, 6.0)], [0, 1])
    before = held.partials(held.slices)
    for _ in range(2):
        assert columns_of(held, held.merged(range(2)))[1]["sum_n"].tolist() == [3]
    assert held.partials(held.slices) == before


def test_what_was_given_out_does_not_change_afterwards():
    held = table()
    add(held, [("a", 1, 5.0)], [0])
    given_out, window = held.partials([0]), columns_of(held, held.merged(range(1)))[1]
    add(held, [("a", 10, 1.0)], [0])
    assert in_words(given_out) == {("a", 0): (1, 5.0, 1, 1)}
    assert window["sum_n"].tolist() == [1]


def test_clear_forgets_everything():
    held = table()
    add(held, [("a", 1, 5.0), ("b", 1, 5.0)], [0, 1])
    held.remove(held.slices)
    assert (len(held), held.slices) == (0, [])
    assert len(held.partials([])) == 0


def test_keys_without_entries_are_forgotten(monkeypatch):
    monkeypatch.setattr(key_slots, "SPARE_KEYS", 10)
    held = table()
    for number in range(100):
        add(held, [(f"{number}-{i}", i, 0.0) for i in range(20)], [number] * 20)
        held.remove([number - 1])
        assert len(held._keys) <= 4 * len(held) + 10 + 20
    assert in_words(held.partials([99])) == {(f"99-{i}", 99): (i, 0.0, i, 1) for i in range(20)}


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        (int, [3, -1, 3]),
        (np.int8, [3, -1, 3]),
        (np.uint64, [3, (1 << 64) - 1, 3]),
        (bool, [True, False, True]),
        (float, [0.5, -0.25, 0.5]),
        (str, ["a", "", "a"]),
        (str | None, ["a", None, "a"]),
        (int | None, [1, None, 1]),
        (bytes, [b"a", b"", b"a"]),
        (
            datetime.datetime,
            [NOON, BEFORE_1970, NOON],
        ),
        (datetime.date, [NOON.date(), datetime.date.min, NOON.date()]),
    ],
)
@pytest.mark.parametrize("composite", [False, True])
def test_keys_of_every_type_come_out_as_they_went_in(declared, values, composite, monkeypatch):
    monkeypatch.setattr(key_slots, "SPARE_KEYS", 0)
    schema = Schema.of(a=declared, b=int)
    names = ["a", "b"] if composite else ["a"]
    held = SliceTable(schema.select(names), (COUNT,))
    batch = to_columns([(value, 7) for value in values], schema)
    held.add(batch.slice(2, 3), np.zeros(1, np.int64))  # first without what is missing
    held.remove([0])
    for number in range(8):  # keys that come and go
        held.add(to_columns([(values[number % 2], 100 + number)], schema), np.full(1, 5))
    held.remove([5])
    held.add(batch, np.zeros(3, np.int64))
    partials = held.partials([0])
    assert partials.schema == held.partial_schema
    rows = [tuple(row) for row in partials.to_rows()]
    extra = (7,) if composite else ()
    assert sorted(map(repr, rows)) == sorted(map(repr, [(values[0], *extra, 0, 2), (values[1], *extra, 0, 1)]))
    assert Columns.from_arrow(partials.to_arrow(), partials.schema) == partials


def test_keys_that_are_encoded_in_a_dictionary():
    held = table(accumulators=(COUNT,))
    words = pa.array(["x", "y", "x"]).dictionary_encode()
    batch = Columns(Schema.of(k=str), {"k": words})
    held.add(batch, np.zeros(3, np.int64))
    held.add_partials(held.as_partials(batch, np.zeros(3, np.int64)))
    assert in_words(held.partials([0])) == {("x", 0): (4,), ("y", 0): (2,)}


def test_columns_of_partials_keep_out_of_the_key_s_way():
    key = Schema.of(slice=int, count=int, sum_n=int, count_=int)
    held = SliceTable(key, (Accumulator("sum", "n"), COUNT))
    assert held.partial_schema.names == ("slice", "count", "sum_n", "count_", "slice_", "sum_n_", "count__")
    schema = Schema.of(slice=int, count=int, sum_n=int, count_=int, n=int)
    batch = to_columns([(1, 2, 3, 4, 10), (1, 2, 3, 4, 20)], schema)
    held.add(batch, np.array([5, 5]))
    held.add_partials(held.as_partials(batch, np.array([5, 5])))
    partials = held.partials([5])
    assert [tuple(row) for row in partials.to_rows()] == [(1, 2, 3, 4, 5, 60, 4)]
    assert held.slices_of(partials).tolist() == [5]
    assert held.counts_of(partials).tolist() == [4]


def test_some_keys_merged_from_a_slice_on():
    held = table()
    add(held, [("a", 1, 5.0), ("b", 2, 6.0), ("a", 4, 9.0), ("c", 8, 0.0)], [0, 0, 2, 3])
    slots = held.slots_of(to_columns([(k, 0, 0.0) for k in "abac"], RECORD))
    found, groups = held.merged_at(slots, np.array([0, 1, 1, 1]), 3)
    assert found.tolist() == [True, False, True, True]
    keys, values = columns_of(held, groups)
    assert (keys["k"].to_pylist(), values["sum_n"].tolist()) == (["a", "a", "c"], [5, 4, 8])
    found, groups = held.merged_at(slots, np.array([0, 0, 5, 3]), 1)
    assert found.tolist() == [True, True, False, True]
    assert columns_of(held, groups)[1]["sum_n"].tolist() == [1, 2, 8]


def test_without_key_all_records_are_one_group():
    held = SliceTable(RECORD.select([]), ACCUMULATORS)
    for slices in ([0, 0, 1], [1, 0, 7]):
        add(held, [("a", 1, 5.0), ("b", 2, 6.0), ("c", 3, 7.0)], slices)
    assert held.merged(range(3)).slots.tolist() == [0]
    partials = held.partials(held.slices)
    assert [(row[0], row[1]) for row in partials.to_rows()] == [(0, 5), (1, 4), (7, 3)]
    again = SliceTable(RECORD.select([]), ACCUMULATORS)
    again.restore(partials)
    assert again.partials(again.slices) == partials
    again.remove([0, 1, 7])
    assert len(again) == 0


def test_slices_far_apart_and_close_together():
    """Entries keep their numbers where the grid would be too sparse, and a hash table takes over."""
    rng, held, all_of_it = np.random.default_rng(1), table(accumulators=(COUNT,)), {}
    for spread in (3, 3, 1 << 50, 3, 1 << 20):
        slices = rng.integers(-spread, spread, 4000)
        keys = [f"k{n}" for n in rng.integers(0, 1000, 4000)]
        add(held, [(key, 0, 0.0) for key in keys], slices)
        for place in zip(keys, slices.tolist(), strict=True):
            all_of_it[place] = all_of_it.get(place, 0) + 1
        assert in_words(held.partials(held.slices)) == {place: (n,) for place, n in all_of_it.items()}
    assert isinstance(held._pairs, PairIndex)
    held.remove(list(held.slices))
    assert isinstance(held._pairs, PairGrid)
    add(held, [("a", 0, 0.0)], [7])
    assert in_words(held.partials(held.slices)) == {("a", 7): (1,)}


def test_without_windows_there_is_one_slice():
    held = table(has_windows=False)
    add(held, [(f"k{n}", n, 0.0) for n in range(1000)], [0] * 1000)
    held.remove(held.slices)
    add(held, [("k7", 1, 2.0), ("new", 3, 4.0), ("k7", 1, 1.0)], [0, 0, 0])
    assert in_words(held.partials([0])) == {("k7", 0): (2, 1.0, 1, 2), ("new", 0): (3, 4.0, 3, 1)}
