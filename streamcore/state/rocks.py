"""The RocksDB backend: object state on a local disk, as much of it as the disk holds.

Each operator subtask has a database of its own, in a directory that goes with it. Nothing there outlives the attempt:
a restore begins with the files of a snapshot.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamcore.state.backends import RocksDB
from streamcore.state.capture import Capture
from streamcore.state.descriptors import ListState, MapState, ReducingState, ValueState
from streamcore.state.object_table import CurrentKey, ObjectState, ObjectTable, StateBackend
from streamcore.state.rocks_capture import ImageCapture
from streamcore.state.rocks_database import Database
from streamcore.state.rocks_handles import RocksList, RocksMap, RocksReducing, RocksValue
from streamcore.state.rocks_image import PURPOSE, Saved, SavedImage, images_of, names_in_images
from streamcore.state.rocks_keys import after, group_prefix, state_prefix
from streamcore.state.rocks_tables import ListTable, MapTable, Places, RocksTable, ValueTable
from streamcore.state.scratch import ScratchDirectory

_TABLES: dict[str, type[RocksTable]] = {table.kind: table for table in (ValueTable, ListTable, MapTable)}
_END = b"\xff\xff"


class RocksBackend(StateBackend):
    """The object state of one operator subtask. The database is made when the first table is asked for.

    Args:
        groups: the subtask's key groups.
        saved: the captured stores that the subtask is restored from; the images among them become the database.
        compacts: see `Database`.
    """

    def __init__(
        self,
        settings: RocksDB,
        max_parallelism: int,
        groups: range,
        saved: Sequence[Saved],
        *,
        allow_pickle: bool,
        compacts: bool = True,
    ) -> None:
        self._settings = settings
        self._max_parallelism = max_parallelism
        self._groups = groups
        self._left = {name for store in saved for name in names_in_images(store)}
        self._images = [image for store in saved for image in images_of(store)]
        self._allow_pickle = allow_pickle
        self._compacts = compacts
        self._tables: dict[str, RocksTable] = {}
        self._origin: SavedImage | None = None
        self._scratch: ScratchDirectory | None = None
        self._places: Places | None = None

    def table(self, name: str, kind: str) -> RocksTable:
        """An empty table, or what the images have of it.

        Raises:
            MachineError: there is no room for it.
            TopologyError: its name is too long.
        """
        table = self._tables[name] = _TABLES[kind](self._opened(), name)
        return table

    def handle(self, descriptor: ObjectState, table: ObjectTable, current: CurrentKey) -> Any:
        match descriptor, table:
            case ValueState(), ValueTable():
                return RocksValue(current, table, descriptor.default)
            case ReducingState(), ValueTable():
                return RocksReducing(current, table, descriptor.reduce)
            case ListState(), ListTable():
                return RocksList(current, table)
            case MapState(), MapTable():
                return RocksMap(current, table)
        raise AssertionError(f"a handle of {descriptor} on {table}")

    def touch(self, keys: Sequence[Any]) -> None:
        if self._places is not None:
            self._places.touch(keys)
        for table in self._tables.values():
            table.touch()

    def settle(self) -> None:
        for table in self._tables.values():
            table.settle()

    def capture(self, checkpoint_id: int, since: int | None) -> Mapping[str, Capture]:
        self.settle()
        if self._places is None:
            return {}
        for name in self._left - self._tables.keys():  # nobody has asked for it, so it was to be dropped
            for group in self._groups:
                prefix = state_prefix(group, name)
                self._places.database.drop(prefix, after(prefix))
        self._left = set()
        image = self._places.database.hold()
        return {
            name: ImageCapture(image, self._groups, table.kind, self._origin) for name, table in self._tables.items()
        }

    def close(self) -> None:
        if self._places is not None:
            self._places.database.abandon()
            self._places = None
        if self._scratch is not None:
            self._scratch.delete()

    def _opened(self) -> Places:
        if self._places is None:
            self._scratch = ScratchDirectory(self._settings.directory, PURPOSE)
            database = self._restored(self._scratch.path / "db")
            self._places = Places(database, self._groups, self._max_parallelism, allow_pickle=self._allow_pickle)
        return self._places

    def _restored(self, path: Path) -> Database:
        """The database that begins with the images: the files of the one that has most of this subtask's key groups,
        and what the others have of them."""
        images = sorted((image for image in self._images if self._share(image)), key=self._share, reverse=True)
        if images:
            self._origin = images[0]
            _link_files(self._origin.fetch(self._settings.directory), path)
        database = Database(path, self._settings, compacts=self._compacts)
        if images:
            if images[0].groups.start < self._groups.start:
                database.drop(group_prefix(0), group_prefix(self._groups.start))
            if images[0].groups.stop > self._groups.stop:
                database.drop(group_prefix(self._groups.stop), _END)
        for image in images[1:]:
            own = range(max(image.groups.start, self._groups.start), min(image.groups.stop, self._groups.stop))
            database.take_over(image.fetch(self._settings.directory), [group_prefix(group) for group in own])
        return database

    def _share(self, image: SavedImage) -> int:
        return max(0, min(image.groups.stop, self._groups.stop) - max(image.groups.start, self._groups.start))


def _link_files(source: Path, target: Path) -> None:
    """Puts the files of one directory into another, without copying where both are on one disk."""
    target.mkdir()
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copyfile(file, target / file.name)
