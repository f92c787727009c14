"""State in RocksDB whose classes and descriptors have changed since the snapshot."""

from __future__ import annotations

import pytest

from streamcore.checkpoint.parts import read_part
from streamcore.errors import IncompatibleSnapshotError
from streamcore.state.descriptors import ListState, MapState, ValueState
from streamcore.state.rocks_keys import state_prefix
from streamcore.testing.memory import MemoryStorage
from tests.module_versions import install
from tests.rocks_rig import Stores, rocksdb

OLD = """
@dataclass(frozen=True)
class Account:
    owner: str
    balance: int

@dataclass(frozen=True)
class Place:
    row: int
"""
NEW = """
@dataclass(frozen=True)
class Account:
    balance: float
    owner: str = "nobody"
    limit: int = 10

@dataclass(frozen=True)
class Place:
    row: int
"""
COUNT = 40


def saved(shop, keys=tuple(range(COUNT))):
    """An account of each key in every kind of state, of two subtasks."""
    stores = Stores(rocksdb(), 2, MemoryStorage(), compacts=False)
    value, many, by_name = map(stores.declare, (ValueState("value", None), ListState("list"), MapState("map")))
    for number, key in enumerate(keys):
        account, subtask = shop.Account(str(number), number), stores.go_to(key)
        value[subtask].set(account)
        many[subtask].set([account, account])
        by_name[subtask].put("k", account)
    entries = stores.write(stores.capture(1))
    stores.close()
    return stores.storage, entries


def found(snapshot, keys=tuple(range(COUNT)), **options):
    """What each key has, restored by three subtasks."""
    stores, results = Stores(rocksdb(), 3, *snapshot), []
    try:
        descriptors = ValueState("value", None, **options), ListState("list", **options), MapState("map", **options)
        value, many, by_name = map(stores.declare, descriptors)
        for key in keys:
            subtask = stores.go_to(key)
            results.append((value[subtask].get(), many[subtask].get(), dict(by_name[subtask].items())))
        assert sum(len(handle.all_keys()) for handle in value) == len(keys)
    finally:
        stores.close()
    return results


def test_records_get_the_fields_of_today(monkeypatch, caplog):
    snapshot = saved(install(monkeypatch, OLD))
    shop = install(monkeypatch, NEW)
    accounts = [shop.Account(float(number), str(number), 10) for number in range(COUNT)]
    assert found(snapshot) == [(account, [account, account], {"k": account}) for account in accounts]
    assert "state 'value': Account: field limit is new" in caplog.text


def test_records_that_cannot_be_made_are_refused_when_the_state_is_declared(monkeypatch):
    snapshot = saved(install(monkeypatch, OLD))
    install(monkeypatch, NEW.replace('str = "nobody"', "bool = False"))
    with pytest.raises(IncompatibleSnapshotError, match="state 'value': Account has field owner as bool"):
        found(snapshot)


def test_a_migration_makes_all_values_anew(monkeypatch):
    snapshot = saved(install(monkeypatch, OLD))
    install(monkeypatch, "")  # the class is gone
    results = found(snapshot, version=1, migrate=lambda old, version: (old["owner"], 100 * old["balance"], version))
    values = [(str(number), 100 * number, 0) for number in range(COUNT)]
    assert results == [(value, [value, value], {"k": value}) for value in values]


def test_keys_of_a_class_with_another_name_are_refused_or_written_anew(monkeypatch):
    shop = install(monkeypatch, OLD)
    snapshot = saved(shop, [shop.Place(row) for row in range(COUNT)])
    moved = OLD.replace(
        "@dataclass(frozen=True)\nclass Place", "@formerly('shop.Place')\n@dataclass(frozen=True)\nclass Seat"
    )
    shop = install(monkeypatch, "from streamcore import formerly\n" + moved)
    seats = [shop.Seat(row) for row in range(COUNT)]
    with pytest.raises(IncompatibleSnapshotError, match="state 'value': its keys are of another class now"):
        found(snapshot, seats)
    results = found(snapshot, seats, version=1, migrate=lambda old, version: old["balance"])
    assert [value for value, _, _ in results] == list(range(COUNT))


def test_state_that_is_dropped_is_not_in_later_snapshots(monkeypatch):
    storage, entries = saved(install(monkeypatch, OLD))
    stores = Stores(rocksdb(), 2, storage, entries, compacts=False)
    stores.declare(ValueState("value", None))
    later = stores.write(stores.capture(2))
    stores.close()
    again = Stores(rocksdb(), 2, storage, later)
    assert sum(len(handle.all_keys()) for handle in again.declare(ValueState("value", None))) == COUNT
    again.close()
    names = "list", "map"
    for entry in later:  # what was dropped would otherwise be found again under a name that is used again
        keyed = read_part(storage, entry, allow_pickle=False).operators["op"].keyed
        assert not set(names) & set(keyed["states"])
        ((_, groups),) = [(name, state["groups"]) for name, state in keyed["states"].items()]
        for name in names:
            left = [list(groups.image.database().scan(state_prefix(group, name))) for group in groups]
            assert not any(left)
        groups.image.delete()
