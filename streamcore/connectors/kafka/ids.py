"""Transactional ids: their names, and when one may be used again.

An id is `PREFIX-SUBTASK-SLOT`. Slot 0 is the subtask's **lease**: it never has a transaction, but whoever took it last
is the one that may write with this prefix. The other slots take turns::

    free ──take──▶ open ──prepared──▶ prepared ──committed──▶ resting ──checkpoint_complete──▶ free

A slot rests until a checkpoint that was cut after its commit is complete itself: only then the newest checkpoint does
not have the slot's handle any more, and nobody would commit it again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LEASE = 0


def id_name(prefix: str, subtask: int, slot: int) -> str:
    """The transactional id of a subtask's slot."""
    return f"{prefix}-{subtask}-{slot}"


def parse_id(prefix: str, transactional_id: str) -> tuple[int, int] | None:
    """(subtask, slot) of an id with this prefix; None: it is another's."""
    match = re.fullmatch(re.escape(prefix) + r"-(\d+)-(\d+)", transactional_id)
    return (int(match[1]), int(match[2])) if match else None


class Slots:
    """The slots of one subtask. `restored` are those whose handles are in the restored snapshot; they are committed."""

    def __init__(self, restored: Iterable[int] = ()) -> None:
        self._cuts = 0
        self._open: set[int] = set()
        self._prepared: dict[int, int] = {}  # slot → number of the cut
        self._resting = dict.fromkeys(restored, 0)  # slot → number of cuts when its commit was known

    def take(self) -> int:
        """The lowest free slot, which is open now."""
        slot = 1
        while slot in self._open or slot in self._prepared or slot in self._resting:
            slot += 1
        self._open.add(slot)
        return slot

    def cut(self) -> int:
        """A barrier has come; its number."""
        self._cuts += 1
        return self._cuts

    def prepared(self, slot: int, cut: int) -> None:
        """The slot has the transaction before that barrier; its handle is given out."""
        self._open.remove(slot)
        self._prepared[slot] = cut

    def checkpoint_complete(self, slots: Iterable[int]) -> None:
        """The checkpoint that has the handles of these slots is complete."""
        cut = max((self._prepared[slot] for slot in slots if slot in self._prepared), default=0)
        self._resting = {slot: known for slot, known in self._resting.items() if known >= cut}

    def committed(self, slot: int) -> None:
        """The slot's transaction is known to be committed."""
        if self._prepared.pop(slot, None) is not None:
            self._resting[slot] = self._cuts
