"""Records on standard output, for a first look."""

from __future__ import annotations

import sys

from streamcore.batch import Batch, to_rows
from streamcore.connectors.base import Sink, SinkContext, SinkWriter


class PrintSink(Sink[object]):
    """Writes each record as one line, `prefix` before it, to the standard output of its worker. At least once."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix

    def writer(self, context: SinkContext) -> SinkWriter:
        """The writer of one subtask."""
        return _PrintWriter(self.prefix)


class _PrintWriter(SinkWriter):
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def write(self, batch: Batch) -> None:
        # one call, so that lines of subtasks in one process don't mix
        sys.stdout.write("".join(f"{self._prefix}{row}\n" for row in to_rows(batch)))
        sys.stdout.flush()
