"""Random changes of columnar state and of records, on random numbers of subtasks, against plain Python."""

from __future__ import annotations

import sys
import types
from dataclasses import field, make_dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Schema
from streamcore.errors import IncompatibleSnapshotError
from streamcore.state.descriptors import ColumnarState, MapState
from streamcore.state.key_groups import group_range, groups_of
from streamcore.state.store import KeyedStore
from tests.saved_state import saved_store

GROUPS = 12
NAMES = "abcde"
RANGES = {"i1": 7, "i2": 15, "i4": 31, "i8": 63, "u1": 8, "u2": 16, "u4": 32}
FRACTIONS = {"f4": 24, "f8": 53}
DTYPES = ["?", *RANGES, *FRACTIONS]


def fits(old, new):
    """Whether all numbers of one dtype are numbers of the other, by what a book says of them."""
    if old == "?" or old == new:
        return True
    if new == "?" or (old in FRACTIONS and new in RANGES):
        return False
    if old in FRACTIONS or new in FRACTIONS:
        return {**RANGES, **FRACTIONS}[old] <= FRACTIONS[new]
    return RANGES[old] <= RANGES[new] and (old[0] == "u" or new[0] == "i")


def value_of(dtype, key, name):
    """Some value for a field of a key, an exact one."""
    number = (key * 31 + ord(name)) % 120
    return bool(number % 2) if dtype == "?" else number / 4 if dtype in FRACTIONS else number


def stores(parallelism, saved=()):
    return [
        KeyedStore(GROUPS, group_range(i, parallelism, GROUPS), list(saved), allow_pickle=False)
        for i in range(parallelism)
    ]


def owner(key, parallelism):
    return int(groups_of([key], GROUPS)[0]) * parallelism // GROUPS


SCHEMAS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(DTYPES), min_size=1)
WIDTHS = st.integers(1, 5)
KEYS = st.sets(st.integers(-1000, 1000), max_size=20)


def changed(draw, old):
    """A schema that has most of its fields from another."""
    new = {name: draw(st.sampled_from([d for d in DTYPES if fits(dtype, d)])) for name, dtype in old.items()}
    for name in draw(st.sets(st.sampled_from(NAMES))):
        new[name] = draw(st.sampled_from(DTYPES))
    for name in draw(st.sets(st.sampled_from(NAMES), max_size=2)):
        if len(new) > 1:
            new.pop(name, None)
    return dict(draw(st.permutations(list(new.items()))))


@given(SCHEMAS, st.data(), WIDTHS, WIDTHS, KEYS)
@settings(max_examples=80, deadline=None)
def test_columnar_state(old, data, before, after, keys):
    new = changed(data.draw, old)
    saved = []
    for number, store in enumerate(stores(before)):
        table = store.declare(ColumnarState("s", Schema.of(**old)))
        own = np.array([key for key in keys if owner(key, before) == number], np.int64)
        slots = table.slots(own)
        for name, dtype in old.items():
            table[name][slots] = [value_of(dtype, key, name) for key in own.tolist()]
        saved.append(saved_store(store))
    descriptor = ColumnarState("s", Schema.of(**new), lambda keys: {name: np.full(len(keys), 1) for name in new})
    kept = old.keys() & new.keys()
    if not all(fits(old[name], new[name]) for name in kept):
        for store in stores(after, saved):
            with pytest.raises(IncompatibleSnapshotError):
                store.declare(descriptor)
        return
    found = {}
    for number, store in enumerate(stores(after, saved)):
        table = store.declare(descriptor)
        store.check_all_claimed("op")
        for slot, key in enumerate(np.asarray(table.keys).tolist()):
            assert owner(key, after) == number
            found[key] = {name: table[name][slot].item() for name in new}
            assert all(table[name].dtype == np.dtype(dtype) for name, dtype in new.items())
    assert found == {key: {name: value_of(old[name], key, name) if name in kept else 1 for name in new} for key in keys}


TYPES = {"b": bool, "i": int, "f": float, "s": str, "o": object}
WIDER = {("b", "i"), ("b", "f"), ("i", "f")}
RECORDS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(sorted(TYPES)), min_size=1)


def record_class(fields, defaults):
    """A dataclass of a module that is loaded."""
    module = sys.modules.setdefault("generated_records", types.ModuleType("generated_records"))
    items = [
        (name, TYPES[kind], field(default=f"new {name}", kw_only=True)) if name in defaults else (name, TYPES[kind])
        for name, kind in fields.items()
    ]
    cls = make_dataclass("Thing", items, namespace={"__module__": "generated_records"})
    module.Thing = cls
    return cls


def plain_value(kind, key, name):
    number = (key * 7 + ord(name)) % 50
    return {"b": number % 2 == 0, "i": number, "f": number / 2, "s": str(number), "o": (number, None)}[kind]


def found_records(keys, parallelism, saved):
    found = {}
    for number, store in enumerate(stores(parallelism, saved)):
        handle = store.declare(MapState("m"))
        for key in keys:
            if owner(key, parallelism) == number:
                store.go_to(key)
                found[key] = handle.get("k")
    return found


@given(RECORDS, RECORDS, st.sets(st.sampled_from(NAMES)), WIDTHS, WIDTHS, KEYS)
@settings(max_examples=80, deadline=None)
def test_records(old, new, defaults, before, after, keys):
    cls, saved = record_class(old, ()), []
    for number, store in enumerate(stores(before)):
        handle = store.declare(MapState("m"))
        for key in keys:
            if owner(key, before) == number:
                store.go_to(key)
                handle.put("k", cls(**{name: plain_value(kind, key, name) for name, kind in old.items()}))
        saved.append(saved_store(store))
    cls = record_class(new, {name for name in defaults if name not in old})
    missing = [name for name in new if name not in old and name not in defaults]
    wrong = [name for name in old.keys() & new.keys() if old[name] != new[name] and (old[name], new[name]) not in WIDER]
    wrong = [name for name in wrong if "o" not in (old[name], new[name])]
    if keys and (missing or wrong):
        with pytest.raises(IncompatibleSnapshotError, match=rf"state 'm': .*field ({'|'.join((*missing, *wrong))}) "):
            found_records(keys, after, saved)
        return
    found = found_records(keys, after, saved)
    wanted = {
        key: {name: plain_value(old[name], key, name) if name in old else f"new {name}" for name in new} for key in keys
    }
    assert {key: vars(record) for key, record in found.items()} == wanted
    assert all(type(record) is cls for record in found.values())
    assert all(
        type(getattr(r, n)) is TYPES[k]
        for r in found.values()
        for n, k in new.items()
        if old.get(n, "o") != "o" and k in "bifs"
    )
