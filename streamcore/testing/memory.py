"""A sink and a snapshot storage in memory, which outlive the jobs that use them."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Any

from streamcore.batch import Batch, to_rows
from streamcore.checkpoint.storage import Storage
from streamcore.connectors.base import Sink, SinkContext, TwoPhaseWriter
from streamcore.errors import UsageError

_sinks: weakref.WeakValueDictionary[int, MemorySink] = weakref.WeakValueDictionary()
_numbers = itertools.count()


class MemoryStorage(Storage):
    """Files in a dictionary; what was written survives a simulated crash."""

    def __init__(self, url: str = "simulated://") -> None:
        super().__init__(url)
        self.files: dict[str, bytes] = {}

    def write(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def create(self, path: str, data: bytes) -> bool:
        if path in self.files:
            return False
        self.files[path] = data
        return True

    def read(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def names(self, directory: str) -> list[str]:
        prefix = f"{directory}/" if directory else ""
        return sorted({path[len(prefix) :].split("/")[0] for path in self.files if path.startswith(prefix)})

    def delete(self, path: str) -> None:
        for name in [name for name in self.files if path in ("", name) or name.startswith(f"{path}/")]:
            del self.files[name]


class MemorySink(Sink[Any]):
    """A two-phase sink within this process. `committed` is what a reader would see.

    It stands for a system outside of the job: simulated workers, to which jobs are sent pickled, all write to one and
    the same sink.
    """

    accepts = "rows"

    def __init__(self) -> None:
        self.committed: list[Any] = []
        self._prepared: dict[str, list[Any]] = {}
        self._done: set[str] = set()
        self._numbers = itertools.count()
        self._number = next(_numbers)
        _sinks[self._number] = self

    def __reduce__(self) -> tuple[Any, ...]:
        return _sink, (self._number,)

    def writer(self, context: SinkContext) -> TwoPhaseWriter:
        return _MemoryWriter(self, context)

    def put(self, owner: str, rows: list[Any]) -> str:
        """Keeps prepared rows and returns their handle."""
        handle = f"{owner}/{next(self._numbers)}"
        self._prepared[handle] = rows
        return handle

    def commit(self, handles: Sequence[str]) -> None:
        """Makes prepared rows visible; once, however often it is called."""
        for handle in handles:
            if handle not in self._done:
                self._done.add(handle)
                self.committed.extend(self._prepared.pop(handle))


def _sink(number: int) -> MemorySink:
    if number not in _sinks:
        raise UsageError(
            "a MemorySink lives in one process",
            hint="simulate the job (SimulatedWorld), or use FileSink with processes",
        )
    return _sinks[number]


class _MemoryWriter(TwoPhaseWriter):
    def __init__(self, sink: MemorySink, context: SinkContext) -> None:
        self._sink = sink
        self._owner = f"{context.subtask}-{context.epoch}"
        self._rows: list[Any] = []

    def write(self, batch: Batch) -> None:
        self._rows.extend(to_rows(batch))

    def prepare(self) -> list[Any]:
        if not self._rows:
            return []
        rows, self._rows = self._rows, []
        return [self._sink.put(self._owner, rows)]

    def commit(self, handles: Sequence[Any]) -> None:
        self._sink.commit(handles)

    def abort_leftovers(self, prepared: Sequence[Any]) -> None:
        """Rows that are never committed are never seen."""
