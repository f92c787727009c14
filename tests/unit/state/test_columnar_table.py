"""Columnar state: slots, growth, initial values, and a capture that later changes do not touch."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Schema, Vector
from streamcore.errors import TopologyError, UsageError
from streamcore.state import columnar as module
from streamcore.state.columnar import ColumnarTable
from streamcore.state.descriptors import ColumnarState

SUMS = Schema.of(total=float, count=np.int32, vector=Vector(3, np.float32))


def first_values(keys):
    numbers = np.array([len(k) if isinstance(k, str) else int(k) for k in list(keys)], float)
    return {"total": numbers, "vector": np.outer(numbers, [1, 2, 3]).astype(np.float32)}


@pytest.mark.parametrize("initial", [None, first_values])
@given(batches=st.lists(st.lists(st.integers(-500, 500), max_size=120), max_size=8))
@settings(max_examples=40, deadline=None)
def test_sums_per_key_against_a_dictionary(initial, batches):
    table, model = ColumnarTable(ColumnarState("s", SUMS, initial)), {}
    for batch in batches:
        slots = table.slots(np.array(batch, np.int64))
        np.add.at(table["total"], slots, 1.5)
        np.add.at(table["count"], slots, 1)
        for key in batch:
            total, count = model.get(key, (float(key) if initial else 0.0, 0))
            model[key] = (total + 1.5, count + 1)
    assert len(table) == len(model)
    keys = table.keys.tolist()
    assert keys == list(model)  # in order of first appearance
    assert list(zip(table["total"].tolist(), table["count"].tolist(), strict=True)) == list(model.values())
    vectors = np.outer(keys if initial else np.zeros(len(keys)), [1, 2, 3])
    assert np.array_equal(table["vector"].reshape(-1, 3), vectors.reshape(-1, 3))


@pytest.mark.parametrize("form", ["list", "arrow", "dictionary", "sliced", "numpy"])
def test_text_keys_in_every_form_share_slots(form):
    words = ["b", "a", "b", "ü", "", "a"]
    keys = {
        "list": words,
        "arrow": pa.array(words),
        "dictionary": pa.array(words).dictionary_encode(),
        "sliced": pa.array(["zzz", *words, "zzz"])[1:-1],
        "numpy": np.array(words),
    }[form]
    table = ColumnarTable(ColumnarState("s", SUMS, first_values))
    assert table.slots(["a"]).tolist() == [0]
    assert table.slots(keys).tolist() == [1, 0, 1, 2, 3, 0]
    assert table.keys == ["a", "b", "ü", ""]
    assert table["total"].tolist() == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("form", ["arrow", "dictionary", "list"])
def test_a_missing_key_is_a_key(form):
    words = ["a", None, "a", None, "b"]
    keys = {"arrow": pa.array(words), "dictionary": pa.array(words).dictionary_encode(), "list": words}[form]
    table = ColumnarTable(ColumnarState("s", SUMS))
    slots = table.slots(keys)
    assert [table.keys[slot] for slot in slots] == words
    assert table.slots(pa.array([None, None], pa.string())).tolist() == [slots[1]] * 2


def test_tuple_keys():
    table = ColumnarTable(ColumnarState("s", SUMS))
    assert table.slots([(1, "a"), (2, "a"), (1, "a")]).tolist() == [0, 1, 0]
    assert table.keys == [(1, "a"), (2, "a")]


def test_growth_keeps_values_and_initial_values_come_once():
    calls = []

    def initial(keys):
        calls.extend(keys.tolist())
        return {"total": keys.astype(float)}

    table = ColumnarTable(ColumnarState("s", SUMS, initial))
    for start in range(0, 5000, 700):
        keys = np.arange(start, start + 1000)
        slots = table.slots(keys)
        table["vector"][slots] = keys[:, None]
    assert calls == list(range(5900))
    assert table["total"].tolist() == [float(i) for i in range(5900)]
    assert np.array_equal(table["vector"][:, 2], np.arange(5900))


def test_a_large_table_is_hardly_ever_copied(monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 100)
    monkeypatch.setattr(module, "_RESERVED_BYTES", 3000 * (8 + 4 + 12 + 4 + 4))
    table, places = ColumnarTable(ColumnarState("s", SUMS, first_values)), []
    for start in range(0, 4000, 50):
        table.slots(np.arange(start, start + 50))
        places.append(table["total"].ctypes.data)
        if start == 1000:
            table.capture(1).finish()
    assert len(set(places[3:60])) == 1  # 150 to 3000 rows
    assert len(set(places[60:])) == 1  # room for twice as many
    assert table["total"].tolist() == list(range(4000))
    assert np.array_equal(table["vector"][:, 2], 3 * np.arange(4000, dtype=np.float32))


def test_where_addresses_are_limited_a_large_table_doubles(monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 100)
    monkeypatch.setattr(module, "_RESERVED_BYTES", 1 << 62)  # more than any system has
    table = ColumnarTable(ColumnarState("s", SUMS))
    for start in range(0, 1000, 50):
        slots = table.slots(np.arange(start, start + 50))
        table["total"][slots] = np.arange(start, start + 50)
        if start == 500:
            table.capture(1).finish()
    assert table["total"].tolist() == list(range(1000))


def test_an_empty_batch_first_and_keys_later():
    table = ColumnarTable(ColumnarState("s", SUMS))
    assert len(table) == 0
    assert table.slots(np.empty(0, np.int64)).tolist() == []
    assert table.slots(np.array([7])).tolist() == [0]


@pytest.mark.parametrize("wrong", [str, float | None])
def test_only_fields_of_fixed_width_are_taken(wrong):
    with pytest.raises(TopologyError, match=r"columnar state 's': field name: \w+\?? is not of fixed width"):
        ColumnarState("s", Schema.of(total=float, name=wrong))


@pytest.mark.parametrize("slots", [[5], [-1], 0.5, np.array([[0]]), [0.0]])
def test_rows_that_are_not_there_cannot_be_touched(slots):
    table = ColumnarTable(ColumnarState("s", SUMS))
    table.slots(np.arange(3))
    table.capture(1).finish()
    with pytest.raises(UsageError, match="no such rows"):
        table.touch(slots)


@pytest.mark.parametrize("slots", [[], [2, 9], np.arange(100) == 7, range(3)])
def test_rows_are_touched_by_number_or_mask(slots):
    table = ColumnarTable(ColumnarState("s", SUMS))
    table.slots(np.arange(100))
    table.capture(1).finish()
    table.touch(slots)
    capture = table.capture(2, since=1)
    capture.finish()
    wanted = np.flatnonzero(slots) if isinstance(slots, np.ndarray) else list(slots)
    assert capture.saved().rows.tolist() == list(wanted)
