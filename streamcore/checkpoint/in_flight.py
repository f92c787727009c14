"""The records in flight that are part of a snapshot: what was on its way when the state was captured.

Each subtask saves what waited in its input channels ahead of the barrier, and what its own barrier overtook in its
outputs. Plain data::

    {"inputs":  [[EDGE, sending subtask, how many there were, [element, ...]], ...],
     "outputs": [[EDGE, receiving subtask, how many there were, [element, ...]], ...]}

Elements are batches, `(form, bytes)` as `streamcore.batch.codec` encodes them, and watermarks, `(0, time in ms, idle)`,
in the channel's order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

WATERMARK = 0
"""In the place of a batch's form."""

SavedElement = tuple[int, bytes] | tuple[int, int, bool]


@dataclass(frozen=True, slots=True)
class SavedChannel:
    """What was in flight on one channel: `edge` is the edge's name, `peer` the subtask at the other end, one of
    `peers`."""

    edge: str
    peer: int
    peers: int
    elements: list[SavedElement]


@dataclass(slots=True)
class InFlight:
    """What was in flight at one subtask."""

    inputs: list[SavedChannel] = field(default_factory=list)
    outputs: list[SavedChannel] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """What the batches take."""
        channels = (*self.inputs, *self.outputs)
        return sum(len(body) for channel in channels for _, body, *_ in channel.elements if isinstance(body, bytes))

    def to_plain(self) -> Any:
        """The plain data."""
        return {"inputs": [_plain(c) for c in self.inputs], "outputs": [_plain(c) for c in self.outputs]}

    @staticmethod
    def from_plain(saved: Any) -> InFlight:
        """What `to_plain` was made of."""
        return InFlight([SavedChannel(*c) for c in saved["inputs"]], [SavedChannel(*c) for c in saved["outputs"]])

    @staticmethod
    def from_feedback(saved: dict[str, list[tuple[int, bytes]]]) -> InFlight:
        """From formats 1 and 2, which knew records in flight on back edges only, and not from whom they came."""
        return InFlight([SavedChannel(edge, 0, 0, list(batches)) for edge, batches in saved.items()])


def _plain(channel: SavedChannel) -> Any:
    return [channel.edge, channel.peer, channel.peers, channel.elements]
