"""The checkpoint log: which checkpoints are complete, and which run of the job may add to them.

::

    DIR/log/00000001.json     a fence: run 1 started afresh
    DIR/log/00000002.json     the manifest of checkpoint 1
    DIR/log/00000003.json     a fence: run 2 goes on from checkpoint 1
    DIR/chk-00000001/*.state  what the subtasks wrote for checkpoint 1
    DIR/chk-00000001/*.tables their state in memory, or what of it had changed; later manifests may name these too
    DIR/chk-00000001/*.sst    their state in RocksDB; likewise

Entries are numbered without gaps and each is created exactly once (`Storage.create`), so the log is also the
fence between runs: a run appends at the number after the newest entry it knows, and if that name is taken,
another run has taken over and this one must stop. A checkpoint is complete when its manifest is in the log;
a file that no manifest names is never read, and one that any manifest names is kept. Fences are kept for ever: they
are what stops a late survivor. Each entry has a digest of itself; a damaged one is passed over, but nothing that it
may have decided is decided without it: `latest` names it, and an older checkpoint is restored only by name.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from streamcore.checkpoint.storage import FileRef, Storage, digest_of
from streamcore.errors import CheckpointError, DamagedCheckpointError, FencedError, MachineError, NoCheckpointError

FORMAT = 3
_ENTRY = re.compile(r"(\d{8})\.json")
_CHECKPOINT = re.compile(r"chk-(\d{8})")
_FINISHED = "finished"
_FINISHED_FILE = re.compile(r"v\d+-\d+\.e(\d+)\..+")


class OperatorEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operator of the topology that took the snapshot.

    Attributes:
        place: its number in the topology, in the order in which operators were added; -1: it was not written down yet.
        key: the fields of its key, as in `user: int64`; empty: it has no key, or one whose type is not known.
    """

    name: str
    parallelism: int
    max_parallelism: int
    place: int = -1
    key: list[str] = []


class SubtaskEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One subtask's part of a snapshot.

    Attributes:
        finished: its input had ended and it had emitted its last.
        file: all that is in no other file.
        tables: the files that have the state in memory together, oldest first: the first is whole, the others have
            what changed; all but the last may have been written for earlier checkpoints. (New in format 2; left out
            when empty, so that entries of format 1 keep their digests.)
        shared: the files that have state in RocksDB, some of them written for earlier checkpoints. (New in format 3.)
        ended: the operators that had emitted their last although the subtask had not: they had in the snapshot that it
            was restored from, when they were not in one chain with the others. (New in format 3.)
    """

    vertex: int
    index: int
    parallelism: int
    operators: list[str]
    finished: bool
    file: FileRef
    tables: list[FileRef] = []
    shared: list[FileRef] = []
    ended: list[str] = []

    def has_ended(self, uid: str) -> bool:
        """Whether an operator had emitted its last."""
        return self.finished or uid in self.ended

    @property
    def files(self) -> list[FileRef]:
        """Every file that the part needs."""
        return [self.file, *self.tables, *self.shared]


class Entry(msgspec.Struct, frozen=True):
    """One entry of the log: the manifest of a complete checkpoint, or a fence.

    Attributes:
        epoch: the attempt that wrote it.
        run: the run of the job (one start of the coordinator).
        checkpoint_id: of a manifest; of a fence, the checkpoint that the run goes on from (0: none).
        digest: of the entry without its digest; given by `CheckpointLog.append`.
    """

    kind: Literal["checkpoint", "fence"]
    job: str
    run: int
    epoch: int
    checkpoint_id: int
    created_ms: int
    format: int = FORMAT
    operators: dict[str, OperatorEntry] = {}
    subtasks: list[SubtaskEntry] = []
    digest: str = ""

    def signed(self) -> Entry:
        """The entry with its digest."""
        bare = msgspec.structs.replace(self, digest="")
        return msgspec.structs.replace(self, digest=digest_of(msgspec.json.encode(bare)))

    @property
    def size_bytes(self) -> int:
        """What the snapshot's files take."""
        return sum(file.size_bytes for subtask in self.subtasks for file in subtask.files)

    @property
    def paths(self) -> set[str]:
        """The snapshot's files."""
        return {file.path for subtask in self.subtasks for file in subtask.files}


def directory_of(checkpoint_id: int) -> str:
    """Where the subtasks put their parts of a checkpoint."""
    return f"chk-{checkpoint_id:08d}"


def state_path(checkpoint_id: int, vertex: int, index: int, epoch: int) -> str:
    """The file of one subtask; the epoch in it keeps a late survivor from writing over a newer attempt's."""
    return f"{directory_of(checkpoint_id)}/v{vertex}-{index}.e{epoch}.state"


def tables_path(path: str) -> str:
    """The file of the columnar state that belongs to a subtask's state file."""
    return f"{path.removesuffix('.state')}.tables"


def finished_path(vertex: int, index: int, epoch: int) -> str:
    """The last file of a subtask that has finished; every later checkpoint refers to it."""
    return f"{_FINISHED}/v{vertex}-{index}.e{epoch}.state"


class CheckpointLog:
    """The log of one storage, as one run sees it."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._entries: dict[int, Entry] = {}
        self._damaged: dict[int, DamagedCheckpointError] = {}
        self.refresh()

    def refresh(self) -> None:
        """Reads entries that were added since.

        Raises:
            MachineError: the place can't be read.
        """
        try:
            names = self.storage.names("log")
        except OSError as error:
            raise MachineError(
                f"the checkpoint directory {self.storage.url} can't be read: {error.strerror or error}"
            ) from error
        for name in names:
            match = _ENTRY.fullmatch(name)
            if match and int(match[1]) not in self._entries:
                try:
                    self._entries[int(match[1])] = self._read(name)
                except FileNotFoundError:
                    continue  # another run has retained newer ones meanwhile
                except DamagedCheckpointError as error:
                    self._damaged[int(match[1])] = error

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever logged here."""
        return not (self._entries or self._damaged)

    @property
    def last_run(self) -> int:
        """The newest run that can have started here (each damaged entry may be one); 0 when there was none."""
        return max((entry.run for entry in self._entries.values()), default=0) + len(self._damaged)

    @property
    def last_checkpoint_id(self) -> int:
        """The highest checkpoint id in use, complete or not."""
        begun = [int(match[1]) for name in self.storage.names("") if (match := _CHECKPOINT.fullmatch(name))]
        return max([*begun, *(entry.checkpoint_id for entry in self._entries.values())], default=0)

    def checkpoints(self) -> list[Entry]:
        """The complete checkpoints, oldest first."""
        return [entry for _, entry in sorted(self._entries.items()) if entry.kind == "checkpoint"]

    def latest(self) -> Entry:
        """The checkpoint that the job's newest run would go on from.

        Raises:
            NoCheckpointError: there is none, or the newest run started afresh and completed none.
            DamagedCheckpointError: the entry that says so, or the one that it names, is damaged.
        """
        for number in sorted([*self._entries, *self._damaged], reverse=True):
            if number in self._damaged:
                raise self._damaged[number]
            entry = self._entries[number]
            if entry.kind == "checkpoint":
                return entry
            if entry.checkpoint_id == 0:
                raise NoCheckpointError(
                    f"the last run in {self.storage.url} completed no checkpoint",
                    hint="start it again without --restore, or name an older checkpoint: --restore DIR/chk-NNNNNNNN",
                )
            try:
                return self.find(entry.checkpoint_id)
            except NoCheckpointError as error:
                raise DamagedCheckpointError(
                    f"{self.storage.url}/{directory_of(entry.checkpoint_id)}, from which the last run went on, has no "
                    "whole manifest any more"
                ) from error
        raise NoCheckpointError(
            f"there is no checkpoint in {self.storage.url}",
            hint="start without --restore, or check --checkpoint-dir",
        )

    def find(self, checkpoint_id: int) -> Entry:
        """The manifest of one checkpoint.

        Raises:
            NoCheckpointError: it isn't there or isn't complete.
        """
        for entry in self._entries.values():
            if entry.kind == "checkpoint" and entry.checkpoint_id == checkpoint_id:
                return entry
        there = ", ".join(directory_of(entry.checkpoint_id) for entry in self.checkpoints())
        if self._damaged:
            there = f"{there or 'none'}; damaged manifests: {', '.join(f'log/{n:08d}.json' for n in self._damaged)}"
        raise NoCheckpointError(
            f"{self.storage.url}/{directory_of(checkpoint_id)} is not a complete checkpoint",
            hint=f"complete ones: {there}" if there else "there is no complete checkpoint in this directory",
        )

    def append(self, entry: Entry) -> None:
        """Adds an entry after the newest known one.

        Raises:
            FencedError: another run has added one.
            CheckpointError: it builds on a file that is not kept any more.
        """
        own, kept = directory_of(entry.checkpoint_id), self._needed()
        foreign = {path for path in entry.paths if not path.startswith(own)}
        gone = sorted(path for path in foreign - kept if not path.startswith(_FINISHED))
        if gone:
            raise CheckpointError(f"checkpoint {entry.checkpoint_id} builds on {gone[0]}, which no kept checkpoint has")
        number = max([*self._entries, *self._damaged], default=0) + 1
        content = msgspec.json.format(msgspec.json.encode(entry.signed()), indent=1)
        if not self.storage.create(f"log/{number:08d}.json", content):
            raise FencedError(
                f"another run of the job has taken over {self.storage.url}; this one stops",
                hint="run one job per checkpoint directory",
            )
        self._entries[number] = entry

    def retain(self, count: int, epoch: int) -> None:
        """Deletes all but the newest `count` checkpoints, and what unfinished ones and attempts before `epoch` left."""
        manifests = [(number, entry) for number, entry in sorted(self._entries.items()) if entry.kind == "checkpoint"]
        for number, _ in manifests[:-count]:
            self.storage.delete(f"log/{number:08d}.json")
            del self._entries[number]
        kept = {entry.checkpoint_id for _, entry in manifests[-count:]}
        needed = self._needed()
        if kept:
            for name in self.storage.names(""):
                match = _CHECKPOINT.fullmatch(name)
                if match and int(match[1]) <= max(kept):  # in kept ones there is what earlier attempts wrote too late
                    self._delete_unneeded(name, needed)
        for name in self.storage.names(_FINISHED):
            match = _FINISHED_FILE.fullmatch(name)
            if match and int(match[1]) < epoch and f"{_FINISHED}/{name}" not in needed:
                self.storage.delete(f"{_FINISHED}/{name}")

    def _needed(self) -> set[str]:
        return {path for entry in self._entries.values() for path in entry.paths}

    def _delete_unneeded(self, directory: str, needed: set[str]) -> None:
        """Deletes a checkpoint's directory, or what no later checkpoint builds on."""
        if not any(path.startswith(f"{directory}/") for path in needed):
            self.storage.delete(directory)
            return
        for name in self.storage.names(directory):
            if f"{directory}/{name}" not in needed:
                self.storage.delete(f"{directory}/{name}")

    def _read(self, name: str) -> Entry:
        try:
            entry = msgspec.json.decode(self.storage.read(f"log/{name}"), type=Entry)
        except msgspec.DecodeError as error:
            raise DamagedCheckpointError(f"{self.storage.url}/log/{name} is damaged: {error}") from error
        if entry.format > FORMAT:
            raise CheckpointError(
                f"{self.storage.url}/log/{name} has format {entry.format}, this version reads up to {FORMAT}",
                hint="restore with the version that wrote it, or a newer one",
            )
        if entry.digest != entry.signed().digest:
            raise DamagedCheckpointError(f"{self.storage.url}/log/{name} is damaged: its digest is another")
        return entry
