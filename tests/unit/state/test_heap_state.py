"""The handles on heap state, each against a dictionary, and what declaring refuses."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.errors import StateCodecError, TopologyError
from streamcore.state.descriptors import ListState, MapState, ReducingState, ValueState
from streamcore.state.store import KeyedStore
from tests.saved_state import saved_store

KEYS = st.sampled_from(["a", "b", 3, None, ("t", 1)])


def make_store(**options):
    return KeyedStore(16, range(16), [], **{"allow_pickle": False, **options})


@given(st.lists(st.tuples(st.sampled_from(["set", "clear"]), KEYS, st.integers()), max_size=40))
@settings(max_examples=60, deadline=None)
def test_value(operations):
    store, model = make_store(), {}
    handle = store.declare(ValueState("v", -1))
    for operation, key, value in operations:
        store.current.key = key
        assert handle.get() == model.get(key, -1)
        if operation == "set":
            handle.set(value)
            model[key] = value
        else:
            handle.clear()
            model.pop(key, None)
        assert handle.get() == model.get(key, -1)


@given(st.lists(st.tuples(st.sampled_from(["add", "set", "clear"]), KEYS, st.integers()), max_size=40))
@settings(max_examples=60, deadline=None)
def test_list(operations):
    store, model = make_store(), defaultdict(list)
    handle = store.declare(ListState("l"))
    for operation, key, value in operations:
        store.current.key = key
        if operation == "add":
            handle.add(value)
            model[key].append(value)
        elif operation == "set":
            handle.set([value, value])
            model[key] = [value, value]
        else:
            handle.clear()
            model[key] = []
        assert handle.get() == model[key]


def test_what_list_get_gives_is_a_copy():
    store = make_store()
    handle = store.declare(ListState("l"))
    handle.add(1)
    handle.get().append(2)
    values = [5]
    assert handle.get() == [1]
    handle.set(values)
    values.append(6)
    assert handle.get() == [5]


@given(st.lists(st.tuples(st.sampled_from(["put", "remove", "clear"]), KEYS, st.integers(0, 3)), max_size=40))
@settings(max_examples=60, deadline=None)
def test_map(operations):
    store, model = make_store(), defaultdict(dict)
    handle = store.declare(MapState("m"))
    for operation, key, value in operations:
        store.current.key = key
        if operation == "put":
            handle.put(value, str(value))
            model[key][value] = str(value)
        elif operation == "remove":
            handle.remove(value)
            model[key].pop(value, None)
        else:
            handle.clear()
            model[key] = {}
        assert dict(handle.items()) == model[key]
        assert handle.get(value) == model[key].get(value)
        assert handle.get(value, "none") == model[key].get(value, "none")


def test_map_may_be_changed_while_it_is_gone_through():
    store = make_store()
    handle = store.declare(MapState("m"))
    for i in range(5):
        handle.put(i, i)
    for key, _ in handle.items():
        handle.remove(key)
    assert list(handle.items()) == []


@given(st.lists(st.tuples(KEYS, st.integers()), max_size=40))
@settings(max_examples=60, deadline=None)
def test_reducing(operations):
    store, model = make_store(), {}
    handle = store.declare(ReducingState("r", lambda a, b: 2 * a + b))
    for key, value in operations:
        store.current.key = key
        assert handle.get() == model.get(key)
        model[key] = 2 * model[key] + value if key in model else value
        assert handle.add(value) == model[key]
        assert handle.get() == model[key]


def test_handles_of_two_states_do_not_touch_each_other():
    store = make_store()
    a, b = store.declare(ValueState("a", 0)), store.declare(ValueState("b", 0))
    a.set(1)
    assert b.get() == 0


def test_a_name_can_be_declared_once():
    store = make_store()
    store.declare(ValueState("x", 0))
    with pytest.raises(TopologyError, match="state 'x' is declared twice"):
        store.declare(ListState("x"))
    with pytest.raises(TopologyError, match="declared twice"):
        store.table("x")


def test_a_value_without_plain_form_names_its_type_unless_pickle_is_allowed():
    class Local:
        pass

    store = make_store()
    store.declare(ValueState("x", None)).set(Local())
    with pytest.raises(StateCodecError, match="Local has no safe saved form"):
        saved_store(store)
    import collections

    store = make_store(allow_pickle=True)
    store.declare(ValueState("x", None)).set(collections.OrderedDict(a=1))
    assert saved_store(store, allow_pickle=True)["states"]["x"]["kind"] == "value"
