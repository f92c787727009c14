"""Capture at one parallelism, restore at another: every key is in exactly one subtask, with its value."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Columns, Schema
from streamcore.errors import IncompatibleSnapshotError
from streamcore.kernels.hashing import hash_key
from streamcore.state.descriptors import ColumnarState, ListState, TableState, ValueState
from streamcore.state.key_groups import group_range
from streamcore.state.store import KeyedStore, entries
from tests.saved_state import saved_store

WIDTHS = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(6, 40))
KEY = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.text(max_size=5), st.none(), st.tuples(st.integers(), st.text(max_size=2))
)
SUM = ColumnarState("sum", Schema.of(total=np.int64), lambda keys: {"total": np.full(len(keys), -1)})
ROWS = Schema.of(key=int, n=int)


def owner(key, parallelism, max_parallelism):
    return hash_key(key) % max_parallelism * parallelism // max_parallelism


def open_stores(parallelism, max_parallelism, saved):
    return [
        KeyedStore(max_parallelism, group_range(i, parallelism, max_parallelism), saved, allow_pickle=False)
        for i in range(parallelism)
    ]


def through_a_file(stores):
    """What the stores capture, as the files of a snapshot give it back."""
    return [saved_store(store) for store in stores]


@given(WIDTHS, st.dictionaries(KEY, st.integers(-(2**60), 2**60), max_size=40))
@settings(max_examples=60, deadline=None)
def test_heap_state_and_timers(widths, values):
    before, after, groups = widths
    stores = open_stores(before, groups, [])
    handles = [(store.declare(ValueState("v", None)), store.declare(ListState("l"))) for store in stores]
    for key, value in values.items():
        i = owner(key, before, groups)
        stores[i].current.key = key
        handles[i][0].set(value)
        handles[i][1].add(value)
        stores[i].timers.register(abs(value), key)
        stores[i].timers.register(abs(value) + 1, key)
    restored = open_stores(after, groups, through_a_file(stores))
    seen = {}
    for i, store in enumerate(restored):
        value, many = store.declare(ValueState("v", None)), store.declare(ListState("l"))
        store.check_all_claimed("op")
        timers = list(store.timers.take_due(2**80))
        assert [t for t, _ in timers] == sorted(t for t, _ in timers)
        assert all(owner(key, after, groups) == i for _, key in timers)
        for key in values:
            store.current.key = key
            if value.get() is not None:
                assert key not in seen
                assert i == owner(key, after, groups)
                own = sorted(t for t, k in timers if k == key and type(k) is type(key))
                seen[key] = (value.get(), many.get(), own)
            else:
                assert many.get() == []
    assert seen == {key: (value, [value], [abs(value), abs(value) + 1]) for key, value in values.items()}


@pytest.mark.parametrize("kind", ["int", "text"])
@given(widths=WIDTHS, numbers=st.sets(st.integers(-1000, 1000), max_size=40))
@settings(max_examples=40, deadline=None)
def test_columnar_state(kind, widths, numbers):
    before, after, groups = widths
    keys = sorted(numbers) if kind == "int" else [f"k{n}" for n in sorted(numbers)]
    stores = open_stores(before, groups, [])
    for i, store in enumerate(stores):
        own = [key for key in keys if owner(key, before, groups) == i]
        table = store.declare(SUM)
        slots = table.slots(np.array(own, np.int64) if kind == "int" else own)
        table["total"][slots] = [2 * keys.index(key) for key in own]
    seen = {}
    for i, store in enumerate(open_stores(after, groups, through_a_file(stores))):
        table = store.declare(SUM)
        for key, total in zip(list(table.keys), table["total"].tolist(), strict=True):
            assert key not in seen
            assert owner(key, after, groups) == i
            seen[key] = total
    assert seen == {key: 2 * i for i, key in enumerate(keys)}


@given(
    WIDTHS, st.lists(st.tuples(st.integers(-50, 50), st.integers()).filter(lambda r: abs(r[1]) < 2**60), max_size=40)
)
@settings(max_examples=40, deadline=None)
def test_table_state_keeps_the_order_of_a_key_s_rows(widths, rows):
    before, after, groups = widths
    stores = open_stores(before, groups, [])
    for i, store in enumerate(stores):
        own = [row for row in rows if owner(row[0], before, groups) == i]
        columns = Columns(
            ROWS, {"key": np.array([r[0] for r in own], np.int64), "n": np.array([r[1] for r in own], np.int64)}
        )
        store.declare_table(TableState("t", "key", lambda columns=columns: columns, lambda _: None))
    seen: dict[int, list[int]] = {}
    for i, store in enumerate(open_stores(after, groups, through_a_file(stores))):
        taken = []
        store.declare_table(TableState("t", "key", lambda: None, taken.append))
        for columns in taken:
            own = {row.key for row in columns.to_rows()}
            assert all(owner(key, after, groups) == i for key in own)
            assert not own & seen.keys()
            for row in columns.to_rows():
                seen.setdefault(row.key, []).append(row.n)
    expected: dict[int, list[int]] = {}
    for key, n in rows:
        expected.setdefault(key, []).append(n)
    assert seen == expected


def test_table_state_with_text_keys():
    store = open_stores(1, 8, [])[0]
    columns = Columns.of(word=pa.array(["a", "b", "a"]), n=np.arange(3))
    store.declare_table(TableState("t", "word", lambda: columns, lambda _: None))
    taken = []
    for restored in open_stores(3, 8, through_a_file([store])):
        restored.declare_table(TableState("t", "word", lambda: columns, taken.append))
    assert sorted(tuple(row) for columns in taken for row in columns.to_rows()) == [("a", 0), ("a", 2), ("b", 1)]


def test_a_capture_is_not_touched_by_what_comes_after():
    store = open_stores(1, 8, [])[0]
    many = store.declare(ListState("l"))
    many.add(1)
    store.timers.register(5, None)
    captured = saved_store(store)
    many.add(2)
    store.timers.register(6, None)
    again = open_stores(1, 8, [captured])[0]
    assert again.declare(ListState("l")).get() == [1]
    assert len(again.timers) == 1


def test_state_that_no_descriptor_asks_for_is_refused():
    store = open_stores(1, 8, [])[0]
    store.declare(ValueState("old", 0))
    store.declare(SUM)
    restored = open_stores(1, 8, [saved_store(store)])[0]
    restored.declare(SUM)
    with pytest.raises(IncompatibleSnapshotError, match="operator op") as caught:
        restored.check_all_claimed("op")
    assert "state old" in str(caught.value)
    restored.declare(ValueState("old", 0))
    restored.check_all_claimed("op")


@pytest.mark.parametrize(
    ("old", "new"), [(ValueState("x", 0), ListState("x")), (ValueState("x", 0), ColumnarState("x", ROWS))]
)
def test_state_of_another_kind_is_refused(old, new):
    store = open_stores(1, 8, [])[0]
    store.declare(old)
    restored = open_stores(1, 8, [saved_store(store)])[0]
    with pytest.raises(
        IncompatibleSnapshotError, match=r"state 'x' is value state in the snapshot and (list|columnar) state"
    ):
        restored.declare(new)


def test_entries_show_what_is_in_a_captured_store():
    store = open_stores(1, 8, [])[0]
    value, table = store.declare(ValueState("v", 0)), store.declare(SUM)
    store.current.key = "k"
    value.set({"n": 1})
    slots = table.slots(np.array([4]))
    table["total"][slots] = 9
    assert entries(saved_store(store)) == {"v": {"k": {"n": 1}}, "sum": {4: {"total": 9}}}
