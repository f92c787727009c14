"""Storage of a simulated process: what fails leaves nothing, what tears is whole or absent, the dead write nothing."""

import errno

import pytest

from streamcore.checkpoint.storage import digest_of
from streamcore.testing import Fault, Faults, MemoryStorage
from streamcore.testing.disk import Disk, ProcessStorage
from streamcore.testing.injector import Injector
from streamcore.testing.loop import Killed, SimulatedLoop, SimulatedProcess


class Rig:
    def __init__(self, *faults: Fault):
        self.loop = SimulatedLoop(1)
        self.process = SimulatedProcess("worker 0", self.loop)
        self.files = MemoryStorage()
        injector = Injector(1, Faults.of(*faults))
        injector.begin_run()
        self.storage = ProcessStorage(Disk(self.files, injector, self.loop.time), self.process)


def test_without_faults_it_is_the_storage_behind_it():
    rig = Rig()
    ref = rig.storage.put_parts("d/a", [b"12", b"3"])
    assert (ref.size_bytes, ref.digest) == (3, digest_of(b"123"))
    assert rig.storage.get(ref) == b"123"
    assert rig.storage.create("d/b", b"")
    assert not rig.storage.create("d/b", b"other")
    assert rig.storage.names("d") == ["a", "b"]
    rig.storage.delete("d")
    assert rig.files.files == {}


def test_a_failed_write_leaves_nothing():
    rig = Rig(Fault("failed_write", at=1))
    with pytest.raises(OSError, match="simulated") as failed:
        rig.storage.write("a", b"1")
    assert failed.value.errno == errno.EIO
    assert rig.files.files == {}
    rig.storage.write("a", b"1")
    assert rig.files.files == {"a": b"1"}


def test_a_full_disk_has_room_again_after_some_time():
    rig = Rig(Fault("disk_full", at=2, seconds=3.0))
    rig.storage.write("a", b"1")
    for path in "bc":
        with pytest.raises(OSError, match="No space left"):
            rig.storage.write(path, b"1")
    rig.storage.delete("a")
    rig.loop.advance(3.0)
    rig.storage.write("d", b"1")
    assert rig.files.files == {"d": b"1"}


def outcomes(act) -> set[frozenset[tuple[str, bool]]]:
    """What is there after each of many torn operations: names ("tmp": a temporary file) and whether they are whole."""
    seen = set()
    for at in range(1, 60):
        rig = Rig(Fault("torn_write", at=at))
        for number in range(at - 1):
            rig.storage.write(f"filler-{number}", b"")
        with pytest.raises(Killed):
            act(rig.storage)
        assert not rig.process.is_alive
        left = {path: data for path, data in rig.files.files.items() if not path.startswith("filler")}
        names = {path: "tmp" if path.endswith(".tmp") else path for path in left}
        seen.add(frozenset((names[path], data == b"0123456789") for path, data in left.items()))
    return seen


@pytest.mark.parametrize("method", ["write", "create"])
def test_a_torn_write_is_whole_or_absent(method):
    seen = outcomes(lambda storage: getattr(storage, method)("d/a", b"0123456789"))
    nothing, whole = frozenset(), frozenset({("d/a", True)})
    assert {nothing, whole, frozenset({("tmp", False)})} <= seen
    assert ("d/a", False) not in frozenset().union(*seen)


def test_a_torn_deletion_deletes_a_part():
    def delete(storage):
        for name in "abc":
            storage._files.write(f"d/{name}", b"0123456789")
        storage.delete("d")

    assert {len(left) for left in outcomes(delete)} == {0, 1, 2, 3}


def test_a_dead_process_neither_writes_nor_reads():
    rig = Rig()
    rig.process.kill()
    actions = [
        lambda: rig.storage.write("a", b""),
        lambda: rig.storage.create("a", b""),
        lambda: rig.storage.delete("a"),
        lambda: rig.storage.read("a"),
        lambda: rig.storage.names(""),
    ]
    for action in actions:
        with pytest.raises(Killed):
            action()
    assert rig.files.files == {}
