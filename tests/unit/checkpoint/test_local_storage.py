"""Snapshots on the local disk: the machine may crash after any step, processes may be killed, the disk may be full."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import threading
from pathlib import Path

import msgspec
import pytest
from disk_model import Disk

from streamcore.checkpoint.local_storage import LocalStorage
from streamcore.checkpoint.log import CheckpointLog, Entry, SubtaskEntry, state_path, tables_path
from streamcore.checkpoint.storage import digest_of, open_storage


@pytest.fixture
def disk(tmp_path, monkeypatch):
    disk = Disk(tmp_path, monkeypatch)
    yield disk
    disk.close()


def test_a_crash_of_the_machine_leaves_a_checkpoint_complete_or_absent(disk, tmp_path):
    """A run takes checkpoints, each of two subtasks of which one builds on the table file before, and keeps two. After
    each step, whatever of the unsynced steps is on the disk: every manifest has all its files, and the newest that was
    acknowledged is there."""
    acknowledged, steps, trees = 0, [], 0

    def check(step):
        nonlocal trees
        steps.append(step)
        for tree in disk.after_crash():
            trees += 1
            found = 0
            for path, content in tree.items():
                if re.fullmatch(r"dir/log/\d{8}\.json", path):
                    entry = msgspec.json.decode(content, type=Entry)
                    assert entry.digest == entry.signed().digest
                    for part in entry.subtasks:
                        for file in part.files:
                            assert digest_of(tree.get(f"dir/{file.path}") or b"") == file.digest, (
                                step,
                                path,
                                file.path,
                            )
                    found = max(found, entry.checkpoint_id)
            assert found >= acknowledged, step

    disk.on_step = check
    storage = open_storage(str(tmp_path / "dir"))
    log = CheckpointLog(storage)
    log.append(Entry("fence", "job", 1, 1, 0, 0))
    chain = []
    for number in range(1, 6):
        paths = [state_path(number, 0, index, 1) for index in range(2)]
        chain = [storage.put(tables_path(paths[1]), f"tables {number}".encode()), *chain[:1]]
        files = [storage.put_parts(path, [path.encode(), memoryview(b"x")]) for path in paths]
        parts = [
            SubtaskEntry(0, index, 2, ["op"], False, file, chain[::-1] * index) for index, file in enumerate(files)
        ]
        log.append(Entry("checkpoint", "job", 1, 1, number, 0, subtasks=parts))
        acknowledged = number
        check("acknowledged")
        log.retain(2, 1)
    assert [entry.checkpoint_id for entry in CheckpointLog(open_storage(storage.url)).checkpoints()] == [4, 5]
    assert len(steps) > 100
    assert trees > len(steps)


@pytest.mark.parametrize("method", ["write", "create"])
def test_what_was_written_is_durable_when_the_call_returns(disk, tmp_path, method):
    storage = open_storage(str(tmp_path / "new" / "dir"))
    getattr(storage, method)("chk/file", b"data")
    for tree in disk.after_crash():
        assert tree["new/dir/chk/file"] == b"data"
    getattr(storage, method)("top", b"data")
    for tree in disk.after_crash():
        assert tree["new/dir/top"] == b"data"


def test_a_directory_that_another_process_has_just_made_is_durable_too(disk, tmp_path):
    (tmp_path / "chk").mkdir()  # and not synced
    open_storage(str(tmp_path)).write("chk/file", b"data")
    for tree in disk.after_crash():
        assert tree["chk/file"] == b"data"


def test_what_was_deleted_does_not_come_back(disk, tmp_path):
    storage = open_storage(str(tmp_path))
    for path in ("log/1", "chk/a", "chk/b"):
        storage.write(path, b"x")
    storage.delete("log/1")
    storage.delete("chk")
    assert [tree for tree in disk.after_crash() if tree] == []


def test_what_killed_processes_left_is_cleaned_up_and_nothing_else(tmp_path):
    storage = open_storage(str(tmp_path))
    for path in ("log/1.json", "chk-1/a.state", "chk-1/.hidden.tmp", "notes.tmp"):
        storage.write(path, b"x")
    left = ["log/.2.json.0123456789abcdef.tmp", "chk-1/.a.state.0123456789abcdef.tmp", ".x.fedcba9876543210.tmp"]
    for name in [*left, "probe-0123456789abcdef"]:
        (tmp_path / name).write_bytes(b"half")
    storage.clean_up()
    there = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert there == ["chk-1/.hidden.tmp", "chk-1/a.state", "log/1.json", "notes.tmp"]
    open_storage(str(tmp_path / "nowhere")).clean_up()


def test_a_full_disk_leaves_no_half_file_and_says_what_was_needed(tmp_path, monkeypatch):
    storage = open_storage(str(tmp_path))
    storage.write("chk/old", b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OSError, match=r"No space left on device: 1,003 bytes to write, [\d,]+ free: '.*/chk/new'"
    ) as caught:
        storage.put_parts("chk/new", [b"abc", memoryview(bytes(1000))])
    assert caught.value.errno == errno.ENOSPC
    assert storage.names("chk") == ["old"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB of its own, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_really_full(small_disk):
    storage = open_storage(str(small_disk / "checkpoints"))
    storage.write("chk/old", bytes(300_000))
    with pytest.raises(OSError, match=r"No space left on device: 1,000,000 bytes to write, [1-9][\d,]+ free"):
        storage.write("chk/new", bytes(1_000_000))
    assert storage.names("chk") == ["old"]
    storage.delete("chk/old")
    storage.write("chk/new", bytes(1_000_000))


def test_deletion_that_fails_is_told_and_what_others_deleted_is_not(tmp_path, monkeypatch):
    storage = open_storage(str(tmp_path))
    storage.write("chk/a", b"x")
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: [*real(self), *([self / "gone"] if self.name == "chk" else [])])
    storage.delete("chk")
    storage.write("chk/a", b"x")

    def busy(path, **options):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(os, "unlink", busy)
    with pytest.raises(OSError, match="busy"):
        storage.delete("chk")


def test_of_many_that_create_one_name_one_succeeds(tmp_path):
    """Each with a storage of its own, as processes have; the file is whole whoever wins."""
    barrier, results = threading.Barrier(8), {}

    def create(n):
        storage = LocalStorage("x", tmp_path)
        content = bytes([n]) * 100_000
        barrier.wait()
        for round_ in range(5):
            results[n, round_] = storage.create(f"name-{round_}", content)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for round_ in range(5):
        winners = [n for n in range(8) if results.get((n, round_))]
        assert len(winners) == 1
        assert (tmp_path / f"name-{round_}").read_bytes() == bytes(winners) * 100_000
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")], "temporary files were left"
