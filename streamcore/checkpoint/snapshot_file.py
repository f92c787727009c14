"""The file that one subtask writes for one checkpoint.

In the plain codec (`streamcore.batch.plain`), so it can be read without the engine::

    {"format": 3,
     "operators": {UID: {"keyed": captured store or None, "own": plain data of the operator}},
     "in_flight": {"inputs": ..., "outputs": ...}}    # see `checkpoint.in_flight`

A captured store (`streamcore.state.store`) is `{"states": {NAME: ...}, "timers": {group: bytes}, "event_timers": ...}`;
object state is `{"kind", "groups": {group: bytes of [[key, value], ...]}}`. Columnar state is in files of its own
(`checkpoint.table_file`); in format 1 it was here, as `{"kind", "groups", "keys", "columns"}`. Formats 1 and 2 had
`"feedback": {EDGE: [(form, bytes), ...]}` instead of `"in_flight"`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streamcore.batch import plain
from streamcore.checkpoint.in_flight import InFlight
from streamcore.errors import CheckpointError
from streamcore.state.table_capture import TableCapture

FORMAT = 3


@dataclass(slots=True)
class OperatorSnapshot:
    """One operator's part: its keyed store and what else it captured. `tables`: its columnar state while it is being
    captured, by name; when read back it is in `keyed`."""

    keyed: dict[str, Any]
    own: Any
    tables: dict[str, TableCapture] = field(default_factory=dict)


@dataclass(slots=True)
class SubtaskSnapshot:
    """One subtask's part of a checkpoint."""

    operators: dict[str, OperatorSnapshot]
    in_flight: InFlight = field(default_factory=InFlight)

    def encode(self, *, allow_pickle: bool) -> bytes:
        """The file's content.

        Raises:
            StateCodecError: something in it has no plain form.
        """
        return plain.encode(
            {
                "format": FORMAT,
                "operators": {uid: {"keyed": op.keyed, "own": op.own} for uid, op in self.operators.items()},
                "in_flight": self.in_flight.to_plain(),
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
        operators = {uid: OperatorSnapshot(op["keyed"], op["own"]) for uid, op in saved["operators"].items()}
        if saved["format"] < 3:
            return SubtaskSnapshot(operators, InFlight.from_feedback(saved["feedback"]))
        return SubtaskSnapshot(operators, InFlight.from_plain(saved["in_flight"]))
