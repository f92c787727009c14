"""The snapshot storage as one simulated process sees it: writes fail, tear when their process dies, or find no room."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

from streamcore.checkpoint.storage import Storage
from streamcore.testing.faults import Fault
from streamcore.testing.injector import Injector
from streamcore.testing.loop import Killed, SimulatedProcess
from streamcore.testing.memory import MemoryStorage


class Disk:
    """What all processes share: the files, and whether there is room for more."""

    def __init__(self, files: MemoryStorage, injector: Injector, now: Callable[[], float]) -> None:
        self.files = files
        self.injector = injector
        self.now = now
        self.full_until = 0.0


class ProcessStorage(Storage):
    """The storage of one process. A dead process changes nothing."""

    def __init__(self, disk: Disk, process: SimulatedProcess) -> None:
        super().__init__(disk.files.url, disk.files.identity)
        self._disk = disk
        self._files = disk.files
        self._process = process

    def write(self, path: str, data: bytes) -> None:
        fault = self._begin(path)
        if fault is not None:
            self._tear(fault, path, data, lambda: self._files.write(path, data))
        self._files.write(path, data)

    def create(self, path: str, data: bytes) -> bool:
        fault = self._begin(path)
        if fault is not None:
            self._tear(fault, path, data, lambda: self._files.create(path, data))
        return self._files.create(path, data)

    def read(self, path: str) -> bytes:
        self._check_alive()
        return self._files.read(path)

    def names(self, directory: str) -> list[str]:
        self._check_alive()
        return self._files.names(directory)

    def delete(self, path: str) -> None:
        fault = self._begin(path, is_deletion=True)
        if fault is not None:
            chance = random.Random(f"{fault.run} {fault.at}")  # noqa: S311 - the same whenever the fault is replayed
            below = sorted(name for name in self._files.files if name == path or name.startswith(f"{path}/"))
            for name in below[: chance.randint(0, len(below))]:
                self._files.delete(name)
            self._die()
        self._files.delete(path)

    def _begin(self, path: str, *, is_deletion: bool = False) -> Fault | None:
        """Does what goes wrong before anything is written; returns a fault that tears the operation.

        Raises:
            OSError: it fails.
        """
        self._check_alive()
        disk = self._disk
        fault = disk.injector.at_write(is_deletion=is_deletion)
        if fault is not None and fault.kind == "disk_full":
            disk.full_until = disk.now() + fault.seconds
        if not is_deletion and disk.now() < disk.full_until:
            raise OSError(errno.ENOSPC, "No space left on device (simulated)", path)
        if fault is not None and fault.kind == "failed_write":
            raise OSError(errno.EIO, "Input/output error (simulated)", path)
        return fault if fault is not None and fault.kind == "torn_write" else None

    def _tear(self, fault: Fault, path: str, data: bytes, act: Callable[[], object]) -> None:
        """What the protocol of writing beside, syncing and renaming leaves when it is interrupted."""
        chance = random.Random(f"{fault.run} {fault.at}")  # noqa: S311 - the same whenever the fault is replayed
        directory, _, name = path.rpartition("/")
        temporary = f"{directory}/.{name}.{chance.getrandbits(64):016x}.tmp".lstrip("/")
        outcome = chance.randrange(3)
        if outcome == 0:
            self._files.write(temporary, data[: chance.randint(0, len(data))])
        elif outcome == 1:
            act()
        self._die()

    def _check_alive(self) -> None:
        if not self._process.is_alive:
            raise Killed

    def _die(self) -> None:
        self._process.kill()
        raise Killed
