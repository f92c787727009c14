"""A prepared transaction as plain data, and what became of it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from streamcore.connectors.kafka.protocol import Transaction


@dataclasses.dataclass(frozen=True, slots=True)
class Handle:
    """Names a transaction by its session, and says what would be lost with it.

    Attributes:
        example: (topic, partition, offset) of one of its records, by which can be found out later whether it was
            committed; None if no offset is known.
    """

    id: str
    producer_id: int
    epoch: int
    records: int
    topics: tuple[str, ...]
    example: tuple[str, int, int] | None

    def to_plain(self) -> list[Any]:
        """As it is kept in snapshots."""
        example = None if self.example is None else list(self.example)
        return [self.id, self.producer_id, self.epoch, self.records, list(self.topics), example]

    @staticmethod
    def of_plain(plain: Any) -> Handle:
        """From a snapshot."""
        id_, producer_id, epoch, records, topics, example = plain
        return Handle(id_, producer_id, epoch, records, tuple(topics), None if example is None else tuple(example))

    @property
    def what(self) -> str:
        """What is in it, for messages."""
        return f"{self.records} records for {', '.join(self.topics)}"


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What the brokers' state says of a handle: `open` (commit it), `committed`, `ending` (ask again), or `gone`: it
    was aborted for `reason`, or committed before its id was used again; its records have to be looked for."""

    fate: Literal["open", "committed", "gone", "ending"]
    reason: str = ""


def judge(handle: Handle, found: Transaction | None) -> Verdict:
    """What became of a handle, by what its id's coordinator knows.

    Aborting a transaction that takes too long raises its epoch by one (and so ends its session), as does a new session
    of the id, which raises it once more when it had to abort something.
    """
    if found is None:
        return Verdict("gone", "the brokers don't know its id: it has expired there, or they are other brokers")
    if (found.producer_id, found.epoch) == (handle.producer_id, handle.epoch):
        match found.state:
            case "Ongoing":
                return Verdict("open")
            case "CompleteCommit" | "PrepareCommit":
                return Verdict("committed")
            case "CompleteAbort":
                return Verdict("gone", "it was aborted from outside")
            case "Empty":
                return Verdict("gone", "its session has no transaction")
    elif timed_out(handle.producer_id, handle.epoch, found):
        seconds = f"{found.timeout_ms / 1000:g} s"
        return Verdict("gone", f"the brokers aborted it after {seconds} (transaction_timeout), as it was open too long")
    elif found.state not in ("PrepareAbort", "PrepareEpochFence"):
        return Verdict(
            "gone",
            "a later session has its id: another job with this prefix, or this job's own after the snapshot was taken",
        )
    return Verdict("ending")


def timed_out(producer_id: int, epoch: int, found: Transaction | None) -> bool:
    """Whether a session's transaction was aborted by the brokers because it was open for too long."""
    return (
        found is not None
        and found.state == "CompleteAbort"
        and (found.producer_id, found.epoch) == (producer_id, epoch + 1)
    )
