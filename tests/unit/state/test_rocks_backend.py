"""The RocksDB backend: its files in checkpoints, its directories, its memory, and what it says when something fails."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streamcore import RocksDB, StreamEnvironment
from streamcore.checkpoint.images import KnownTables
from streamcore.errors import CheckpointError, DamagedCheckpointError, MachineError, StateCodecError, UsageError
from streamcore.state import rocks_database
from streamcore.state.descriptors import ListState, MapState, ValueState
from streamcore.state.rocks_database import Database
from streamcore.state.scratch import ScratchDirectory
from streamcore.testing.memory import MemoryStorage
from tests.rocks_rig import Stores, rocksdb


def fill(table, keys, value="x"):
    values = table.batch(keys)
    values.update(dict.fromkeys(keys, value))


def names(storage):
    return {path for path in storage.files if path.endswith(".sst")}


def one(directory=None, entries=(), storage=None, **options):
    stores = Stores(rocksdb(directory), 1, storage or MemoryStorage(), entries, compacts=False, **options)
    return stores, stores.table("t")[0]


def test_unchanged_files_are_written_once_and_dropped_when_nobody_names_them():
    stores, table = one()
    fill(table, range(100))
    first = stores.write(stores.capture(1))
    fill(table, range(100, 110))
    second = stores.write(stores.capture(2))
    stores.close()
    assert len(first[0].shared) == 1
    assert len(second[0].shared) == 2
    assert set(first[0].shared) < set(second[0].shared)
    assert names(stores.storage) == {file.path for file in second[0].shared}
    assert {path.partition("/")[0] for path in names(stores.storage)} == {"chk-00000001", "chk-00000002"}


def test_what_may_not_be_complete_is_not_built_upon():
    stores, table = one()
    fill(table, range(100))
    first = stores.write(stores.capture(1))
    fill(table, [200])
    second = stores.write(stores.capture(2), complete=False)
    fill(table, [300])
    third = stores.write(stores.capture(3))
    fourth = stores.write(stores.capture(4))
    stores.close()
    assert set(first[0].shared) < set(second[0].shared)
    assert all(file.path.startswith("chk-00000003/") for file in third[0].shared)
    assert fourth[0].shared == third[0].shared


def test_after_a_restore_the_files_of_the_snapshot_go_on_being_named():
    stores, table = one()
    fill(table, range(100))
    entries = stores.write(stores.capture(7))
    stores.close()
    again, table = one(entries=entries, storage=stores.storage)
    fill(table, [500])
    after = again.write(again.capture(8), epoch=2)
    assert set(entries[0].shared) < set(after[0].shared)
    again.storage, again.subtasks[0].known = MemoryStorage("memory://other"), KnownTables()
    elsewhere = again.write(again.capture(9), epoch=2, complete=False)
    again.close()
    assert all(file.path.startswith("chk-00000009/") for file in elsewhere[0].shared)


def test_a_restore_at_the_same_parallelism_reads_no_entry(monkeypatch):
    stores, table = one()
    fill(table, range(100))
    entries = stores.write(stores.capture(1))
    stores.close()
    monkeypatch.setattr(Database, "put", None)
    monkeypatch.setattr(Database, "take_over", None)
    monkeypatch.setattr(Database, "drop", None)
    again, table = one(entries=entries, storage=stores.storage)
    assert table.get(5) == "x"
    assert len(table) == 100
    again.close()


def test_a_list_grows_without_being_written_again(monkeypatch):
    sizes = []
    put = Database.put

    def noting(self, entry, value):
        sizes.append(len(value or b""))
        put(self, entry, value)

    stores, _ = one()
    handle = stores.declare(ListState("list"))[0]
    stores.go_to("key")
    monkeypatch.setattr(Database, "put", noting)
    for number in range(10_000):
        handle.add(number)
    assert max(sizes) < 300
    assert sum(sizes) < 2_000_000
    big = ["y" * 20_000] * 5
    handle.set(big)
    assert max(sizes) < 60_000
    assert handle.get() == big
    stores.close()


def test_a_map_is_gone_through_as_it_was_while_it_changes_and_while_an_image_is_made():
    stores, _ = one()
    handle = stores.declare(MapState("map"))[0]
    stores.go_to("key")
    for item in range(5):
        handle.put(item, item)
    captured = stores.capture(1)
    handle.put(9, 9)
    handle.remove(0)
    for item, _ in handle.items():
        handle.remove(item)
    assert list(handle.items()) == []
    entries = stores.write(captured)
    stores.close()
    again, _ = one(entries=entries, storage=stores.storage)
    handle = again.declare(MapState("map"))[0]
    again.go_to("key")
    assert dict(handle.items()) == {item: item for item in range(5)}
    again.close()


def test_keys_that_look_otherwise_keep_their_looks():
    stores, table = one()
    fill(table, [True, 2.0])
    handles = [stores.declare(descriptor)[0] for descriptor in (ListState("list"), MapState("map"))]
    stores.go_to(True)
    handles[0].add(1)
    handles[1].put(False, 1)
    assert sorted(map(repr, table.all_keys())) == ["2.0", "True"]
    assert [handle.all_keys()[0] is True for handle in handles] == [True, True]
    assert next(iter(handles[1].items()))[0] is False
    entries = stores.write(stores.capture(1))
    stores.close()
    heap = Stores(None, 1, stores.storage, entries)
    assert sorted(map(repr, heap.table("t")[0].all_keys())) == ["2.0", "True"]


def test_many_writes_that_wait_for_an_image_wait_no_longer(monkeypatch):
    monkeypatch.setattr(rocks_database, "_GATHERED_BYTES", 1000)
    monkeypatch.setattr(rocks_database, "_WRITTEN_BYTES", 4000)
    monkeypatch.setattr(rocks_database, "_WAITING_BYTES", 50_000)
    stores, table = one()
    fill(table, range(10), "before")
    captured = stores.capture(1)
    for start in range(0, 2000, 100):
        fill(table, range(start, start + 100), "after")
    table.settle()
    assert len(stores.subtasks[0].store._backend._places.database._gathered) < 600
    entries = stores.write(captured)
    assert {table.get(key) for key in range(2000)} == {"after"}
    stores.close()
    again, table = one(entries=entries, storage=stores.storage)
    assert dict(table.items()) == dict.fromkeys(range(10), "before")
    again.close()


def test_an_image_that_fails_fails_its_checkpoint_only(monkeypatch):
    stores, table = one()
    fill(table, range(10))
    captured = stores.capture(1)
    with monkeypatch.context() as patched:
        patched.setattr(rocks_database, "Checkpoint", None)
        with pytest.raises(MachineError, match=r"object state in .* can't be read or written"):
            stores.write(captured)
    fill(table, [11])
    entries = stores.write(stores.capture(2))
    stores.close()
    again, table = one(entries=entries, storage=stores.storage)
    assert len(table) == 11
    again.close()


def test_damaged_and_newer_files_are_refused(monkeypatch):
    stores, table = one()
    fill(table, range(10))
    with monkeypatch.context() as patched:
        patched.setattr("streamcore.state.rocks_image.FORMAT", 2)
        newer = stores.write(stores.capture(1))
    with pytest.raises(CheckpointError, match="RocksDB state of format 2, this version reads up to 1"):
        one(entries=newer, storage=stores.storage)
    entries = stores.write(stores.capture(2))
    stores.close()
    path = entries[0].shared[0].path
    stores.storage.files[path] = stores.storage.files[path][:-1] + b"?"
    with pytest.raises(DamagedCheckpointError, match=r"\.sst is damaged"):
        one(entries=entries, storage=stores.storage)


def test_a_value_without_plain_form_is_refused_with_its_batch():
    stores, _ = one()
    value, many = stores.declare(ValueState("value", None))[0], stores.declare(ListState("list"))[0]
    stores.go_to(1)
    value.set(object())
    with pytest.raises(StateCodecError, match="has no safe saved form"):
        stores.subtasks[0].store.settle()
    with pytest.raises(StateCodecError, match="has no safe saved form"):
        many.add(object())
    stores.close()


def test_what_is_set_many_times_is_written_at_most_once_a_while(monkeypatch):
    written = []
    put_many = Database.put_many
    monkeypatch.setattr(Database, "put_many", lambda self, some: written.append(len(some)) or put_many(self, some))
    stores, _ = one()
    handle = stores.declare(ValueState("value", 0))[0]
    for number in range(10_000):
        stores.go_to(number % 1000)
        handle.set(handle.get() + 1)
    stores.subtasks[0].store.settle()
    assert sum(written) == 64 + 1000
    assert {handle.get() for _ in [stores.go_to(key) for key in handle.all_keys()]} == {10}
    stores.close()


def test_large_values_that_are_set_are_written_soon(monkeypatch):
    waiting = []
    stores, _ = one()
    handle = stores.declare(ValueState("value", 0))[0]
    for number in range(300):
        stores.go_to(number)
        handle.set(b"x" * 1_000_000)
        waiting.append(len(handle._rocks._lent))
    assert max(waiting) < 64
    assert max(waiting[70:]) < 5
    stores.close()


def test_a_database_goes_with_its_owner_and_is_found_by_the_next_if_that_was_killed(tmp_path):
    stores, _ = one(tmp_path)
    (mine,) = tmp_path.glob("streamcore-rocksdb-*")
    assert (mine / "db" / "CURRENT").exists()
    script = (
        "import os, sys; from streamcore.state.scratch import ScratchDirectory\n"
        "s = ScratchDirectory(sys.argv[1], 'streamcore-rocksdb'); print(s.path, flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    left = Path(killed.stdout.strip())
    assert left.is_dir()
    other = ScratchDirectory(str(tmp_path), "streamcore-rocksdb")
    assert not left.exists()
    assert mine.exists()
    stores.close()
    stores.close()
    assert not mine.exists()
    other.delete()
    assert [path.name for path in tmp_path.iterdir()] == ["streamcore-rocksdb.lock"]


def test_a_directory_among_temporary_files_is_private(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch = ScratchDirectory(None, "x")
    (place,) = tmp_path.iterdir()
    assert place.name == f"streamcore-{os.getuid()}"
    assert place.stat().st_mode & 0o777 == 0o700
    scratch.delete()
    shutil.rmtree(place)
    place.symlink_to(tmp_path)
    with pytest.raises(MachineError, match="belongs to somebody else"):
        ScratchDirectory(None, "x")


def test_a_directory_that_is_none_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"no directory for state can be made in .*file: ") as caught:
        one(tmp_path / "file")
    assert "RocksDB(directory=" in caught.value.hint


FULL = """
import resource, sys
from streamcore import *
class Blobs(ProcessFunction):
    def open(self, ctx): self._blob = ctx.state(ValueState("blob", b""))
    def process(self, record, ctx): self._blob.set(record.to_bytes(4, "big") * 5000)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
backend = RocksDB(sys.argv[1], memory_bytes=8 << 20, compression="none")
env = StreamEnvironment(state_backend=backend)
env.from_values(lambda: range(2000)).key_by(lambda n: n).process(Blobs())
try:
    env.execute()
except StreamcoreError as error:
    print(type(error).__name__, error)
"""


def test_a_disk_that_takes_no_more_fails_the_job_with_its_place(tmp_path):
    result = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "MachineError" in result.stdout, result.stderr
    assert f"object state in {tmp_path}/streamcore-rocksdb-" in result.stdout
    assert "File too large" in result.stdout
    assert "hint: see whether the disk works" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["streamcore-rocksdb.lock"]


LARGE = """
import os, resource, sys
from tests.rocks_rig import Stores, rocksdb
from streamcore.testing.memory import MemoryStorage
stores = Stores(rocksdb(sys.argv[1]), 1, MemoryStorage())
table = stores.table("t")[0]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for start in range(0, 40_000, 2_000):
    values = table.batch(range(start, start + 2_000))
    for key in range(start, start + 2_000):
        values[key] = os.urandom(2_000)
table.settle()
assert len(table.get(7)) == 2_000
stored = sum(file.stat().st_size for file in __import__("pathlib").Path(sys.argv[1]).rglob("*.sst"))
print(stored, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
stores.close()
"""


def test_state_may_be_larger_than_memory(tmp_path):
    """16 MiB for RocksDB, as much for values at hand, and 80 MB of state."""
    result = subprocess.run([sys.executable, "-c", LARGE, str(tmp_path)], capture_output=True, text=True, check=True)
    stored, grown = map(int, result.stdout.split())
    assert stored > 60e6
    assert grown < 56e6


def test_wrong_choices_are_refused():
    with pytest.raises(UsageError, match="no state backend 'redis'") as caught:
        StreamEnvironment(state_backend="redis")
    assert "heap, rocksdb" in caught.value.hint
    with pytest.raises(UsageError, match="memory_bytes=1000"):
        RocksDB(memory_bytes=1000)
    with pytest.raises(UsageError, match="no compression 'gzip'"):
        RocksDB(compression="gzip")


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_blocks_are_compressed_as_asked(compression):
    stores = Stores(rocksdb(compression=compression), 1, MemoryStorage(), compacts=False)
    fill(stores.table("t")[0], range(2000), "a" * 200)
    (entry,) = stores.write(stores.capture(1))
    stores.close()
    assert (entry.shared[0].size_bytes > 200_000) == (compression == "none")


def test_without_rocksdict_it_says_what_to_install(monkeypatch):
    stores, table = one()
    fill(table, [1])
    entries = stores.write(stores.capture(1))
    stores.close()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rocksdict" else find(name))
    with pytest.raises(UsageError, match="state_backend='rocksdb' needs the package rocksdict") as caught:
        StreamEnvironment(state_backend=RocksDB())
    assert caught.value.hint == "pip install 'streamcore[rocksdb]'"
    with pytest.raises(UsageError, match="a snapshot of RocksDB state needs the package rocksdict"):
        Stores(None, 1, stores.storage, entries)


def test_a_job_without_rocksdict_runs(tmp_path):
    script = (
        "import sys; sys.modules['rocksdict'] = None\n"
        "from streamcore import *\n"
        "env = StreamEnvironment(checkpoint=Checkpointing(sys.argv[1], interval=0.01))\n"
        "print(env.execute_and_collect(env.from_values([1, 2]).key_by(lambda n: 1).count()))"
    )
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert result.stdout == "[(1, 1), (1, 2)]\n"
