"""What travels on a channel, in order: batches and control elements."""

from __future__ import annotations

from dataclasses import dataclass

from streamcore.batch import Batch


@dataclass(frozen=True, slots=True)
class Barrier:
    """Separates the records that belong to checkpoint `checkpoint_id` from those that don't."""

    checkpoint_id: int


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """Nothing comes after it on this channel."""


END_OF_INPUT = EndOfInput()

Element = Batch | Barrier | EndOfInput
