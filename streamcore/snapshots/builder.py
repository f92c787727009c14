"""Snapshots made of data, or of another snapshot: a job restores from them as from its own."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from streamcore.checkpoint.in_flight import InFlight, SavedChannel
from streamcore.checkpoint.log import CheckpointLog, Entry, OperatorEntry, SubtaskEntry, state_path
from streamcore.checkpoint.parts import write_part
from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.checkpoint.storage import Storage, open_storage
from streamcore.errors import CheckpointError, IncompatibleSnapshotError, MachineError, UsageError
from streamcore.runtime.spec import JobSpec
from streamcore.snapshots.contents import Contents, NewState, check_time, table_captures
from streamcore.snapshots.data import Data, Key
from streamcore.snapshots.reader import Snapshot
from streamcore.state.descriptors import Versioned
from streamcore.state.key_groups import LIMIT_MAX_PARALLELISM, group_range
from streamcore.time import MAX_TIME, Clock

_ID = 1


class SnapshotBuilder:
    """Builds one snapshot; nothing is written before `write`.

    Args:
        job: the plan of the job that is to restore it, from `StreamEnvironment.compile()`: then operators that the job
            doesn't have are refused. Or only its name.
        max_parallelism: of the job's operators where `job` is a name; fixed for the life of the state.
        parallelism: into how many parts the state of an operator is written; the job may have any.
        allow_pickle: pickles values that have no plain form; the job must allow it too.

    Raises:
        UsageError: a number is out of range.
    """

    def __init__(
        self, job: str | JobSpec, *, max_parallelism: int = 128, parallelism: int = 1, allow_pickle: bool = False
    ) -> None:
        if not 1 <= max_parallelism <= LIMIT_MAX_PARALLELISM:
            raise UsageError(f"max_parallelism={max_parallelism} is not from 1 to {LIMIT_MAX_PARALLELISM}")
        if not 1 <= parallelism <= max_parallelism:
            raise UsageError(f"parallelism={parallelism} is not from 1 to max_parallelism, {max_parallelism}")
        self.job = job if isinstance(job, str) else job.name
        self._known = None if isinstance(job, str) else _operators_of(job)
        self._max_parallelism = max_parallelism
        self._parallelism = parallelism
        self._allow_pickle = allow_pickle
        self._new: dict[str, Contents] = {}
        self._base: Snapshot | None = None
        self._names: dict[str, str] = {}  # uid in the base → uid in what is written
        self._removed: set[tuple[str, str]] = set()

    @staticmethod
    def of(
        snapshot: Snapshot | str | os.PathLike[str], *, job: str | JobSpec | None = None, allow_pickle: bool = False
    ) -> SnapshotBuilder:
        """A builder that begins with all that a snapshot has, source offsets and records in flight included. Of a job
        that had ended, operators begin again: what they emit at the end of input they will emit again.

        Args:
            job: as of a new builder; None: the job that took the snapshot.

        Raises:
            NoCheckpointError, DamagedCheckpointError: as `Snapshot.open`.
        """
        if not isinstance(snapshot, Snapshot):
            snapshot = Snapshot.open(snapshot, allow_pickle=allow_pickle)
        builder = SnapshotBuilder(job if job is not None else snapshot.job, allow_pickle=allow_pickle)
        builder._base = snapshot
        builder._names = {uid: uid for uid in snapshot.uids}
        return builder

    def add_state(
        self,
        uid: str,
        descriptor: Versioned,
        data: Data,
        *,
        key: Key = "key",
        value: str | Callable[[dict[str, Any]], Any] = "value",
    ) -> SnapshotBuilder:
        """Gives an operator state; what the snapshot had under the name is replaced.

        Args:
            uid: of the operator.
            descriptor: as the operator declares it.
            data: `Columns`, a pyarrow Table or RecordBatch, arrays by name, a list of dictionaries, or the path of a
                Parquet file; for state of Python objects also a dictionary, or (key, value) pairs. Of a table each row
                is one key; of list state one value; of map state one entry, whose own key is in a column `map_key`.
            key: the column with the keys, or the columns of a key of several fields.
            value: of state of Python objects, the column with the values or a function that makes one of a row (a
                dictionary).

        Raises:
            DataError: the data doesn't fit the descriptor, or has a key twice.
            UsageError: the job has no such operator, or the state was added before.
        """
        contents = self._contents(uid)
        if descriptor.name in contents.states:
            raise UsageError(f"state {descriptor.name!r} of operator {uid!r} is added twice")
        what = f"state {descriptor.name!r} of operator {uid!r}"
        contents.states[descriptor.name] = NewState.of(descriptor, data, key, value, self._maximum(uid), what)
        return self

    def add_timers(self, uid: str, timers: Iterable[tuple[int, Any]], *, event_time: bool = True) -> SnapshotBuilder:
        """Sets timers of an operator, as (milliseconds, key), in the place of those that it has.

        Raises:
            UsageError: a time is no whole number, or the job has no such operator.
        """
        contents = self._contents(uid)
        (contents.event_timers if event_time else contents.timers).extend(check_time(*timer) for timer in timers)
        return self

    def add_offsets(self, uid: str, offsets: Mapping[str, Any]) -> SnapshotBuilder:
        """Says where a source is to go on: split id → offset, as `Snapshot.operators[uid].splits` has them. Splits
        that are not named are read from their beginning.

        Raises:
            UsageError: the job has no such operator, or the snapshot already has its offsets.
        """
        if uid in self._names.values():
            raise UsageError(f"the snapshot has the offsets of {uid!r}", hint="remove_operator takes them out")
        self._contents(uid).offsets.update(offsets)
        return self

    def remove_state(self, uid: str, name: str) -> SnapshotBuilder:
        """Leaves a state of the snapshot out.

        Raises:
            UsageError: it isn't there.
        """
        if name not in self._base_of(uid).operators[uid].states:
            raise UsageError(f"the snapshot has no state {name!r} of operator {uid!r}")
        self._removed.add((uid, name))
        return self

    def remove_operator(self, uid: str) -> SnapshotBuilder:
        """Leaves all that the snapshot has of an operator out.

        Raises:
            UsageError: it isn't there, or records were in flight to or from it.
        """
        flying = [edge for edge in self._base_of(uid).in_flight() if uid in _ends_of(edge)]
        if flying:
            raise UsageError(
                f"operator {uid!r} can't be removed: records were in flight on {flying[0]}",
                hint="take a savepoint, which has none in flight but on loops",
            )
        del self._names[uid]
        return self

    def rename_operator(self, uid: str, new_uid: str) -> SnapshotBuilder:
        """Gives what the snapshot has of an operator to one with another uid.

        Raises:
            UsageError: it isn't there, another one has that uid, or the job has no such operator.
        """
        self._base_of(uid)
        if new_uid in self._names.values():
            raise UsageError(f"operator {uid!r} can't be renamed to {new_uid!r}: there is one")
        self._check_known(new_uid)
        self._names[uid] = new_uid
        return self

    def write(self, url: str | os.PathLike[str]) -> str:
        """Writes the snapshot into a new directory, which `--restore` takes; returns its URL.

        Raises:
            CheckpointError: something is there already, or there is nothing to write.
            IncompatibleSnapshotError: the job couldn't restore it.
            MachineError: the place can't be written.
            StateCodecError: a value has no plain form.
        """
        storage = open_storage(os.fspath(url))
        self._refuse_what_cannot_be_restored()
        try:
            if storage.names(""):
                raise CheckpointError(f"{storage.url} is not empty", hint="give a directory that is new")
            try:
                self._write(storage)
            except BaseException:
                storage.delete("")
                raise
        except OSError as error:
            raise MachineError(f"the snapshot can't be written to {storage.url}: {error.strerror or error}") from error
        return storage.url

    def _write(self, storage: Storage) -> None:
        base = self._base.manifest if self._base is not None else None
        operators = {}
        for uid, entry in base.operators.items() if base is not None else ():
            if uid in self._names:  # by uid it is said here what belongs where: places say nothing any more
                operators[self._names[uid]] = msgspec.structs.replace(entry, place=-1)
        subtasks = [part for old in base.subtasks if (part := self._copy(storage, old)) is not None] if base else []
        vertex = max((entry.vertex for entry in subtasks), default=-1)
        for uid in self._new:
            if uid in operators:
                continue
            vertex += 1
            name = self._known[uid].name if self._known is not None else uid
            operators[uid] = OperatorEntry(name, self._parallelism, self._maximum(uid))
            for index in range(self._parallelism):
                made = OperatorSnapshot({}, None)
                self._fill(made, uid, index, self._parallelism)
                subtasks.append(self._store(storage, (vertex, index, self._parallelism), {uid: made}, InFlight()))
        manifest = Entry("checkpoint", self.job, 0, 0, _ID, Clock().now_ms(), operators=operators, subtasks=subtasks)
        CheckpointLog(storage).append(manifest)

    def _copy(self, storage: Storage, old: SubtaskEntry) -> SubtaskEntry | None:
        """A part of the base with what is changed of it; None if nothing is left."""
        kept = [uid for uid in old.operators if uid in self._names]
        if not kept:
            return None
        assert self._base is not None, "there is no snapshot to copy from"
        snapshot = self._base.read(old)
        parts: dict[str, OperatorSnapshot] = {}
        for uid in kept:
            part = parts[self._names[uid]] = snapshot.operators[uid]
            for name in [name for name in part.keyed.get("states", {}) if (uid, name) in self._removed]:
                del part.keyed["states"][name]
                part.keyed.get("schemas", {}).pop(name, None)
            if old.finished:
                part.own = _before_the_end(part.own)
            self._fill(part, self._names[uid], old.index, old.parallelism)
        sides = snapshot.in_flight.inputs, snapshot.in_flight.outputs
        in_flight = InFlight(*(list(map(self._renamed, side)) for side in sides))
        return self._store(storage, (old.vertex, old.index, old.parallelism), parts, in_flight)

    def _fill(self, part: OperatorSnapshot, uid: str, index: int, parallelism: int) -> None:
        """Puts the share of one subtask of what was added into its part."""
        part.tables = table_captures(part.keyed)
        contents = self._new.get(uid)
        if contents is None:
            return
        maximum = self._maximum(uid)
        keyed, tables = contents.captured(
            maximum, group_range(index, parallelism, maximum), allow_pickle=self._allow_pickle
        )
        for name in contents.states:
            part.tables.pop(name, None)
            part.keyed.get("states", {}).pop(name, None)
        part.tables |= tables
        kept = {kind: part.keyed.get(kind, {}) for kind in keyed}
        timers = {
            "timers": keyed["timers"] if contents.timers else kept["timers"],
            "event_timers": keyed["event_timers"] if contents.event_timers else kept["event_timers"],
        }
        part.keyed = {kind: {**kept[kind], **keyed[kind]} for kind in keyed} | timers
        if contents.offsets:
            own = contents.offsets.items() if index == 0 else ()  # whoever reads a split finds it in any part
            part.own = {"offsets": {split: (offset, False) for split, offset in own}}

    def _store(
        self,
        storage: Storage,
        subtask: tuple[int, int, int],
        parts: dict[str, OperatorSnapshot],
        in_flight: InFlight,
    ) -> SubtaskEntry:
        vertex, index, parallelism = subtask
        path, snapshot = state_path(_ID, vertex, index, 0), SubtaskSnapshot(parts, in_flight)
        file, tables = write_part(storage, path, snapshot, [], allow_pickle=self._allow_pickle)
        return SubtaskEntry(vertex, index, parallelism, list(parts), False, file, tables)

    def _renamed(self, channel: SavedChannel) -> SavedChannel:
        edge = channel.edge
        source, target = (self._names.get(uid, uid) for uid in _ends_of(edge))
        left, _, right = edge.partition(">")
        renamed = f"{source}.{left.rpartition('.')[2]}>{target}.{right.rpartition('.')[2]}"
        return dataclasses.replace(channel, edge=renamed)

    def _contents(self, uid: str) -> Contents:
        self._check_known(uid)
        return self._new.setdefault(uid, Contents())

    def _base_of(self, uid: str) -> Snapshot:
        if self._base is None or uid not in self._names:
            there = ", ".join(self._names) or "no operator"
            raise UsageError(f"the snapshot has no operator {uid!r}", hint=f"it has {there}")
        return self._base

    def _maximum(self, uid: str) -> int:
        """The operator's number of key groups: what the snapshot has, else the job."""
        if self._base is not None:
            for old, new in self._names.items():
                if new == uid:
                    return self._base.manifest.operators[old].max_parallelism
        return self._known[uid].max_parallelism if self._known is not None else self._max_parallelism

    def _check_known(self, uid: str) -> None:
        if self._known is not None and uid not in self._known:
            close = difflib.get_close_matches(uid, self._known, n=1)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            raise UsageError(
                f"job {self.job!r} has no operator {uid!r}{guess}", hint=f"it has {', '.join(self._known)}"
            )

    def _refuse_what_cannot_be_restored(self) -> None:
        if not self._new and not self._names:
            raise CheckpointError("there is nothing to write", hint="add state, or begin with a snapshot")
        if self._known is None:
            return
        for uid in self._names.values():
            if uid not in self._known:
                raise IncompatibleSnapshotError(
                    f"job {self.job!r} has no operator {uid!r}, which the snapshot has",
                    hint="remove_operator leaves it out, rename_operator gives it to another",
                )
            if self._maximum(uid) != self._known[uid].max_parallelism:
                raise IncompatibleSnapshotError(
                    f"operator {uid!r} has max_parallelism {self._maximum(uid)} in the snapshot and "
                    f"{self._known[uid].max_parallelism} in job {self.job!r}",
                    hint="it is fixed for the life of the state",
                )


def _operators_of(job: JobSpec) -> dict[str, OperatorEntry]:
    return {
        spec.uid: OperatorEntry(spec.name, vertex.parallelism, vertex.max_parallelism)
        for vertex in job.vertices
        for spec in vertex.saved_operators
    }


def _before_the_end(own: Any) -> Any:
    """What an operator of a job that has ended keeps, without the last watermark, behind which all is late."""
    if isinstance(own, dict) and own.get("watermark") == MAX_TIME:
        return {name: value for name, value in own.items() if name != "watermark"} or None
    return own


def _ends_of(edge: str) -> tuple[str, str]:
    """The uids at the ends of an edge, of its name (`runtime.edges.edge_name`)."""
    left, _, right = edge.partition(">")
    return left.rpartition(".")[0], right.rpartition(".")[0]
