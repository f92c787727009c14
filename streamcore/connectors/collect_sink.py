"""Collects a stream's records for the process that runs the job, exactly once, through files in a private directory."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cloudpickle

from streamcore.batch import Batch, to_rows
from streamcore.connectors.base import Sink, SinkContext, TwoPhaseWriter


class CollectSink(Sink[Any]):
    """Writes into `directory`, which must be private to this job: the files are pickled."""

    accepts = "rows"

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def writer(self, context: SinkContext) -> TwoPhaseWriter:
        return _Writer(Path(self._directory), context)


class _Writer(TwoPhaseWriter):
    def __init__(self, directory: Path, context: SinkContext) -> None:
        self._directory = directory
        self._context = context
        self._rows: list[Any] = []
        self._numbers = itertools.count()

    def write(self, batch: Batch) -> None:
        self._rows.extend(to_rows(batch))

    def prepare(self) -> list[Any]:
        if not self._rows:
            return []
        name = f"{self._context.subtask}-{self._context.epoch}-{next(self._numbers)}"
        (self._directory / f".{name}").write_bytes(cloudpickle.dumps(self._rows))
        self._rows = []
        return [name]

    def commit(self, handles: Sequence[Any]) -> None:
        for name in handles:
            hidden = self._directory / f".{name}"
            if not (self._directory / name).exists():  # else it was committed before
                hidden.rename(self._directory / name)

    def abort_leftovers(self, prepared: Sequence[Any]) -> None:
        """Hidden files are never read, and the directory goes away with the job."""


def read_collected(directory: str) -> list[Any]:
    """All committed records in a `CollectSink`'s directory."""
    records: list[Any] = []
    for path in sorted(Path(directory).iterdir()):
        if not path.name.startswith("."):
            records.extend(pickle.loads(path.read_bytes()))  # noqa: S301 - our own private directory
    return records
