"""Object state in a RocksDB database, in the entries of `streamcore.state.rocks_pairs`.

Values that were read or written last are kept as objects, since streams come back to keys they have just used. What is
lent to be changed in place is written back when the operator's call is over: `settle`.
"""

from __future__ import annotations

import itertools
import struct
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from streamcore.batch import plain
from streamcore.errors import IncompatibleSnapshotError
from streamcore.kernels.hashing import hash_key
from streamcore.state import rocks_pairs
from streamcore.state.evolution import Evolution
from streamcore.state.key_groups import groups_of
from streamcore.state.object_table import ObjectTable, Saved
from streamcore.state.rocks_database import Database
from streamcore.state.rocks_image import ImageGroups
from streamcore.state.rocks_keys import after, beside_key, encode_key, group_prefix, name_prefix, with_length

_MISSING: Any = object()
_KEPT_BYTES = 8 << 20
"""Of objects that a table keeps, before it forgets them all."""
_OBJECT_BYTES = 200
"""What an object takes beside its saved size, about."""
_LENT_BYTES = 4 << 20
"""Of values that are lent or set, about, before they are written; going by how large the last ones were."""
_LENT_AT_MOST = 4096
_LENT_AT_FIRST = 64
_WRITTEN_AT_ONCE = 1024
_WORTH_A_KERNEL = 8
"""Keys from which on their groups are found all at once."""
_CHUNK_VALUES = 64
_CHUNK_BYTES = 32 << 10
_CHUNK = struct.Struct(">I")


class Places:
    """The database of one operator subtask, and where in it keys belong."""

    def __init__(self, database: Database, groups: range, max_parallelism: int, *, allow_pickle: bool) -> None:
        self.database = database
        self.groups = groups
        self.allow_pickle = allow_pickle
        self._max_parallelism = max_parallelism
        self._prefixes = [group_prefix(group) for group in range(max_parallelism)]
        self._known: dict[Any, bytes] = {}

    def touch(self, keys: Sequence[Any]) -> None:
        """Finds the key groups of many keys at once."""
        if len(keys) >= _WORTH_A_KERNEL:
            prefixes, groups = self._prefixes, groups_of(keys, self._max_parallelism).tolist()
            self._known = {key: prefixes[group] for key, group in zip(keys, groups, strict=True)}

    def prefix_of(self, key: Any) -> bytes:
        """What all entries of a key begin with."""
        known = self._known.get(key)
        return known if known is not None else self._prefixes[hash_key(key) % self._max_parallelism]


class RocksTable(ObjectTable):
    """What tables of all kinds share: lending values, and going through all of them."""

    kind: str

    def __init__(self, places: Places, name: str) -> None:
        self._places = places
        self._database = places.database
        self._name = name_prefix(name)
        self._allow_pickle = places.allow_pickle
        self._lent: dict[Any, Any] = {}
        self._lent_at_most = _LENT_AT_FIRST

    def settle(self) -> None:
        """Writes back what was lent."""
        lent, self._lent = self._lent, {}
        for key, value in lent.items():
            self.write(key, value)

    def touch(self) -> None:
        """Other keys are about to be used: keeps what is lent from becoming more and more."""
        if len(self._lent) >= self._lent_at_most:
            self.settle()

    def batch(self, keys: Sequence[Any]) -> dict[Any, Any]:
        self.settle()
        self._places.touch(keys)
        self._lent = self._read_many(list(dict.fromkeys(keys)))
        return self._lent

    def get(self, key: Any, default: Any = None) -> Any:
        if key in self._lent:
            return self._lent[key]
        value = self.read(key)
        return default if value is _MISSING else value

    def for_update(self, key: Any, default: Any = None) -> Any:
        value = self.get(key, _MISSING)
        if value is _MISSING:
            return default
        self._lent[key] = value
        return value

    def put(self, key: Any, value: Any) -> None:
        self._lent[key] = value

    def remove(self, key: Any) -> None:
        self._lent.pop(key, None)
        self.erase(key)

    def clear(self) -> None:
        self._lent = {}
        for group in self._places.groups:
            self._drop(group)

    def all_keys(self) -> list[Any]:
        return [
            key
            for prefix, entries in self._entries()
            for key in rocks_pairs.keys(self.kind, entries, len(prefix), allow_pickle=self._allow_pickle)
        ]

    def items(self) -> Iterator[tuple[Any, Any]]:
        for prefix, entries in self._entries():
            yield from rocks_pairs.pairs(self.kind, entries, len(prefix), allow_pickle=self._allow_pickle)

    def __len__(self) -> int:
        return len(self.all_keys())

    def restore(self, saved: Saved, groups: range, evolution: Evolution) -> None:
        bodies = saved["groups"]
        if isinstance(bodies, ImageGroups) and not evolution.makes_values:
            self._look_at_some(evolution)  # the database began with them
            return
        for group in bodies:
            if group in groups:
                pairs = list(evolution.entries(group, bodies[group]))
                if isinstance(bodies, ImageGroups):
                    self._drop(group)
                self._places.touch([key for key, _ in pairs])
                for key, value in pairs:
                    self.write(key, value)

    @abstractmethod
    def read(self, key: Any) -> Any:
        """The value of a key that isn't lent, or `_MISSING`."""

    @abstractmethod
    def write(self, key: Any, value: Any) -> None:
        """Replaces the value of a key that isn't lent."""

    @abstractmethod
    def erase(self, key: Any) -> None:
        """Removes what there is of a key."""

    def _read_many(self, keys: list[Any]) -> dict[Any, Any]:
        return {key: value for key in keys if (value := self.read(key)) is not _MISSING}

    def _look_at_some(self, evolution: Evolution) -> None:
        """Looks whether entries can be taken over: one of each key group, since to look at all would be to read all."""
        for group, (prefix, entries) in zip(self._places.groups, self._entries(), strict=True):
            for pair in itertools.islice(rocks_pairs.saved_pairs(self.kind, entries, len(prefix)), 1):
                for key, _ in evolution.entries(group, rocks_pairs.array_of([pair])):
                    if self.read(key) is _MISSING:
                        raise IncompatibleSnapshotError(
                            f"{evolution.what}: its keys are of another class now than in the snapshot",
                            hint="give the descriptor a version and a migrate function: then it is written anew",
                        )

    def _drop(self, group: int) -> None:
        prefix = group_prefix(group) + self._name
        self._database.drop(prefix, after(prefix))

    def _entries(self) -> Iterator[tuple[bytes, Iterator[tuple[bytes, bytes]]]]:
        """(what the entries begin with, the entries) for each key group."""
        self.settle()
        for group in self._places.groups:
            prefix = group_prefix(group) + self._name
            yield prefix, self._database.scan(prefix)

    def _encode(self, value: Any) -> bytes:
        return plain.encode(value, allow_pickle=self._allow_pickle)

    def _decode(self, data: bytes) -> Any:
        return plain.decode(data, allow_pickle=self._allow_pickle)


class ValueTable(RocksTable):
    """A value per key."""

    kind = "value"

    def __init__(self, places: Places, name: str) -> None:
        super().__init__(places, name)
        self._kept: dict[Any, Any] = {}
        self._kept_bytes = 0

    def read(self, key: Any) -> Any:
        value = self._kept.get(key, _MISSING)
        if value is not _MISSING:
            return value
        data = self._database.get(self._places.prefix_of(key) + self._name + encode_key(key)[0])
        return _MISSING if data is None else self._take(key, data)

    def set(self, key: Any, value: Any) -> None:
        """Replaces a value that isn't changed in place any more. It is written with others, and only the last of
        those that a key is given meanwhile."""
        self._lent[key] = value
        if len(self._lent) >= self._lent_at_most:
            self.settle()

    def settle(self) -> None:
        lent, self._lent = self._lent, {}
        items = iter(lent.items())
        while some := list(itertools.islice(items, _WRITTEN_AT_ONCE)):
            self._write_some(some)

    def _write_some(self, items: list[tuple[Any, Any]]) -> None:
        """`write` for many, which is a good part of what a stream costs."""
        encode, allow_pickle = plain.encode, self._allow_pickle
        prefix_of, name = self._places.prefix_of, self._name
        changes: dict[bytes, bytes] = {}
        for key, value in items:
            encoded, exact = encode_key(key)
            data = encode(value, allow_pickle=allow_pickle)
            if not exact:
                data = beside_key(key, data, allow_pickle=allow_pickle)
            changes[prefix_of(key) + name + encoded] = data
        self._database.put_many(changes)
        size = sum(map(len, changes.values()))
        self._lent_at_most = min(_LENT_AT_MOST, 1 + _LENT_BYTES * len(items) // (size + _OBJECT_BYTES * len(items)))
        self._keep(items, size)

    def write(self, key: Any, value: Any) -> None:
        encoded, exact = encode_key(key)
        data = plain.encode(value, allow_pickle=self._allow_pickle)
        if not exact:
            data = beside_key(key, data, allow_pickle=self._allow_pickle)
        self._database.put(self._places.prefix_of(key) + self._name + encoded, data)
        self._keep([(key, value)], len(data))

    def erase(self, key: Any) -> None:
        self._kept.pop(key, None)
        self._database.put(self._places.prefix_of(key) + self._name + encode_key(key)[0], None)

    def clear(self) -> None:
        super().clear()
        self._kept.clear()

    def _read_many(self, keys: list[Any]) -> dict[Any, Any]:
        kept = self._kept
        values = {key: kept[key] for key in keys if key in kept}
        rest = [key for key in keys if key not in values] if values else keys
        prefix_of, name = self._places.prefix_of, self._name
        found = self._database.get_many([prefix_of(key) + name + encode_key(key)[0] for key in rest])
        for key, data in zip(rest, found, strict=True):
            if data is not None:
                values[key] = self._take(key, data)
        return values

    def _take(self, key: Any, data: bytes) -> Any:
        value = self._decode(rocks_pairs.value_of(data))
        self._keep([(key, value)], len(data))
        return value

    def _keep(self, items: list[tuple[Any, Any]], size: int) -> None:
        size += _OBJECT_BYTES * len(items)
        if self._kept_bytes + size > _KEPT_BYTES:
            self._kept, self._kept_bytes = {}, 0
        if size <= _KEPT_BYTES:
            self._kept.update(items)
            self._kept_bytes += size
        else:
            for key, _ in items:
                self._kept.pop(key, None)


class ListTable(RocksTable):
    """A list per key, which grows without being written again: its older values are in chunks."""

    kind = "list"

    def add(self, key: Any, value: Any) -> None:
        """Appends a value."""
        entry, exact = self._entry(key)
        head = self._head(entry)
        head.values += self._encode(value)
        head.count += 1
        self._put_head(key, entry, head, exact=exact)

    def read(self, key: Any) -> Any:
        entry, _ = self._entry(key)
        data = self._database.get(entry)
        if data is None:
            return _MISSING
        head = rocks_pairs.ListHead(rocks_pairs.value_of(data))
        chunks = self._database.get_many([entry + _CHUNK.pack(number) for number in range(head.chunks)])
        return [value for chunk in (*chunks, head.as_chunk()) for value in self._decode(chunk or b"")]

    def write(self, key: Any, value: Any) -> None:
        self.erase(key)
        entry, exact = self._entry(key)
        head = rocks_pairs.ListHead(None)
        for item in value:
            head.values += self._encode(item)
            head.count += 1
            self._cut(entry, head)
        self._put_head(key, entry, head, exact=exact)

    def erase(self, key: Any) -> None:
        entry, _ = self._entry(key)
        for number in range(self._head(entry).chunks):
            self._database.put(entry + _CHUNK.pack(number), None)
        self._database.put(entry, None)

    def _entry(self, key: Any) -> tuple[bytes, bool]:
        encoded, exact = encode_key(key)
        return self._places.prefix_of(key) + self._name + with_length(encoded), exact

    def _head(self, entry: bytes) -> rocks_pairs.ListHead:
        data = self._database.get(entry)
        return rocks_pairs.ListHead(None if data is None else rocks_pairs.value_of(data))

    def _cut(self, entry: bytes, head: rocks_pairs.ListHead) -> None:
        if head.count >= _CHUNK_VALUES or len(head.values) >= _CHUNK_BYTES:
            self._database.put(entry + _CHUNK.pack(head.chunks), head.as_chunk())
            head.chunks, head.count, head.values = head.chunks + 1, 0, b""

    def _put_head(self, key: Any, entry: bytes, head: rocks_pairs.ListHead, *, exact: bool) -> None:
        self._cut(entry, head)
        data = head.encoded()
        self._database.put(entry, data if exact else beside_key(key, data, allow_pickle=self._allow_pickle))


class MapTable(RocksTable):
    """A dictionary per key, whose keys have entries of their own. What is left empty is not there."""

    kind = "map"

    def get_item(self, key: Any, item: Any, default: Any) -> Any:
        """The value under `item` in a key's map."""
        data = self._database.get(self._entry(key)[0] + encode_key(item)[0])
        return default if data is None else self._decode(rocks_pairs.value_of(data))

    def put_item(self, key: Any, item: Any, value: Any) -> None:
        """Sets the value under `item` in a key's map."""
        entry, exact = self._entry(key)
        if not exact:
            self._database.put(entry, beside_key(key, b"", allow_pickle=self._allow_pickle))
        encoded, exact = encode_key(item)
        data = self._encode(value)
        self._database.put(entry + encoded, data if exact else beside_key(item, data, allow_pickle=self._allow_pickle))

    def remove_item(self, key: Any, item: Any) -> None:
        """Removes `item` from a key's map."""
        self._database.put(self._entry(key)[0] + encode_key(item)[0], None)

    def pairs(self, key: Any) -> Iterator[tuple[Any, Any]]:
        """The pairs of a key's map, as they are now."""
        entry, _ = self._entry(key)
        return rocks_pairs.map_pairs(self._database.look(entry), len(entry), allow_pickle=self._allow_pickle)

    def read(self, key: Any) -> Any:
        return dict(self.pairs(key)) or _MISSING

    def write(self, key: Any, value: Any) -> None:
        self.erase(key)
        for item, part in value.items():
            self.put_item(key, item, part)

    def erase(self, key: Any) -> None:
        for entry, _ in list(self._database.look(self._entry(key)[0])):
            self._database.put(entry, None)

    def _entry(self, key: Any) -> tuple[bytes, bool]:
        encoded, exact = encode_key(key)
        return self._places.prefix_of(key) + self._name + with_length(encoded), exact
