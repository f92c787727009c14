"""One RocksDB database: bytes under bytes, with images of a moment that are made beside the stream.

Writes gather in a dictionary, into which reads look first, and go to RocksDB a batch at a time. An image is RocksDB's
own checkpoint: what it has in memory is flushed to a file, and all files are linked into a directory. That takes some
ten milliseconds, in another thread. Until it is done no write may reach RocksDB, so the dictionary keeps them.
"""

from __future__ import annotations

import functools
import itertools
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    IngestExternalFileOptions,
    Options,
    Rdict,
    ReadOptions,
    SstFileWriter,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from streamcore.errors import MachineError
from streamcore.state.backends import RocksDB
from streamcore.state.rocks_keys import after

_FAMILY = "state"
"""All is in a column family of its own, since only such a one can be dropped."""
_FILE_BYTES = 16 << 20
"""Of a file below the first level: small enough that most stay what they are from one snapshot to the next."""
_BLOOM_BITS = 10
_LOG_BYTES = 1 << 20
_GATHERED_BYTES = 256 << 10
"""Of writes before they go to RocksDB: a millisecond or two."""
_WRITTEN_BYTES = 4 * _GATHERED_BYTES
"""Of writes that go to RocksDB at once when more than that have waited for an image."""
_WAITING_BYTES = 32 << 20
"""Of writes that wait for an image, before they wait no longer."""
_ENTRY_BYTES = 64
"""What an entry takes in memory beside its bytes, about."""


class Image:
    """The files of a database as it was when `hold` was called, in `path` once `make` has run."""

    def __init__(self, root: Rdict, database: Rdict, path: Path) -> None:
        self.path = path
        self.is_over = False
        self._root = root
        self._database = database
        self._lock = threading.Lock()
        self._error: Exception | None = None

    def make(self) -> None:
        """Makes it, unless that is done; blocking, in any thread.

        Raises:
            MachineError: it can't be made.
        """
        with self._lock:
            if not self.is_over:
                try:
                    self._database.flush()
                    Checkpoint(self._root).create_checkpoint(str(self.path))
                except Exception as error:  # noqa: BLE001 - RocksDB's errors have no class of their own
                    self._error = error
                self.is_over = True
        if self._error is not None:
            raise _failure(self._error, self.path.parent) from self._error

    def give_up(self) -> None:
        """Lets writes go on, without an image if it isn't made."""
        with self._lock:
            self.is_over = True

    def delete(self) -> None:
        """Deletes its files; what the database has of them stays."""
        self.give_up()
        shutil.rmtree(self.path, ignore_errors=True)


class Database:
    """A database in a directory `path`, which may have the files of an image. One thread uses it, but for `Image.make`.

    Args:
        compacts: whether RocksDB merges files when it likes. Without, its files depend only on what is done with it.

    Raises:
        MachineError: it can't be opened.
    """

    def __init__(self, path: Path, settings: RocksDB, *, compacts: bool = True) -> None:
        self._path = path
        self._settings = settings
        self._numbers = itertools.count(1)
        self._gathered: dict[bytes, bytes | None] = {}
        self._gathered_bytes = 0
        self._limit_bytes = _GATHERED_BYTES
        self._image: Image | None = None
        try:
            options = _options(settings, compacts=compacts)
            self._root = Rdict(str(path), options, column_families={_FAMILY: options})
            self._database = self._root.get_column_family(_FAMILY)
            self._family = self._root.get_column_family_handle(_FAMILY)
        except Exception as error:
            raise _failure(error, path) from error
        without_log = WriteOptions()
        # what a crash leaves is never read: a restore begins with a snapshot
        without_log.disable_wal = True  # type: ignore[method-assign,assignment]  # its stub has a method
        self._database.set_write_options(without_log)

    def get(self, entry: bytes) -> bytes | None:
        """What is under an entry."""
        if entry in self._gathered:
            return self._gathered[entry]
        try:
            value: bytes | None = self._database.get(entry)
        except Exception as error:
            raise _failure(error, self._path) from error
        return value

    def get_many(self, entries: Sequence[bytes]) -> list[bytes | None]:
        """What is under each entry."""
        gathered = self._gathered
        try:
            values: Any = self._database.get(list(entries))
        except Exception as error:
            raise _failure(error, self._path) from error
        if gathered:
            return [gathered.get(entry, value) for entry, value in zip(entries, values, strict=True)]
        return list(values)

    def put(self, entry: bytes, value: bytes | None) -> None:
        """Sets an entry, or removes it: None."""
        self._gathered[entry] = value
        self._gathered_bytes += _ENTRY_BYTES + len(entry) + (len(value) if value is not None else 0)
        if self._gathered_bytes >= self._limit_bytes:
            self._make_room()

    def put_many(self, changes: dict[bytes, bytes]) -> None:
        """Sets entries."""
        self._gathered.update(changes)
        size = sum(map(len, changes)) + sum(map(len, changes.values()))
        self._gathered_bytes += _ENTRY_BYTES * len(changes) + size
        if self._gathered_bytes >= self._limit_bytes:
            self._make_room()

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All entries that begin with a prefix, in order, as they are when the iteration begins."""
        self._write_all()
        return _entries(self._database, prefix, self._path)

    def look(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The same for what are few entries, without waiting for an image."""
        if self._image is None or self._image.is_over:
            return self.scan(prefix)
        found: dict[bytes, bytes | None] = dict(_entries(self._database, prefix, self._path))
        found.update((entry, value) for entry, value in self._gathered.items() if entry.startswith(prefix))
        return iter([(entry, value) for entry, value in sorted(found.items()) if value is not None])

    def drop(self, start: bytes, stop: bytes) -> None:
        """Removes all entries from `start` to before `stop`."""
        self._write_all()
        try:
            self._database.delete_range(start, stop)
        except Exception as error:
            raise _failure(error, self._path) from error

    def take_over(self, path: Path, prefixes: list[bytes]) -> None:
        """Takes the entries with these prefixes, which must be in order, from the database in another directory; there
        must be none with them here.

        Raises:
            MachineError: it can't be read, or not written here.
        """
        self._write_all()
        gathered = path.with_name(f"{path.name}.taken")
        try:
            old = FrozenDatabase(path)
            options = Options(raw_mode=True)
            options.set_compression_type(_compression(self._settings))
            writer = SstFileWriter(options)
            writer.open(str(gathered))
            count = 0
            for prefix in prefixes:
                for entry, value in old.scan(prefix):
                    writer[entry] = value
                    count += 1
            old.close()
            if count:
                writer.finish()
                moved = IngestExternalFileOptions()
                moved.set_move_files(True)
                self._database.ingest_external_file([str(gathered)], moved)
        except Exception as error:
            raise _failure(error, path) from error

    def hold(self) -> Image:
        """Begins an image of the database as it is now, in a directory beside it. Whatever is written from here on
        doesn't go into it."""
        self._write_all()
        self._image = Image(self._root, self._database, self._path.with_name(f"image-{next(self._numbers)}"))
        return self._image

    def abandon(self) -> None:
        """Closes it without writing what it has in memory, which it would do if nothing were dropped."""
        try:
            self._root.drop_column_family(_FAMILY)
            del self._database, self._family
            self._image = None
            self._root.close()
        except Exception as error:
            raise _failure(error, self._path) from error

    def _make_room(self) -> None:
        """Too much has been gathered."""
        if self._image is not None and not self._image.is_over and self._gathered_bytes < _WAITING_BYTES:
            self._limit_bytes = self._gathered_bytes + _GATHERED_BYTES
            return
        if self._gathered_bytes <= _WRITTEN_BYTES:
            self._write_all()
            return
        self._wait_for_image()
        share: dict[bytes, bytes | None] = {}
        size, new = 0, self._gathered_bytes - (self._limit_bytes - _GATHERED_BYTES)
        while self._gathered and size < max(_WRITTEN_BYTES, 2 * new):  # so what has been held comes to an end
            entry, value = self._gathered.popitem()
            share[entry] = value
            size += _ENTRY_BYTES + len(entry) + len(value or b"")
        self._write(share)
        self._gathered_bytes = max(0, self._gathered_bytes - size) if self._gathered else 0
        self._limit_bytes = self._gathered_bytes + _GATHERED_BYTES

    def _write_all(self) -> None:
        self._wait_for_image()
        if self._gathered:
            self._write(self._gathered)
            self._gathered, self._gathered_bytes, self._limit_bytes = {}, 0, _GATHERED_BYTES

    def _wait_for_image(self) -> None:
        image, self._image = self._image, None
        if image is not None and not image.is_over:
            try:
                image.make()
            except MachineError:
                return  # who asked for it is told; writing goes on, or fails by itself

    def _write(self, changes: dict[bytes, bytes | None]) -> None:
        batch = WriteBatch(raw_mode=True)
        batch.set_default_column_family(self._family)
        put = batch.put
        for entry, value in changes.items():
            if value is None:
                batch.delete(entry)
            else:
                put(entry, value)
        try:
            self._database.write(batch)
        except Exception as error:
            raise _failure(error, self._path) from error


class FrozenDatabase:
    """The database in an image's files, to be read.

    Raises:
        MachineError: it can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            options = Options(raw_mode=True)
            access = AccessType.read_only(error_if_log_file_exist=False)
            self._root = Rdict(str(path), options, column_families={_FAMILY: options}, access_type=access)
            self._database = self._root.get_column_family(_FAMILY)
        except Exception as error:
            raise _failure(error, path) from error

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All entries that begin with a prefix, in order."""
        return _entries(self._database, prefix, self._path)

    def close(self) -> None:
        """Closes it."""
        del self._database
        self._root.close()


def _entries(database: Rdict, prefix: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The entries with a prefix as they are now, whatever is written while they are gone through."""
    bounded = ReadOptions()
    bounded.set_iterate_upper_bound(after(prefix))
    try:
        items = database.items(from_key=prefix, read_opt=bounded)
    except Exception as error:
        raise _failure(error, path) from error
    return _checked(items, bounded, path)


def _checked(items: Any, bounded: ReadOptions, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """`bounded` is kept as long as the iterator, which has but a pointer to the bound's bytes."""
    while True:
        try:
            entry = next(items, None)
        except Exception as error:
            raise _failure(error, path) from error
        if entry is None:
            return
        yield entry


def _failure(error: Exception, path: Path) -> MachineError:
    """What to tell of an error of RocksDB."""
    text = str(error)
    if "No space left" in text:
        hint = 'free the disk, or use a larger one: state_backend=RocksDB(directory="...")'
    else:
        hint = "see whether the disk works and this user may write there"
    return MachineError(f"object state in {path} can't be read or written: {text}", hint=hint)


@functools.cache
def _memory(memory_bytes: int) -> tuple[Cache, WriteBufferManager]:
    """The memory that all databases of this process share; write buffers take up to half of what the cache has."""
    cache = Cache(memory_bytes)
    return cache, WriteBufferManager.new_write_buffer_manager_with_cache(memory_bytes // 2, False, cache)


def _compression(settings: RocksDB) -> DBCompressionType:
    match settings.compression:
        case "none":
            return DBCompressionType.none()
        case "lz4":
            return DBCompressionType.lz4()
        case "zstd":
            return DBCompressionType.zstd()


def _options(settings: RocksDB, *, compacts: bool) -> Options:
    cache, buffers = _memory(settings.memory_bytes)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(cache)
    blocks.set_cache_index_and_filter_blocks(True)  # else nothing bounds their memory
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    blocks.set_bloom_filter(_BLOOM_BITS, False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_write_buffer_manager(buffers)
    options.set_write_buffer_size(settings.memory_bytes // 4)
    options.set_block_based_table_factory(blocks)
    options.set_compression_type(_compression(settings))
    options.set_target_file_size_base(_FILE_BYTES)
    options.set_disable_auto_compactions(not compacts)
    options.set_keep_log_file_num(1)
    options.set_max_log_file_size(_LOG_BYTES)
    return options
