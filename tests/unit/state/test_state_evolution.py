"""State whose descriptor or class has changed since the snapshot, on another number of subtasks as well."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pytest

from streamcore import Columns, MapState, Schema, TopologyError, Vector
from streamcore.batch import plain
from streamcore.checkpoint.log import SubtaskEntry
from streamcore.checkpoint.parts import read_part, write_part
from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.errors import IncompatibleSnapshotError
from streamcore.state.descriptors import ColumnarState, ListState, ReducingState, TableState, ValueState
from streamcore.state.key_groups import group_range, groups_of
from streamcore.state.store import KeyedStore
from streamcore.testing.memory import MemoryStorage
from tests.module_versions import install

GROUPS = 8
OLD = """
@dataclass(frozen=True)
class Account:
    owner: str
    balance: int
"""
NEW = """
@dataclass(frozen=True)
class Account:
    balance: float
    owner: str = "nobody"
    limit: int = 10
"""


def stores(parallelism, saved=(), **options):
    return [
        KeyedStore(GROUPS, group_range(i, parallelism, GROUPS), list(saved), allow_pickle=False, **options)
        for i in range(parallelism)
    ]


def owner(key, parallelism):
    return int(groups_of([key], GROUPS)[0]) * parallelism // GROUPS


def through_files(captured, meanwhile=lambda: None):
    """What the stores hold, as the files of a snapshot give it back."""
    storage, found = MemoryStorage(), []
    for number, store in enumerate(captured):
        keyed, tables = store.capture(1)
        part = OperatorSnapshot(keyed, None, tables)
        for capture in part.captures:
            capture.finish()
        snapshot = SubtaskSnapshot({"op": part})
        file, chain = write_part(storage, f"chk-00000001/{number}.state", snapshot, [], allow_pickle=False)
        entry = SubtaskEntry(0, number, len(captured), ["op"], finished=False, file=file, tables=chain)
        found.append(entry)
    meanwhile()
    return [read_part(storage, entry, allow_pickle=False).operators["op"].keyed for entry in found]


def saved_objects(descriptor, values, use):
    """`values` by key, put in by `use(handle, value)`, saved by three subtasks."""
    old = stores(3)
    for number, store in enumerate(old):
        handle = store.declare(descriptor)
        for key, value in values.items():
            if owner(key, 3) == number:
                store.go_to(key)
                use(handle, value)
    return through_files(old)


def found_objects(descriptor, saved, keys, read, parallelism=2):
    found = {}
    for number, store in enumerate(stores(parallelism, saved)):
        handle = store.declare(descriptor)
        store.check_all_claimed("op")
        for key in keys:
            if owner(key, parallelism) == number:
                store.go_to(key)
                found[key] = read(handle)
    return found


KEYS = ["a", "b", "c", 1, 2, 3, (1, "x")]


def test_records_in_every_kind_of_object_state_get_the_fields_of_today(monkeypatch, caplog):
    shop = install(monkeypatch, OLD)
    values = {key: shop.Account(str(key), number) for number, key in enumerate(KEYS)}
    saved = {
        "value": saved_objects(ValueState("s", None), values, lambda handle, value: handle.set(value)),
        "list": saved_objects(ListState("s"), values, lambda handle, value: handle.set([value, value])),
        "map": saved_objects(MapState("s"), values, lambda handle, value: handle.put("k", value)),
        "reducing": saved_objects(ReducingState("s", max), values, lambda handle, value: handle.add(value)),
    }
    new = install(monkeypatch, NEW)
    wanted = {key: new.Account(float(number), str(key), 10) for number, key in enumerate(KEYS)}
    assert found_objects(ValueState("s", None), saved["value"], KEYS, lambda h: h.get()) == wanted
    assert found_objects(ReducingState("s", max), saved["reducing"], KEYS, lambda h: h.get()) == wanted
    assert found_objects(MapState("s"), saved["map"], KEYS, lambda h: h.get("k")) == wanted
    lists = found_objects(ListState("s"), saved["list"], KEYS, lambda h: h.get())
    assert lists == {key: [value, value] for key, value in wanted.items()}
    assert "state 's': Account: field limit is new, field balance was int and is float" in caplog.text


def test_a_value_that_can_t_be_made_is_refused_with_its_state(monkeypatch):
    shop = install(monkeypatch, OLD)
    saved = saved_objects(ValueState("s", None), {"a": shop.Account("ann", 1)}, lambda h, value: h.set(value))
    install(monkeypatch, NEW.replace('str = "nobody"', "bool = False"))
    with pytest.raises(IncompatibleSnapshotError) as caught:
        found_objects(ValueState("s", None), saved, ["a"], lambda h: h.get(), parallelism=1)
    assert "state 's': Account has field owner as bool, and in the snapshot it is str" in caught.value.message
    assert "migrate" in caught.value.hint


def rename(old, version):
    """Version 0 had `owner` and `balance`, version 1 `name` and `balance` in pence."""
    if version == 0:
        return {"name": old["owner"].title(), "pence": 100 * old["balance"]}
    return {"name": old["name"], "pence": old["balance"]}


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_migration_is_for_older_versions_only(monkeypatch, version):
    shop = install(monkeypatch, OLD)
    value = [shop.Account("ann", 3), {"name": "Ann", "balance": 300}, {"name": "Ann", "pence": 300}][version]
    values, wanted = dict.fromkeys(KEYS, value), {key: {"name": "Ann", "pence": 300} for key in KEYS}
    saved = saved_objects(ValueState("s", None, version, rename if version else None), values, lambda h, v: h.set(v))
    lists = saved_objects(ListState("s", version, rename if version else None), values, lambda h, v: h.set([v]))
    maps = saved_objects(MapState("s", version, rename if version else None), values, lambda h, v: h.put(1, v))
    install(monkeypatch, "")  # the class is gone: a migration gets its fields all the same
    now = {"version": 2, "migrate": rename}
    assert found_objects(ValueState("s", None, **now), saved, KEYS, lambda h: h.get()) == wanted
    assert found_objects(ReducingState("s", max, **now), saved, KEYS, lambda h: h.get()) == wanted
    assert found_objects(MapState("s", **now), maps, KEYS, lambda h: h.get(1)) == wanted
    found = found_objects(ListState("s", **now), lists, KEYS, lambda h: h.get())
    assert found == {key: [value] for key, value in wanted.items()}


def test_keys_that_are_records_are_themselves_again_beside_a_migration(monkeypatch):
    shop = install(monkeypatch, OLD)
    keys = [shop.Account("ann", 1), (shop.Account("bob", 2), 1)]
    saved = saved_objects(MapState("s"), dict.fromkeys(keys, 7), lambda h, v: h.put(shop.Account("k", 0), v))
    descriptor = MapState("s", 1, lambda old, version: old + 1)
    found = found_objects(descriptor, saved, keys, lambda h: h.get(shop.Account("k", 0)))
    assert found == dict.fromkeys(keys, 8)


def test_keys_that_would_be_in_another_group_are_refused(monkeypatch):
    shop = install(monkeypatch, OLD)
    keys = [shop.Account("ann", n) for n in range(20)]
    objects = saved_objects(ValueState("s", 0), dict.fromkeys(keys, 7), lambda h, v: h.set(v))
    old = stores(1)
    old[0].declare(ColumnarState("s", Schema.of(n=int))).slots(keys)
    columnar = through_files(old, lambda: install(monkeypatch, NEW))
    for descriptor, saved in ((ValueState("s", 0), objects), (ColumnarState("s", Schema.of(n=int)), columnar)):
        with pytest.raises(IncompatibleSnapshotError, match="state 's': its keys have other fields or values now"):
            stores(1, saved)[0].declare(descriptor)


def test_a_newer_version_is_refused():
    saved = saved_objects(ValueState("s", 0, 3), {"a": 1}, lambda h, value: h.set(value))
    with pytest.raises(IncompatibleSnapshotError, match=r"'s' is of version 3 in the snapshot, and of version 2 in"):
        stores(1, saved)[0].declare(ValueState("s", 0, 2, lambda old, version: old))


@pytest.mark.parametrize("make", [lambda: ValueState("s", 0, -1), lambda: MapState("s", 0, lambda old, version: old)])
def test_a_version_that_can_t_be(make):
    with pytest.raises(TopologyError, match="state 's': version"):
        make()


# --- columns ------------------------------------------------------------------------------------------------------

FLAT = Schema.of(n=np.int32, rate=np.float32, flag=bool, pair=Vector(2, "f4"), gone=int)


def saved_columns(keys=range(40)):
    old = stores(3)
    for number, store in enumerate(old):
        table = store.declare(ColumnarState("s", FLAT))
        slots = table.slots(np.array([key for key in keys if owner(key, 3) == number], np.int64))
        for key, slot in zip(np.asarray(table.keys).tolist(), slots.tolist(), strict=True):
            table["n"][slot], table["rate"][slot], table["flag"][slot] = key, key / 2, key % 2
            table["pair"][slot] = key, -key
    return through_files(old)


def found_columns(descriptor, parallelism=2):
    found = {}
    for number, store in enumerate(stores(parallelism, saved_columns())):
        table = store.declare(descriptor)
        store.check_all_claimed("op")
        for slot, key in enumerate(np.asarray(table.keys).tolist()):
            assert owner(key, parallelism) == number
            found[key] = {name: table[name][slot].tolist() for name in descriptor.schema.names}
    return found


def test_columnar_state_takes_new_wider_and_fewer_fields(caplog):
    schema = Schema.of(new=int, other=Vector(3), pair=Vector(2, "f8"), flag=np.int8, n=np.float64, rate=np.float64)
    descriptor = ColumnarState("s", schema, lambda keys: {"new": 1000 + np.asarray(keys), "n": np.full(len(keys), -1)})
    assert found_columns(descriptor) == {
        key: {
            "new": 1000 + key, "other": [0, 0, 0], "pair": [key, -key], "flag": key % 2, "n": key, "rate": key / 2,
        }
        for key in range(40)
    }  # fmt: skip
    assert "state 's': field gone is dropped" in caplog.text


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (Schema.of(n=np.int16), "field 'n' is int32 in the snapshot, and int16 now"),
        (Schema.of(n=np.float32), "field 'n' is int32 in the snapshot, and float32 now"),
        (Schema.of(n=bool), "field 'n' is int32 in the snapshot, and bool now"),
        (Schema.of(n=np.uint64), "field 'n' is int32 in the snapshot, and uint64 now"),
        (Schema.of(rate=np.int64), "field 'rate' is float32 in the snapshot, and int64 now"),
        (Schema.of(pair=Vector(3, "f4")), "field 'pair' has 2 numbers in the snapshot, and 3 numbers now"),
        (Schema.of(rate=Vector(1, "f4")), "field 'rate' has one number in the snapshot, and 1 numbers now"),
    ],
)
def test_columnar_state_that_does_not_fit_is_refused_in_every_subtask(schema, message):
    saved = saved_columns([])
    for store in stores(4, saved):
        with pytest.raises(IncompatibleSnapshotError) as caught:
            store.declare(ColumnarState("s", schema))
        assert f"state 's': {message}" in caught.value.message


def test_columns_are_migrated():
    def migrate(old, version):
        assert (isinstance(old, Columns), version) == (True, 0)
        return {"first": old["pair"][:, 0], "n": (old["n"] % 100).astype(np.int16)}

    schema = Schema.of(n=np.int16, first=float, new=int)
    found = found_columns(ColumnarState("s", schema, lambda keys: {"new": np.full(len(keys), 9)}, 1, migrate))
    assert found == {key: {"n": key, "first": key, "new": 9} for key in range(40)}


@pytest.mark.parametrize("made", [{"other": np.zeros(40)}, {"n": np.zeros(3, np.int64)}, {"n": np.zeros(40)}])
def test_what_a_migration_makes_is_looked_at(made):
    descriptor = ColumnarState("s", Schema.of(n=int), version=1, migrate=lambda old, version: made)
    with pytest.raises(IncompatibleSnapshotError, match=r"state 's': (migrate made|field 'n' is float64)"):
        found_columns(descriptor, 1)


# --- tables -------------------------------------------------------------------------------------------------------

NARROW = Schema.of(k=np.int32, n=np.int16, gone=str)


def saved_table():
    old = stores(3)
    for number, store in enumerate(old):
        keys = np.array([key for key in range(30) if owner(key, 3) == number], np.int32)
        rows = Columns(NARROW, {"k": keys, "n": keys.astype(np.int16), "gone": pa.array(map(str, keys))})
        store.declare_table(TableState("t", "k", lambda rows=rows: rows, lambda _: None))
    return through_files(old)


def found_rows(parallelism=2, **attributes):
    taken = []
    for number, store in enumerate(stores(parallelism, saved_table())):
        mine: list[Columns] = []
        store.declare_table(TableState("t", "k", lambda: None, mine.append, **attributes))
        for rows in mine:
            assert all(owner(row.k, parallelism) == number for row in rows.to_rows())
            taken += rows.to_rows()
    return taken


def test_rows_of_a_table_become_wider():
    rows = found_rows(schema=Schema.of(k=int, n=float))
    assert sorted(rows) == [(key, float(key)) for key in range(30)]
    assert type(rows[0].n) is float


def test_rows_of_a_table_that_do_not_fit_are_refused():
    for schema in (Schema.of(k=int, more=int | None), Schema.of(k=int, n=np.int8), Schema.of(k=int, n=str)):
        with pytest.raises(IncompatibleSnapshotError, match=r"state 't' has (no column more|a column n: int16, not n)"):
            found_rows(schema=schema)


def test_rows_of_a_table_are_migrated():
    def migrate(old, version):
        return Columns.of(k=old["k"], more=old["n"] * 2.0)

    rows = found_rows(schema=Schema.of(k=int, more=float), version=2, migrate=migrate)
    assert sorted(rows) == [(key, 2.0 * key) for key in range(30)]
    with pytest.raises(IncompatibleSnapshotError, match="state 't': its keys have other"):
        found_rows(version=2, migrate=lambda old, version: Columns.of(k=old["k"] + 1, more=old["n"]))


# --- the rest -----------------------------------------------------------------------------------------------------


def test_what_the_snapshot_tells_of_a_state():
    store = stores(1)[0]
    store.declare(ValueState("v", 0, 4))
    store.declare(ColumnarState("c", Schema.of(n=np.int32, v=Vector(2))))
    store.declare_table(TableState("t", "k", lambda: Columns.of(k=np.zeros(0)), lambda _: None, Schema.of(k=float)))
    store.table("plain", "map")
    assert through_files([store])[0]["schemas"] == {
        "v": {"kind": "value", "version": 4, "fields": {}},
        "c": {"kind": "columnar", "version": 0, "fields": {"n": "int32", "v": "fixed_size_list<item: double>[2]"}},
        "t": {"kind": "table", "version": 0, "fields": {"k": "double"}},
        "plain": {"kind": "map", "version": 0, "fields": {}},
    }


def test_a_snapshot_from_before_there_were_schemas():
    body = plain.encode([["a", 1]])
    saved = {"states": {"s": {"kind": "value", "groups": {int(groups_of(["a"], GROUPS)[0]): body}}}, "timers": {}}
    assert found_objects(ValueState("s", 0), [saved], ["a"], lambda h: h.get()) == {"a": 1}
    migrated = ValueState("s", 0, 1, lambda old, version: (old, version))
    assert found_objects(migrated, [saved], ["a"], lambda h: h.get()) == {"a": (1, 0)}


def test_a_state_that_is_gone_is_dropped_where_that_is_allowed(caplog):
    saved = saved_objects(ValueState("s", 0), {"a": 1}, lambda h, value: h.set(value))
    for allowed in (False, True):
        store = stores(1, saved, allow_dropped=allowed)[0]
        store.declare(ValueState("other", 0))
        if not allowed:
            with pytest.raises(IncompatibleSnapshotError, match="the snapshot has state s, which") as caught:
                store.check_all_claimed("op")
            assert "--allow-dropped-state" in caught.value.hint
    with caplog.at_level(logging.WARNING):
        store.check_all_claimed("op")
    assert "operator op: the snapshot has state s, which the operator no longer declares; it is dropped" in caplog.text
