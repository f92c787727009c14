"""State in RocksDB is what state in memory is, whatever is done with it, through snapshots, restores and rescaling."""

from __future__ import annotations

import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.state.descriptors import ListState, MapState, ReducingState, ValueState
from streamcore.testing.memory import MemoryStorage
from tests.rocks_rig import Stores, rocksdb

KEY = st.sampled_from([1, 2, 3, "a", "b", None, ("t", 1), True, 2.0, b"a", ("t", True)])
ITEM = st.sampled_from([0, 1, 1.0, "x", ("y", 2), None])
VALUE = st.one_of(st.integers(-9, 9), st.text(max_size=3), st.lists(st.integers(0, 3), max_size=3), st.none())
STEP = st.one_of(
    st.tuples(st.sampled_from(["value.set"]), KEY, VALUE),
    st.tuples(st.sampled_from(["value.clear", "list.clear", "map.clear", "table.remove"]), KEY),
    st.tuples(st.sampled_from(["list.add"]), KEY, VALUE),
    st.tuples(st.sampled_from(["list.many"]), KEY, st.integers(50, 200)),
    st.tuples(st.sampled_from(["list.set"]), KEY, st.lists(VALUE, max_size=3)),
    st.tuples(st.sampled_from(["map.put"]), KEY, ITEM, VALUE),
    st.tuples(st.sampled_from(["map.remove"]), KEY, ITEM),
    st.tuples(st.sampled_from(["sum.add"]), KEY, st.integers(-5, 5)),
    st.tuples(st.sampled_from(["table.batch"]), st.lists(KEY, max_size=20)),
    st.tuples(st.sampled_from(["table.grow"]), KEY),
    st.tuples(st.sampled_from(["capture", "table.clear"])),
    st.tuples(st.sampled_from(["write"]), st.booleans()),
    st.tuples(st.sampled_from(["restore"]), st.integers(1, 3), st.booleans()),
)


class Played:
    """The same steps on stores and on dictionaries."""

    def __init__(self):
        self.storage = MemoryStorage()
        self.model = {name: {} for name in ("value", "list", "map", "sum", "table")}
        self.number = 0
        self.captured = None
        self.written = ([], copy.deepcopy(self.model))
        self.open(2, in_rocksdb=True)

    def open(self, parallelism, *, in_rocksdb):
        self.stores = Stores(rocksdb() if in_rocksdb else None, parallelism, self.storage, self.written[0])
        self.value = self.stores.declare(ValueState("value", "none"))
        self.list = self.stores.declare(ListState("list"))
        self.map = self.stores.declare(MapState("map"))
        self.sum = self.stores.declare(ReducingState("sum", lambda a, b: 2 * a + b))
        self.table = self.stores.table("table")
        self.model = copy.deepcopy(self.written[1])

    def step(self, what, *arguments):
        getattr(self, f"do_{what.replace('.', '_')}")(*arguments)

    def do_capture(self):
        if self.captured is None:
            self.number += 1
            self.captured = self.stores.capture(self.number), copy.deepcopy(self.model)

    def do_write(self, portable):
        if self.captured is not None:
            captured, model = self.captured
            self.captured, self.written = None, (self.stores.write(captured, portable=portable), model)

    def do_restore(self, parallelism, in_rocksdb):
        self.captured = None
        self.stores.close()
        self.open(parallelism, in_rocksdb=in_rocksdb)
        self.compare()

    def do_value_set(self, key, value):
        self.value[self.stores.go_to(key)].set(value)
        self.model["value"][key] = value

    def do_value_clear(self, key):
        self.value[self.stores.go_to(key)].clear()
        self.model["value"].pop(key, None)

    def do_list_add(self, key, value):
        self.list[self.stores.go_to(key)].add(value)
        self.model["list"].setdefault(key, []).append(value)

    def do_list_many(self, key, count):
        for i in range(count):
            self.do_list_add(key, i)

    def do_list_set(self, key, values):
        self.list[self.stores.go_to(key)].set(values)
        self.model["list"][key] = list(values)

    def do_list_clear(self, key):
        self.list[self.stores.go_to(key)].clear()
        self.model["list"].pop(key, None)

    def do_map_put(self, key, item, value):
        self.map[self.stores.go_to(key)].put(item, value)
        self.model["map"].setdefault(key, {})[item] = value

    def do_map_remove(self, key, item):
        self.map[self.stores.go_to(key)].remove(item)
        held = self.model["map"].get(key, {})
        held.pop(item, None)
        if not held:
            self.model["map"].pop(key, None)

    def do_map_clear(self, key):
        self.map[self.stores.go_to(key)].clear()
        self.model["map"].pop(key, None)

    def do_sum_add(self, key, value):
        before = self.model["sum"].get(key)
        self.model["sum"][key] = expected = value if before is None else 2 * before + value
        assert self.sum[self.stores.go_to(key)].add(value) == expected

    def do_table_batch(self, keys):
        for number, table in enumerate(self.table):
            own = [key for key in keys if self.stores.owner(key) == number]
            values = table.batch(own)
            for key in own:
                values.setdefault(key, []).append(len(own))
        for key in keys:
            owner = self.stores.owner(key)
            number = sum(self.stores.owner(other) == owner for other in keys)
            self.model["table"].setdefault(key, []).append(number)

    def do_table_grow(self, key):
        table = self.table[self.stores.go_to(key)]
        values = table.for_update(key, None)
        if values is None:
            table.put(key, [])
            self.model["table"][key] = []
        else:
            values.append("grown")
            self.model["table"][key].append("grown")

    def do_table_remove(self, key):
        self.table[self.stores.go_to(key)].remove(key)
        self.model["table"].pop(key, None)

    def do_table_clear(self):
        for table in self.table:
            table.clear()
        self.model["table"].clear()

    def compare(self):
        found = {name: {} for name in self.model}
        for name, handles in (("value", self.value), ("list", self.list), ("map", self.map), ("sum", self.sum)):
            for handle in handles:
                for key in handle.all_keys():
                    self.stores.go_to(key)
                    found[name][key] = dict(handle.items()) if name == "map" else handle.get()
        for table in self.table:
            assert dict(table.items()) == {key: table.get(key) for key in table.all_keys()}
            assert len(table) == len(table.all_keys())
            found["table"].update(table.items())
        found["map"] = {key: held for key, held in found["map"].items() if held}
        assert found == self.model


@given(st.lists(STEP, min_size=5, max_size=40))
@settings(max_examples=40, deadline=None)
def test_state_in_rocksdb(steps):
    played = Played()
    try:
        for step in steps:
            played.step(*step)
        played.compare()
        played.do_capture()
        played.do_write(portable=False)
        played.do_restore(1, in_rocksdb=True)
    finally:
        played.stores.close()
