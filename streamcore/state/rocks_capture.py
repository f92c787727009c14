"""What a snapshot takes of state in RocksDB: the files of an image, which all tables of an operator subtask share."""

from __future__ import annotations

import mmap
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamcore.state import rocks_pairs
from streamcore.state.object_capture import SavedObjects
from streamcore.state.rocks_image import SavedImage
from streamcore.state.rocks_keys import state_prefix

if TYPE_CHECKING:  # rocksdict may be missing, and snapshots are written all the same
    from streamcore.state.rocks_database import Image

_TABLES = ".sst"
_LOG = ".log"


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The files of an image.

    Attributes:
        small: what RocksDB needs beside its tables, by name; some kilobytes.
        tables: where its table files are, by name. As long as the database lives, a name stands for one content.
    """

    small: dict[str, bytes]
    tables: dict[str, Path]


class ImageCapture:
    """A table of objects in a database of which an image is made.

    Attributes:
        kind: what each key has, see `StateBackend.table`.
        origin: the image that the database began with, whose table files keep their names.
    """

    is_whole = True
    is_empty = False
    done = True

    def __init__(self, image: Image, groups: range, kind: str, origin: SavedImage | None) -> None:
        self.kind = kind
        self.groups = groups
        self.origin = origin
        self._image = image

    def step(self) -> None:
        """Nothing is copied."""

    def finish(self) -> None:
        """Nothing is copied."""

    def abandon(self) -> None:
        self._image.delete()

    @property
    def path(self) -> Path:
        """Where the image is, when it has been made."""
        return self._image.path

    def saved(self) -> ImageFiles:
        """Makes the image; blocking, in any thread.

        Raises:
            MachineError: it can't be made.
        """
        self._image.make()
        files = [file for file in sorted(self._image.path.iterdir()) if file.suffix != _LOG]
        small = {file.name: file.read_bytes() for file in files if file.suffix != _TABLES}
        return ImageFiles(small, {file.name: file for file in files if file.suffix == _TABLES})

    def release(self) -> None:
        self._image.delete()


class PortableCapture:
    """The same table as a capture of state in memory would have it. Its entries go through a file, so that they may be
    more than memory holds."""

    is_whole = True
    is_empty = False
    done = True

    def __init__(self, capture: ImageCapture, name: str) -> None:
        self._capture = capture
        self._name = name
        self._mapped: mmap.mmap | None = None

    def step(self) -> None:
        """Nothing is copied."""

    def finish(self) -> None:
        """Nothing is copied."""

    def abandon(self) -> None:
        self._capture.abandon()

    def saved(self) -> SavedObjects:
        """Makes the image and reads the table out of it; blocking, in any thread.

        Raises:
            MachineError: it can't be made.
        """
        from streamcore.state.rocks_database import FrozenDatabase

        capture = self._capture
        capture.saved()
        database = FrozenDatabase(capture.path)
        counts: dict[int, int] = {}
        stops: dict[int, int] = {}
        with tempfile.TemporaryFile(dir=capture.path) as file:
            for group in capture.groups:
                prefix = state_prefix(group, self._name)
                for pair in rocks_pairs.saved_pairs(capture.kind, database.scan(prefix), len(prefix)):
                    file.write(pair)
                    counts[group] = counts.get(group, 0) + 1
                if group in counts:
                    stops[group] = file.tell()
            file.flush()
            content = memoryview(b"")
            if counts:
                self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                content = memoryview(self._mapped)
        database.close()
        starts = [0, *stops.values()]
        saved = SavedObjects(capture.kind, is_whole=True)
        saved.entries.counts = counts
        bodies: dict[int, Any] = {}  # nothing is added to them
        for (group, stop), start in zip(stops.items(), starts, strict=False):
            bodies[group] = content[start:stop]
        saved.entries.bodies = bodies
        return saved

    def release(self) -> None:
        self._capture.release()
