"""A capture of state of Python objects that is taken at once and encoded later, while the stream goes on.

Entries are encoded a few at a time between batches. A value that is asked for before its turn is encoded first, or
kept as it is if it can't change (copy on update, as in Cao et al., "Fast Checkpoint Recovery Algorithms for Frequently
Consistent Applications", SIGMOD 2011; as `streamcore.state.table_capture` does with rows of arrays).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from streamcore.batch import plain
from streamcore.errors import StreamcoreError
from streamcore.state.changed_keys import KeySets
from streamcore.state.guarded_values import FIXED_TYPES, GONE, GuardedValues
from streamcore.state.key_groups import groups_of

STEP_KEYS = 256
_STEP_BYTES = 1 << 15
_KEPT_ENTRIES = 100_000
_NOT_KEPT: Any = object()


class Entries:
    """Entries in the plain codec, one after the other, by key group."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.bodies: dict[int, bytearray] = {}

    def add(self, group: int, entry: bytes) -> None:
        """Puts an entry behind the others of its group."""
        body = self.bodies.get(group)
        if body is None:
            self.counts[group], self.bodies[group] = 1, bytearray(entry)
        else:
            self.counts[group] += 1
            body += entry


@dataclass(frozen=True, slots=True)
class SavedObjects:
    """What one checkpoint saves of a table of objects: all of it, or what has changed since another checkpoint.

    Attributes:
        kind: what each key has, see `StateBackend.table`.
        is_whole: whether it needs no other checkpoint.
        entries: `[key, value]` of the keys that are there; all, or those that may have changed.
        removed: the keys that may have been there before, and aren't.
    """

    kind: str
    is_whole: bool
    entries: Entries = field(default_factory=Entries)
    removed: Entries = field(default_factory=Entries)


class ObjectCapture:
    """The state of one table of objects as of one moment.

    Args:
        values: the table; until `done` it is used through `guard`.
        changed: the keys to save; None: all.
        after: called when all has been encoded; called again between batches until it returns true.
    """

    def __init__(
        self,
        kind: str,
        values: dict[Any, Any],
        changed: KeySets | None,
        max_parallelism: int,
        after: Callable[[], bool],
        *,
        allow_pickle: bool,
    ) -> None:
        self.guard = GuardedValues(values, self.keep, is_frozen=changed is None)
        self._values = values
        self._keys = iter(values if changed is None else changed)
        self._changed = changed
        self._max_parallelism = max_parallelism
        self._after = after
        self._allow_pickle = allow_pickle
        self._saved = SavedObjects(kind, changed is None)
        self._kept: list[dict[Any, Any]] = [{}]  # key → its value as it was, or the encoded entry as bytes
        self._turn: list[tuple[Any, int]] = []
        self._error: StreamcoreError | None = None
        self.done = False

    @property
    def is_whole(self) -> bool:
        return self._changed is None

    @property
    def is_empty(self) -> bool:
        return self._changed is not None and len(self._changed) == 0

    def keep(self, key: Any, value: Any) -> None:
        """Sets a value aside that the operator is about to get or to replace; the first one of a key counts. GONE: the
        key isn't there, and is about to be."""
        if self._changed is not None and key not in self._changed:
            return
        kept = self._kept
        for earlier in kept:
            if key in earlier:
                return
        if len(kept[-1]) >= _KEPT_ENTRIES:  # a larger dictionary would stop the stream as it grows
            kept.append({})
        # bytes, not containers: the more of those stay alive, the more often the garbage collector walks over all state
        as_it_is = value is GONE or (type(value) in FIXED_TYPES and type(value) is not bytes)
        kept[-1][key] = value if as_it_is else self._encoded([key, value])

    def step(self) -> None:
        if self.done:
            return
        if self.guard.is_watched:
            self._encode_some()
        elif self._after():
            self.done = True

    def finish(self) -> None:
        while not self.done:
            self.step()

    def abandon(self) -> None:
        self._end()

    def saved(self) -> SavedObjects:
        """The entries as they were at the moment of the capture.

        Raises:
            StateCodecError: a key or a value has no plain form.
        """
        assert self.done, "a capture was used before all of it was encoded"
        if self._error is not None:
            raise self._error
        return self._saved

    def release(self) -> None:
        self._saved = SavedObjects(self._saved.kind, self._saved.is_whole)

    def _encode_some(self) -> None:
        if not self._turn:
            keys = list(islice(self._keys, STEP_KEYS))
            if not keys:
                self._end()
                return
            try:
                groups: list[int] = groups_of(keys, self._max_parallelism).tolist()
            except StreamcoreError as error:  # a key that can't be hashed the same way everywhere
                self._error = self._error or error
                self._end()
                return
            self._turn = list(zip(reversed(keys), reversed(groups), strict=True))
        turn, saved, size = self._turn, self._saved, 0
        while turn and size < _STEP_BYTES:
            key, group = turn.pop()
            value = self._take_kept(key)
            is_packed = type(value) is bytes
            if value is _NOT_KEPT:
                value = self._values.get(key, GONE)
            if value is GONE:
                saved.removed.add(group, entry := self._encoded(key))
            else:
                saved.entries.add(group, entry := value if is_packed else self._encoded([key, value]))
            size += len(entry)

    def _take_kept(self, key: Any) -> Any:
        for kept in self._kept:
            if key in kept:
                return kept.pop(key)
        return _NOT_KEPT

    def _encoded(self, entry: Any) -> bytes:
        try:
            return plain.encode(entry, allow_pickle=self._allow_pickle)
        except StreamcoreError as error:
            self._error = self._error or error
            return b""

    def _end(self) -> None:
        self.guard.is_watched = False
        self._turn, self._kept, self._keys = [], [{}], iter(())
