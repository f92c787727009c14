"""The value of a key as of a complete checkpoint, read from the one part that has it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from streamcore.checkpoint.log import SubtaskEntry
from streamcore.checkpoint.parts import read_part
from streamcore.checkpoint.snapshot_file import SubtaskSnapshot
from streamcore.checkpoint.storage import Storage
from streamcore.errors import UnknownStateError
from streamcore.kernels.hashing import hash_key
from streamcore.runtime.messages import Restore
from streamcore.state.store import entries

T = TypeVar("T")

_PARTS_KEPT = 4
_TABLES_KEPT = 64


class CheckpointValues:
    """Reads values out of checkpoints; keeps the parts and key groups that were asked for last. For any thread."""

    def __init__(self, open_storage: Callable[[str], Storage], *, allow_pickle: bool) -> None:
        self._open_storage = open_storage
        self._allow_pickle = allow_pickle
        self._lock = threading.Lock()
        self._parts: OrderedDict[Any, SubtaskSnapshot] = OrderedDict()
        self._tables: OrderedDict[Any, dict[Any, Any]] = OrderedDict()

    def lookup(self, restore: Restore, uid: str, name: str, key: Any, missing: Any = None) -> Any:
        """What operator `uid` had for a key; `missing` if there was nothing. Blocking.

        Args:
            restore: the checkpoint.
            name: of the state. Columnar state: field → value; table state: list of rows.

        Raises:
            UnknownStateError: the checkpoint has no such operator, or the operator no such state.
            DamagedCheckpointError: a file is missing - then there may be a newer checkpoint by now - or damaged.
            StateCodecError: a value is of a class that isn't loaded, or pickled although that is not allowed.
        """
        with self._lock:
            return self._group_of(restore, uid, name, key).get(key, missing)

    def _group_of(self, restore: Restore, uid: str, name: str, key: Any) -> dict[Any, Any]:
        manifest = restore.manifest
        parts = {entry.index: entry for entry in manifest.subtasks if uid in entry.operators}
        if not parts:
            raise UnknownStateError(f"checkpoint {manifest.checkpoint_id} has no operator {uid!r}")
        groups = manifest.operators[uid].max_parallelism
        group = hash_key(key) % groups
        entry = parts[group * parts[min(parts)].parallelism // groups]
        place: tuple[Any, ...] = restore.storage_url, manifest.checkpoint_id, entry.vertex, entry.index
        part = _kept(self._parts, place, _PARTS_KEPT, lambda: self._read(restore.storage_url, entry))
        keyed = part.operators[uid].keyed
        states: dict[str, Any] = keyed["states"] if keyed else {}
        if name not in states:
            raise UnknownStateError(
                f"operator {uid!r} has no state {name!r} in checkpoint {manifest.checkpoint_id}",
                hint=f"it has: {', '.join(states) or 'none'}",
            )
        state = states[name]
        if "groups" in state and isinstance(state["groups"], dict):  # by key group: the others needn't be decoded
            state = {**state, "groups": {number: body for number, body in state["groups"].items() if number == group}}
            place = (*place, uid, name, group)
        else:
            place = (*place, uid, name)
        return _kept(self._tables, place, _TABLES_KEPT, lambda: self._decode(state))

    def _read(self, url: str, entry: SubtaskEntry) -> SubtaskSnapshot:
        return read_part(self._open_storage(url), entry, allow_pickle=self._allow_pickle)

    def _decode(self, state: dict[str, Any]) -> dict[Any, Any]:
        return entries({"states": {"": state}}, allow_pickle=self._allow_pickle)[""]


def _kept(cache: OrderedDict[Any, T], place: Any, count: int, make: Callable[[], T]) -> T:
    """What a cache has in a place; made if need be, at the cost of what has not been asked for the longest time."""
    if place not in cache:
        cache[place] = make()
        if len(cache) > count:
            cache.popitem(last=False)
    cache.move_to_end(place)
    return cache[place]
