"""What a snapshot takes of state in RocksDB: the files of an image, which all tables of an operator subtask share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamcore.state.rocks_image import SavedImage

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
