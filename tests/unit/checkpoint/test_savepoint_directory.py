"""A savepoint that is given up leaves nothing, also where subtasks go on writing their parts of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore.checkpoint import savepoint
from streamcore.checkpoint.local_storage import LocalStorage
from streamcore.errors import SavepointError

PART = "chk-00000007/part.state"


@pytest.fixture
def storage(tmp_path):
    made = LocalStorage("x", tmp_path / "savepoint")
    savepoint.reserve(made, "job")
    made.write("chk-00000007/other.state", b"other")
    return made


def write_late(storage, times, monkeypatch):
    """Writes a part just before the directory of the parts is removed, the first so many `times`."""
    left, rmdir = list(range(times)), Path.rmdir

    def write_and_remove(directory):
        if left and directory.name == "chk-00000007":
            left.pop()
            storage.write(PART, b"part")
        rmdir(directory)

    monkeypatch.setattr(Path, "rmdir", write_and_remove)


def test_a_part_that_is_written_while_the_rest_is_deleted_goes_too(storage, tmp_path, monkeypatch):
    write_late(storage, 1, monkeypatch)
    savepoint.discard(storage)
    assert not [*tmp_path.iterdir()]


def test_one_that_never_stops_writing_deletes_its_part_itself(storage, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        write_late(storage, 100, patched)
        with pytest.raises(OSError, match="not empty"):
            savepoint.discard(storage)
    with pytest.raises(SavepointError, match="given up"):
        savepoint.check_wanted(storage)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("moment", range(4))
@pytest.mark.parametrize("checks_at_once", [True, False])
def test_at_whatever_moment_a_part_is_written_it_goes(storage, tmp_path, moment, checks_at_once):
    """Before each step of the deletion and after the last, by another process."""
    writer, steps, wanted = LocalStorage("x", tmp_path / "savepoint"), [], []

    def check():
        try:
            savepoint.check_wanted(writer)
        except SavepointError:
            return
        wanted.append(True)

    def write():
        writer.write(PART, b"part")
        if checks_at_once:
            check()

    class Stepwise(LocalStorage):
        def delete(self, path):
            if len(steps) == moment:
                write()
            steps.append(path)
            super().delete(path)

    savepoint.discard(Stepwise("x", tmp_path / "savepoint"))
    if moment == len(steps):
        write()
    if not checks_at_once:
        check()
    assert not [*tmp_path.iterdir()]
    assert bool(wanted) == (checks_at_once and moment < 2), "it is wanted until the mark has gone"


def test_a_part_is_kept_while_the_savepoint_is_wanted(storage):
    storage.write(PART, b"part")
    savepoint.check_wanted(storage)
    assert storage.read(PART) == b"part"
