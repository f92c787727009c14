"""A storage and a sink that watch what the engine does with them, by rules of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from streamcore.batch import Batch, to_rows
from streamcore.checkpoint.storage import digest_of
from streamcore.connectors.base import JobStart, SinkContext, TwoPhaseWriter
from streamcore.errors import ConnectorError
from streamcore.runtime.spec import JobSpec
from streamcore.testing import MemorySink, MemoryStorage

_ENTRY = re.compile(r"log/\d{8}\.json")


class Audit:
    """The promises broken so far, in words. They are kept and not raised: the engine must not see them."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def expect(self, holds: bool, what: str) -> None:
        """Notes `what` unless it holds."""
        if not holds:
            self.broken.append(what)


class AuditedStorage(MemoryStorage):
    """Snapshot storage that checks every manifest when it is made, and every read of a snapshot's file.

    It knows the layout of a checkpoint directory: manifests and fences are `log/NNNNNNNN.json`, a checkpoint is
    complete when its manifest is there, and everything else is a file that a manifest names.
    """

    def __init__(self, audit: Audit) -> None:
        super().__init__()
        self._audit = audit
        self.job: JobSpec | None = None
        self.restores = False
        """Whether the run in progress was told to go on from the latest checkpoint."""
        self.on_checkpoint: Callable[[], None] = lambda: None
        """Called when a checkpoint has become complete."""
        self.durable = b""
        """The content of all state files of all checkpoints that were ever complete."""
        self._ever_named: set[str] = set()

    def entries(self) -> list[dict[str, Any]]:
        """What is in the log, oldest first."""
        return [json.loads(data) for path, data in sorted(self.files.items()) if _ENTRY.fullmatch(path)]

    def manifests(self) -> list[dict[str, Any]]:
        """The complete checkpoints, oldest first."""
        return [entry for entry in self.entries() if entry["kind"] == "checkpoint"]

    def create(self, path: str, data: bytes) -> bool:
        made = super().create(path, data)
        if made and _ENTRY.fullmatch(path):
            entry = json.loads(data)
            if entry["kind"] == "checkpoint":
                self._check_manifest(path, entry)
                self.on_checkpoint()
            else:
                self._check_fence(path, entry)
        return made

    def read(self, path: str) -> bytes:
        if path.endswith((".state", ".tables")):
            # a zombie may still restore what the run that has replaced it has let go
            self._audit.expect(path in self._ever_named, f"{path} was read, which no complete checkpoint has named")
        return super().read(path)

    def check_end(self, retain: int) -> None:
        """Checks what is left when the job is over: at most `retain` manifests, and all their files."""
        manifests = self.manifests()
        self._audit.expect(len(manifests) <= retain, f"{len(manifests)} manifests are kept, {retain} should be")
        gone = sorted(self._named() - self.files.keys())
        self._audit.expect(not gone, f"files of kept checkpoints are gone: {gone}")

    def is_tidy(self, retain: int) -> bool:
        """Whether nothing is there that retention should have deleted."""
        return len(self.manifests()) <= retain and not self.orphans()

    def orphans(self) -> list[str]:
        """Files that are neither entries of the log, of which the fences stay for ever, nor named by a manifest, nor
        temporary ones of a write that was interrupted, which are the storage's own to clear away."""
        others = self.files.keys() - self._named()
        return sorted(path for path in others if not _ENTRY.fullmatch(path) and not path.endswith(".tmp"))

    def _named(self) -> set[str]:
        return {file["path"] for manifest in self.manifests() for file in files_of(manifest)}

    def _check_manifest(self, path: str, manifest: dict[str, Any]) -> None:
        where = f"manifest {path} of checkpoint {manifest['checkpoint_id']}"
        assert self.job is not None, "a manifest without a job"
        parts = [(part["vertex"], part["index"]) for part in manifest["subtasks"]]
        missing = sorted(set(self.job.subtasks()) - set(parts))
        self._audit.expect(not missing, f"{where} lacks the subtasks {missing}")
        self._audit.expect(len(set(parts)) == len(parts), f"{where} has a subtask twice")
        for file in files_of(manifest):
            self._ever_named.add(file["path"])
            data = self.files.get(file["path"])
            whole = data is not None and len(data) == file["size_bytes"] and digest_of(data) == file["digest"]
            self._audit.expect(whole, f"{where} was made before its file {file['path']} was written")
            if data is not None and file["path"].endswith(".state"):
                self.durable += data

    def _check_fence(self, path: str, fence: dict[str, Any]) -> None:
        newest = max((m["checkpoint_id"] for m in self.manifests()), default=0) if self.restores else 0
        goes_on = fence["checkpoint_id"]
        self._audit.expect(
            goes_on == newest, f"run {fence['run']} went on from checkpoint {goes_on}, the newest complete is {newest}"
        )


def files_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The file references of a manifest."""
    return [file for part in manifest["subtasks"] for file in [part["file"], *part.get("tables", [])]]


class AuditedSink(MemorySink):
    """A two-phase sink that checks each commit: what becomes visible must be in a complete checkpoint, prepared
    before, and not given up since."""

    def __init__(self, name: str, audit: Audit, storage: AuditedStorage) -> None:
        super().__init__()
        self.name = name
        self._audit = audit
        self._storage = storage
        self._given_up: set[str] = set()

    def prepare_job(self, start: JobStart) -> None:
        """Refuses to start afresh where there is output, as a FileSink does.

        Raises:
            ConnectorError: there is.
        """
        if self.committed and not start.restored:
            raise ConnectorError(f"the output {self.name!r} is there already")

    def writer(self, context: SinkContext) -> TwoPhaseWriter:
        return _AuditedWriter(self, context)

    def put(self, owner: str, rows: list[Any]) -> str:
        """Keeps prepared rows; their handle has an end, so that none is the beginning of another."""
        handle = f"<{self.name}/{owner}/{next(self._numbers)}>"
        self._prepared[handle] = rows
        return handle

    def commit(self, handles: Sequence[str]) -> None:
        for handle in handles:
            saved = handle.encode() in self._storage.durable
            self._audit.expect(saved, f"output {handle} was committed that is in no complete checkpoint")
            self._audit.expect(handle not in self._given_up, f"output {handle} was discarded, then committed")
        super().commit(handles)

    def discard(self, subtask: int, parallelism: int, epoch: int, prepared: set[str]) -> None:
        """Gives up what earlier attempts of a subtask's share have prepared, but not `prepared`."""
        for handle in self._prepared:
            owner, _, made_in = handle.split("/")[1].partition("-")
            if int(owner) % parallelism == subtask and int(made_in) < epoch and handle not in prepared:
                self._given_up.add(handle)


class _AuditedWriter(TwoPhaseWriter):
    def __init__(self, sink: AuditedSink, context: SinkContext) -> None:
        self._sink = sink
        self._context = context
        self._rows: list[Any] = []

    def write(self, batch: Batch) -> None:
        self._rows.extend(to_rows(batch))

    def prepare(self) -> list[Any]:
        if not self._rows:
            return []
        rows, self._rows = self._rows, []
        return [self._sink.put(f"{self._context.subtask}-{self._context.epoch}", rows)]

    def commit(self, handles: Sequence[Any]) -> None:
        self._sink.commit(handles)

    def abort_leftovers(self, prepared: Sequence[Any]) -> None:
        context = self._context
        self._sink.discard(context.subtask, context.parallelism, context.epoch, set(prepared))
