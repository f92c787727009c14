"""RocksDB state in snapshots: the files of an image, and how they are read as the state of any backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamcore.errors import CheckpointError
from streamcore.state import rocks_pairs
from streamcore.state.backends import require_rocksdict
from streamcore.state.rocks_keys import state_prefix
from streamcore.state.scratch import ScratchDirectory

if TYPE_CHECKING:  # rocksdict may be missing, and then a snapshot says so
    from streamcore.state.rocks_database import FrozenDatabase

Saved = dict[str, Any]

FORMAT = 1
KINDS = ("value", "list", "map")
PURPOSE = "streamcore-rocksdb"


class SavedImage:
    """The image that a snapshot has of one operator subtask.

    Args:
        groups: the key groups that are in it.
        small: the small files by name, which are in the snapshot's state file.
        tables: what the snapshot's storage calls each table file, by name.
        place: which storage that is.
        read: gives the content of a table file.
    """

    def __init__(
        self,
        groups: range,
        small: dict[str, bytes],
        tables: Mapping[str, Any],
        place: str,
        read: Callable[[Any], bytes],
    ) -> None:
        self.groups = groups
        self.tables = tables
        self.place = place
        self._small = small
        self._read = read
        self._lock = threading.Lock()
        self._scratch: ScratchDirectory | None = None
        self._database: FrozenDatabase | None = None

    def fetch(self, directory: str | None = None) -> Path:
        """Brings the files to this machine, unless they are here; blocking, in any thread.

        Args:
            directory: below which they are put; None: among temporary files.

        Raises:
            DamagedCheckpointError: a file is missing or damaged.
            MachineError: there is no room for them.
        """
        with self._lock:
            if self._scratch is None:
                scratch = ScratchDirectory(directory, PURPOSE)
                place = scratch.path / "image"
                place.mkdir()
                for name, content in self._small.items():
                    (place / name).write_bytes(content)
                for name, file in self.tables.items():
                    (place / name).write_bytes(self._read(file))
                self._scratch = scratch
            return self._scratch.path / "image"

    def database(self) -> FrozenDatabase:
        """The database in the files, which are fetched if need be.

        Raises:
            DamagedCheckpointError: a file is missing or damaged.
            MachineError: there is no room for them, or they can't be read.
        """
        from streamcore.state.rocks_database import FrozenDatabase

        place = self.fetch()
        if self._database is None:
            self._database = FrozenDatabase(place)
        return self._database

    def delete(self) -> None:
        """Deletes what was fetched."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None
            if self._scratch is not None:
                self._scratch.delete()
                self._scratch = None


class ImageGroups(Mapping[int, bytes]):
    """A state in an image as other snapshots have it, key group → saved pairs. It is read when it is asked for, a key
    group at a time: that of a whole image may be more than memory holds."""

    def __init__(self, image: SavedImage, name: str, kind: str) -> None:
        self.image = image
        self._name = name
        self._kind = kind

    def __getitem__(self, group: int) -> bytes:
        prefix = state_prefix(group, self._name)
        entries = self.image.database().scan(prefix)
        return rocks_pairs.array_of(list(rocks_pairs.saved_pairs(self._kind, entries, len(prefix))))

    def __iter__(self) -> Iterator[int]:
        return iter(self.image.groups)

    def __len__(self) -> int:
        return len(self.image.groups)


def image_form(groups: range, small: dict[str, bytes], tables: dict[str, str]) -> Saved:
    """An image as a snapshot has it beside its states, which then have no groups of their own."""
    return {"format": FORMAT, "groups": [groups.start, groups.stop], "small": small, "tables": tables}


def read_images(keyed: Saved, files: Mapping[str, Any], place: str, read: Callable[[Any], bytes]) -> None:
    """Gives the states of a captured store that are in an image their groups.

    Args:
        files: what the storage calls the files of the snapshot, by path.
        place: which storage that is.
        read: gives the content of one of the files.

    Raises:
        CheckpointError: a newer version has written it.
        UsageError: RocksDB is not installed.
    """
    form = keyed.pop("rocksdb", None)
    if form is None:
        return
    if form["format"] > FORMAT:
        raise CheckpointError(
            f"RocksDB state of format {form['format']}, this version reads up to {FORMAT}",
            hint="restore with the version that wrote it, or a newer one",
        )
    require_rocksdict("a snapshot of RocksDB state")
    tables = {name: files[path] for name, path in form["tables"].items()}
    image = SavedImage(range(*form["groups"]), form["small"], tables, place, read)
    for name, state in keyed["states"].items():
        if "groups" not in state and state["kind"] in KINDS:
            state["groups"] = ImageGroups(image, name, state["kind"])


def fetch_images(keyed: Saved, groups: range, directory: str | None) -> None:
    """Brings the files of a captured store to this machine, if it has anything of the key groups; blocking.

    Raises:
        DamagedCheckpointError: a file is missing or damaged.
        MachineError: there is no room for them.
    """
    for image in images_of(keyed):
        if max(image.groups.start, groups.start) < min(image.groups.stop, groups.stop):
            image.fetch(directory)


def delete_images(keyed: Saved) -> None:
    """Deletes what has been fetched for a captured store."""
    for image in images_of(keyed):
        image.delete()


def images_of(keyed: Saved) -> list[SavedImage]:
    """The images that states of a captured store are in, each once."""
    groups = [state.get("groups") for state in keyed["states"].values()]
    return list(dict.fromkeys(found.image for found in groups if isinstance(found, ImageGroups)))


def names_in_images(keyed: Saved) -> list[str]:
    """The states of a captured store that are in an image."""
    return [name for name, state in keyed["states"].items() if isinstance(state.get("groups"), ImageGroups)]
