"""A snapshot, read without running its job."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from streamcore.batch import plain
from streamcore.batch.codec import SavedKind, from_stream
from streamcore.checkpoint.choice import check_files, find, path_of
from streamcore.checkpoint.in_flight import SavedChannel
from streamcore.checkpoint.log import Entry, SubtaskEntry
from streamcore.checkpoint.parts import read_part
from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.checkpoint.storage import Storage
from streamcore.errors import UnknownStateError
from streamcore.snapshots import saved as forms
from streamcore.snapshots.state import SnapshotState


@dataclass(slots=True)
class StateInfo:
    """What there is of a state: `fields` (name → type) of columnar and table state, and the descriptor's version, if
    the snapshot says so; `keys` counts rows for table state."""

    name: str
    kind: str
    keys: int = 0
    size_bytes: int = 0
    version: int = 0
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """Where a source stands in one of its splits."""

    id: str
    offset: Any
    exhausted: bool


@dataclass(slots=True)
class OperatorInfo:
    """What a snapshot has of one operator.

    Attributes:
        states: by name.
        splits: of a source, sorted by id.
        prepared: of a two-phase sink: the handles of output that is not committed before the snapshot is restored.
        timers: of processing time, how many; `event_timers`: of event time.
        own: what else it keeps, of each subtask that has something, as plain data.
    """

    uid: str
    name: str
    parallelism: int
    max_parallelism: int
    states: dict[str, StateInfo] = field(default_factory=dict)
    splits: list[SplitInfo] = field(default_factory=list)
    prepared: list[Any] = field(default_factory=list)
    timers: int = 0
    event_timers: int = 0
    own: list[Any] = field(default_factory=list)


class Snapshot:
    """A checkpoint or savepoint. Open one with `Snapshot.open`."""

    def __init__(self, storage: Storage, manifest: Entry, *, allow_pickle: bool = False) -> None:
        self._storage = storage
        self._manifest = manifest
        self._allow_pickle = allow_pickle

    @staticmethod
    def open(path: str | os.PathLike[str], *, allow_pickle: bool = False) -> Snapshot:
        """The snapshot at a path or URL: `DIR/chk-NNNNNNNN`, a savepoint, or the latest of a checkpoint directory.

        Args:
            allow_pickle: unpickles what the job saved with pickle; only if you trust who wrote the snapshot.

        Raises:
            NoCheckpointError: there is none.
            DamagedCheckpointError: its manifest is damaged.
        """
        return Snapshot(*find(os.fspath(path)), allow_pickle=allow_pickle)

    @property
    def manifest(self) -> Entry:
        """What names its files."""
        return self._manifest

    @property
    def path(self) -> str:
        """Where it is, as `--restore` takes it."""
        return path_of(self._storage.url, self._manifest)

    @property
    def job(self) -> str:
        """The name of the job that it can be restored by."""
        return self._manifest.job

    @property
    def created(self) -> datetime:
        """When it was complete; with time zone UTC."""
        return datetime.fromtimestamp(self._manifest.created_ms / 1000, tz=UTC)

    @property
    def size_bytes(self) -> int:
        """What its files take, those that it shares with other checkpoints included."""
        return self._manifest.size_bytes

    @property
    def uids(self) -> list[str]:
        """The uids of the operators that are in it."""
        return list(self._manifest.operators)

    def check(self) -> None:
        """Reads every file and compares its checksum.

        Raises:
            DamagedCheckpointError: a file is missing, or not what was written.
        """
        check_files(self._storage, self._manifest)

    @functools.cached_property
    def operators(self) -> dict[str, OperatorInfo]:
        """What there is of each operator, by uid. Reads all files, one subtask's after the other.

        Raises:
            DamagedCheckpointError: a file is missing or damaged.
            StateCodecError: something was pickled, and that is not allowed.
        """
        infos = {
            uid: OperatorInfo(uid, entry.name, entry.parallelism, entry.max_parallelism)
            for uid, entry in self._manifest.operators.items()
        }
        for entry in self._manifest.subtasks:
            for uid, part in self.read(entry).operators.items():
                if uid in infos:
                    self._add(infos[uid], part)
        for info in infos.values():
            info.splits.sort(key=lambda split: split.id)
        return infos

    def state(self, uid: str, name: str) -> SnapshotState:
        """The state `name` of the operator `uid`; nothing is read yet.

        Raises:
            UnknownStateError: there is no such operator. (That it has no such state is found when it is read.)
        """
        names: set[str] = set()

        def read(entry: SubtaskEntry) -> dict[str, Any] | None:
            states = self.read(entry).operators[uid].keyed.get("states", {})
            names.update(states)
            found: dict[str, Any] | None = states.get(name)
            return found

        def missing() -> UnknownStateError:
            has = f"it has {', '.join(sorted(names))}" if names else "it has none"
            return UnknownStateError(f"operator {uid!r} has no state {name!r} in {self.path}", hint=has)

        maximum = self._manifest.operators[uid].max_parallelism if uid in self._manifest.operators else 0
        return SnapshotState(self._entries(uid), maximum, read, missing, allow_pickle=self._allow_pickle)

    def timers(self, uid: str, *, event_time: bool = True) -> list[tuple[int, Any]]:
        """The operator's timers as (milliseconds, key), in order of time; those of windows have (key, window) for
        a key.

        Raises:
            UnknownStateError: there is no such operator.
        """
        found = [
            timer
            for entry in self._entries(uid)
            for timer in self._timers(self.read(entry).operators[uid].keyed, event_time=event_time)
        ]
        return sorted(found, key=lambda timer: timer[0])

    def in_flight(self) -> dict[str, int]:
        """The records in flight that belong to the snapshot: how many on each edge."""
        counts: dict[str, int] = {}
        for entry in self._manifest.subtasks:
            in_flight = self.read(entry).in_flight
            for channel in (*in_flight.inputs, *in_flight.outputs):
                counts[channel.edge] = counts.get(channel.edge, 0) + sum(self._records(channel))
        return {edge: count for edge, count in counts.items() if count}

    def read(self, entry: SubtaskEntry) -> SubtaskSnapshot:
        """One subtask's part, its records as their fields."""
        return read_part(self._storage, entry, allow_pickle=self._allow_pickle, as_fields=True)

    def _entries(self, uid: str) -> list[SubtaskEntry]:
        if uid not in self._manifest.operators:
            raise UnknownStateError(
                f"there is no operator {uid!r} in {self.path}", hint=f"there is: {', '.join(self.uids)}"
            )
        return [entry for entry in self._manifest.subtasks if uid in entry.operators]

    def _add(self, info: OperatorInfo, part: OperatorSnapshot) -> None:
        schemas = part.keyed.get("schemas", {})
        for name, saved in part.keyed.get("states", {}).items():
            schema = schemas.get(name, {})
            state = info.states.setdefault(
                name, StateInfo(name, saved["kind"], 0, 0, schema.get("version", 0), schema.get("fields", {}))
            )
            state.keys += forms.count(saved, allow_pickle=self._allow_pickle)
            state.size_bytes += forms.size_bytes(saved)
        info.timers += len(self._timers(part.keyed, event_time=False))
        info.event_timers += len(self._timers(part.keyed, event_time=True))
        own = part.own
        if isinstance(own, dict) and "offsets" in own:
            info.splits += [SplitInfo(split, offset, done) for split, (offset, done) in own["offsets"].items()]
        elif isinstance(own, dict) and "prepared" in own:
            info.prepared += own["prepared"]
        elif own is not None:
            info.own.append(own)

    def _timers(self, keyed: dict[str, Any], *, event_time: bool) -> list[tuple[int, Any]]:
        found: list[tuple[int, Any]] = []
        for body in keyed.get("event_timers" if event_time else "timers", {}).values():
            timers = plain.decode(body, allow_pickle=self._allow_pickle, as_fields=True)
            if isinstance(timers, dict):
                timers = zip(*(map(_plain_list, (timers["times"], timers["keys"]))), strict=True)
            found += [(time_ms, key) for time_ms, key in timers]
        return found

    def _records(self, channel: SavedChannel) -> Iterator[int]:
        for form, body, *_ in channel.elements:
            if isinstance(body, bytes):
                rows = from_stream(body) if form == SavedKind.ARROW else forms.entries(body, self._allow_pickle)
                yield len(rows)


def _plain_list(values: Any) -> list[Any]:
    items: list[Any] = values if isinstance(values, list) else values.tolist()
    return items
