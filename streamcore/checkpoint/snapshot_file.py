"""The file that one subtask writes for one checkpoint.

In the plain codec (`streamcore.batch.plain`), so it can be read without the engine::

    {"format": 3,
     "operators": {UID: {"keyed": captured store or None, "own": plain data of the operator}},
     "in_flight": {"inputs": ..., "outputs": ...}}    # see `checkpoint.in_flight`

A captured store (`streamcore.state.store`) is `{"states": {NAME: ...}, "timers": {group: bytes}, "event_timers": ...}`;
state of objects is `{"kind", "groups": {group: bytes of [[key, value], ...]}}`, columnar state is
`{"kind", "groups", "keys", "columns"}`. Both are in files of their own (`checkpoint.table_file`), and put here when the
part is read; columnar state was here in format 1, and state of objects as long as table files had format 2. In formats
1 and 2 there was `"feedback": {EDGE: [(form, bytes), ...]}` instead of `"in_flight"`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streamcore.batch import plain
from streamcore.checkpoint.in_flight import InFlight
from streamcore.errors import CheckpointError
from streamcore.state.capture import Capture
from streamcore.state.store import encoded_store
from streamcore.state.timer_capture import TimerCapture

FORMAT = 3


@dataclass(slots=True)
class OperatorSnapshot:
    """One operator's part: its keyed store and what else it captured. `tables`: the state that is copied step by step
    while it is being captured, by name; when read back it is in `keyed`."""

    keyed: dict[str, Any]
    own: Any
    tables: dict[str, Capture] = field(default_factory=dict)

    @property
    def captures(self) -> list[Capture]:
        """What of it is copied step by step."""
        return [*self.tables.values(), *(part for part in self.keyed.values() if isinstance(part, TimerCapture))]


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
                "operators": {
                    uid: {"keyed": encoded_store(op.keyed), "own": op.own} for uid, op in self.operators.items()
                },
                "in_flight": self.in_flight.to_plain(),
            },
            allow_pickle=allow_pickle,
        )

    @staticmethod
    def decode(data: bytes, *, allow_pickle: bool, as_fields: bool = False) -> SubtaskSnapshot:
        """Reads a file's content. `as_fields`: see `plain.decode`.

        Raises:
            CheckpointError: it was written by a newer version.
        """
        saved = plain.decode(data, allow_pickle=allow_pickle, as_fields=as_fields)
        if saved["format"] > FORMAT:
            raise CheckpointError(
                f"a state file has format {saved['format']}, this version reads up to {FORMAT}",
                hint="restore with the version that wrote it, or a newer one",
            )
        operators = {uid: OperatorSnapshot(op["keyed"], op["own"]) for uid, op in saved["operators"].items()}
        if saved["format"] < 3:
            return SubtaskSnapshot(operators, InFlight.from_feedback(saved["feedback"]))
        return SubtaskSnapshot(operators, InFlight.from_plain(saved["in_flight"]))
