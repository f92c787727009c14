"""What a subtask's snapshot is for: a savepoint builds on nothing, and no checkpoint builds on it."""

from __future__ import annotations

import pytest

from streamcore.checkpoint import savepoint
from streamcore.checkpoint.in_flight import InFlight
from streamcore.checkpoint.local_storage import LocalStorage
from streamcore.checkpoint.storage import FileRef
from streamcore.errors import SavepointError
from streamcore.runtime.data_plane import _decode_barrier, _encode_barrier
from streamcore.runtime.elements import Barrier, Mode, Savepoint
from streamcore.runtime.services import Services
from streamcore.runtime.snapshot_writer import SnapshotWriter
from streamcore.runtime.spec import VertexSpec


def test_a_savepoint_is_captured_in_full_and_the_next_checkpoint_builds_on_the_last_one():
    writer = SnapshotWriter(VertexSpec(0, "v", (), 1, 8), 0, 1, None, Services(), print, allow_pickle=False)
    writer._increments.wrote(4, [FileRef("chk-00000004/v0-0.e1.tables", 10, "")])
    writer.complete(4)
    writer.announce(5, Savepoint("somewhere"))
    assert (writer.base(4), writer.base(5), writer.base(6)) == (4, None, 4)
    writer.announce(5, None)  # the barrier has told, a message that doesn't changes nothing
    assert writer.savepoint(5) == Savepoint("somewhere")
    assert writer.savepoint(6) is None


def test_a_part_whose_directory_is_deleted_while_it_is_written_leaves_nothing(tmp_path):
    class Deleted(LocalStorage):
        def write_parts(self, path, parts):
            savepoint.discard(self)  # somebody gives the savepoint up
            (tmp_path / "savepoint" / "chk-00000007").mkdir(parents=True)
            raise FileNotFoundError(path)

    class Given(Services):
        def open_storage(self, url):
            return Deleted("x", tmp_path / "savepoint")

    savepoint.reserve(Given().open_storage("x"), "job")
    writer = SnapshotWriter(VertexSpec(0, "v", (), 1, 8), 0, 1, None, Given(), print, allow_pickle=False)
    with pytest.raises(SavepointError, match="given up"):
        writer._store("chk-00000007/v0-0.e1.state", {}, InFlight(), [], {}, Savepoint("x"))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "barrier",
    [
        Barrier(1),
        Barrier(1 << 40, Mode.UNALIGNED),
        Barrier(7, Mode.ALIGNED, Savepoint("s3://bücket/a b")),
        Barrier(7, Mode.ALIGNED, Savepoint("/place", is_last=True)),
    ],
)
def test_a_barrier_between_workers_says_what_it_is_for(barrier):
    assert _decode_barrier(memoryview(_encode_barrier(barrier))) == barrier
