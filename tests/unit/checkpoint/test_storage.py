"""Storage, local and through fsspec: whole files or none, names made exactly once, damage named."""

from __future__ import annotations

import os
import uuid

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from streamcore.checkpoint.fsspec_storage import FsspecStorage
from streamcore.checkpoint.storage import FileRef, digest_of, open_storage
from streamcore.errors import CheckpointError, DamagedCheckpointError, MachineError
from streamcore.testing import MemoryStorage


@pytest.fixture(params=["local", "file-url", "memory"])
def storage(request, tmp_path):
    if request.param == "memory":
        return open_storage(f"memory://{uuid.uuid4().hex}")
    path = tmp_path / "checkpoints"
    return open_storage(str(path) if request.param == "local" else path.as_uri())


def test_write_and_read(storage):
    storage.write("a/b/c.state", b"one")
    storage.write("a/b/c.state", b"two")
    assert storage.read("a/b/c.state") == b"two"
    storage.write("empty", b"")
    assert storage.read("empty") == b""


def test_a_file_that_is_not_there(storage):
    with pytest.raises(FileNotFoundError):
        storage.read("a/nothing")
    storage.write("a/b", b"")
    with pytest.raises(FileNotFoundError):
        storage.read("a/nothing")


def test_create_makes_a_name_once(storage):
    assert storage.create("log/1.json", b"first") is True
    assert storage.create("log/1.json", b"second") is False
    assert storage.read("log/1.json") == b"first"
    assert storage.create("log/2.json", b"") is True
    assert storage.create("log/2.json", b"x") is False


def test_two_openings_of_one_place_share_it(storage):
    other = open_storage(storage.url)
    assert storage.create("x", b"1")
    assert not other.create("x", b"2")
    assert other.read("x") == b"1"


def test_names_are_sorted_and_of_one_directory_only(storage):
    assert storage.names("") == []
    assert storage.names("nowhere") == []
    for path in ("log/2", "log/1", "log/10", "chk/a", "top"):
        storage.write(path, b"x")
    assert storage.names("log") == ["1", "10", "2"]
    assert storage.names("") == ["chk", "log", "top"]


def test_delete_a_file_a_directory_and_nothing(storage):
    storage.write("d/e/f", b"x")
    storage.write("d/g", b"x")
    storage.delete("d/g")
    assert storage.names("d") == ["e"]
    storage.delete("d")
    assert storage.names("") == []
    storage.delete("d")
    assert storage.create("d/g", b"again")


def test_put_and_get(storage):
    ref = storage.put("chk/1.state", b"content")
    assert (ref.path, ref.size_bytes, ref.digest) == ("chk/1.state", 7, digest_of(b"content"))
    assert storage.get(ref) == b"content"


def test_a_missing_file_is_named(storage):
    ref = storage.put("chk/1.state", b"content")
    storage.delete("chk/1.state")
    with pytest.raises(DamagedCheckpointError, match=r"chk/1\.state is missing"):
        storage.get(ref)


@pytest.mark.parametrize("damaged", [b"", b"conten", b"Content", b"content "])
def test_a_damaged_file_is_named(storage, damaged):
    ref = storage.put("chk/1.state", b"content")
    storage.write("chk/1.state", damaged)
    with pytest.raises(DamagedCheckpointError, match=r"chk/1\.state is damaged"):
        storage.get(ref)


def test_check_writable_leaves_nothing(storage):
    storage.check_writable()
    assert storage.names("") == []


def test_digests_are_blake2b_of_16_bytes():
    assert digest_of(b"") == "cae66941d9efbd404e4d88758ea67670"
    assert FileRef("p", 0, digest_of(b"")) == FileRef("p", 0, "cae66941d9efbd404e4d88758ea67670")


def test_a_place_that_cannot_be_written_is_an_error_of_the_machine(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match="can't be written") as caught:
        open_storage(str(tmp_path / "file")).check_writable()
    assert "--checkpoint-dir" in caught.value.hint


def test_an_unknown_file_system_is_named():
    with pytest.raises(CheckpointError, match="can't open nonsense://x"):
        open_storage("nonsense://x")


def test_a_local_write_shows_the_old_file_or_the_new_one_never_half(tmp_path, monkeypatch):
    storage = open_storage(str(tmp_path))
    storage.write("f", b"old")
    seen = []
    real = os.fsync

    def watch(descriptor):
        seen.append((tmp_path / "f").read_bytes())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    storage.write("f", b"new")
    assert seen == [b"old", b"new"]  # synced before it got its name, and the name synced after


@pytest.mark.parametrize("method", ["write", "create"])
def test_a_local_write_that_fails_leaves_nothing_under_the_name(tmp_path, monkeypatch, method):
    storage = open_storage(str(tmp_path))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        getattr(storage, method)("f", b"data")
    assert list(tmp_path.iterdir()) == []


class TwiceStorage(MemoryStorage):
    """Lets a name be made again, so often."""

    def __init__(self, times):
        super().__init__()
        self._times = times

    def create(self, path, data):
        made = super().create(path, data)
        if not made and self._times:
            self._times -= 1
            return True
        return made


def test_a_place_where_names_can_be_made_twice_is_refused():
    with pytest.raises(MachineError, match="a file there can be made twice") as caught:
        TwiceStorage(100).check_writable()
    assert "If-None-Match" in caught.value.hint
    TwiceStorage(2).check_writable()  # another run has cleaned up between the two


def test_a_file_system_that_can_only_overwrite_is_refused():
    class Overwriting(MemoryFileSystem):
        def pipe_file(self, path, value, mode="overwrite", **kwargs):
            if mode == "create":
                raise NotImplementedError("exclusive mode")
            super().pipe_file(path, value)

    storage = FsspecStorage("other://x", Overwriting(), "/x")
    with pytest.raises(MachineError, match="Overwriting can't make a file only where there is none"):
        storage.check_writable()
