"""The file that one subtask writes for one checkpoint.

In the plain codec (`streamcore.batch.plain`), so it can be read without the engine::

    {"format": 2,
     "operators": {UID: {"keyed": captured store or None, "own": plain data of the operator}},
     "feedback": {EDGE: [(form, bytes), ...]}}        # records in flight on back edges, in order

A captured store (`streamcore.state.store`) is `{"states": {NAME: ...}, "timers": {group: bytes}, "event_timers": ...}`;
state of objects is `{"kind", "groups": {group: bytes of [[key, value], ...]}}`, columnar state is
`{"kind", "groups", "keys", "columns"}`. Both are in files of their own (`checkpoint.table_file`), and put here when the
part is read; columnar state was here in format 1, and state of objects as long as table files had format 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streamcore.batch import plain
from streamcore.errors import CheckpointError
from streamcore.state.capture import Capture

FORMAT = 2


@dataclass(slots=True)
class OperatorSnapshot:
    """One operator's part: its keyed store and what else it captured. `tables`: the state that is copied step by step
    while it is being captured, by name; when read back it is in `keyed`."""

    keyed: dict[str, Any]
    own: Any
    tables: dict[str, Capture] = field(default_factory=dict)


@dataclass(slots=True)
class SubtaskSnapshot:
    """One subtask's part of a checkpoint; `feedback` maps an edge's name to its logged batches, encoded."""

    operators: dict[str, OperatorSnapshot]
    feedback: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)

    def encode(self, *, allow_pickle: bool) -> bytes:
        """The file's content.

        Raises:
            StateCodecError: something in it has no plain form.
        """
        return plain.encode(
            {
                "format": FORMAT,
                "operators": {uid: {"keyed": op.keyed, "own": op.own} for uid, op in self.operators.items()},
                "feedback": self.feedback,
            },
            allow_pickle=allow_pickle,
        )

    @staticmethod
    def decode(data: bytes, *, allow_pickle: bool) -> SubtaskSnapshot:
        """Reads a file's content.

        Raises:
            CheckpointError: it was written by a newer version.
        """
        saved = plain.decode(data, allow_pickle=allow_pickle)
        if saved["format"] > FORMAT:
            raise CheckpointError(
                f"a state file has format {saved['format']}, this version reads up to {FORMAT}",
                hint="restore with the version that wrote it, or a newer one",
            )
        return SubtaskSnapshot(
            {uid: OperatorSnapshot(op["keyed"], op["own"]) for uid, op in saved["operators"].items()}, saved["feedback"]
        )
