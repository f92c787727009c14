"""What a discipline has left behind: which results are there, how often, and when they became visible."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from streamcore.apps.guarantees.payments import ACCOUNTS, accounts_of, amounts_of
from streamcore.apps.guarantees.store import Balances, read_log

Discipline = Literal["acks", "micro-batches", "transactions", "snapshots"]


@dataclass(frozen=True)
class Outcome:
    """All results that a reader finds.

    Attributes:
        ids, due, visible: of each result: its payment, when that was due, when the result was there to read; (n,).
        lost: payments without a result.
        doubled: results beyond the first of a payment.
        wrong: accounts whose last balance isn't the sum of their payments.
        replayed: payments that came again and were recognised.
    """

    ids: Any
    due: Any
    visible: Any
    lost: int
    doubled: int
    wrong: int
    replayed: int

    @property
    def rate(self) -> float:
        """Results per second, from when the first payment was due."""
        seconds = float(self.visible.max() - self.due.min())
        return len(np.unique(self.ids)) / seconds

    def latency_ms(self, after: float, before: float) -> tuple[float, float]:
        """(p50, p99) of the payments that were due between two times, in seconds of the wall clock."""
        chosen = (self.due >= after) & (self.due < before)
        p50, p99 = np.percentile((self.visible - self.due)[chosen], [50, 99]) * 1000
        return float(p50), float(p99)

    def describe(self) -> str:
        """For a person to read."""
        return (
            f"{len(self.ids):,} results, {self.lost:,} lost, {self.doubled:,} doubled, {self.wrong:,} wrong balances, "
            f"{self.replayed:,} payments recognised when they came again"
        )


def outcome(directory: Path, records: int) -> Outcome:
    """Reads what one discipline has written, and compares it with `records` payments."""
    rows, replayed = _committed(directory / "results"), 0
    databases = sorted(directory.glob("balances-*.sqlite"))
    logs = sorted(directory.glob("results-*.jsonl"))
    for path in databases:
        balances = Balances(path, durable=False)
        replayed += balances.replayed()
        rows += [] if logs else balances.results()
        balances.close()
    for path in logs:
        rows += read_log(path)
    table = np.array(rows, np.float64).reshape(-1, 5)
    ids, accounts, totals = (table[:, column].astype(np.int64) for column in range(3))
    every = np.arange(records)
    right = np.bincount(accounts_of(every), amounts_of(every), ACCOUNTS).astype(np.int64)
    last = np.zeros(ACCOUNTS, np.int64)
    np.maximum.at(last, accounts, totals)  # amounts are positive: the last balance is the highest
    different = len(np.unique(ids))
    wrong = int((last != right).sum())
    return Outcome(ids, table[:, 3], table[:, 4], records - different, len(ids) - different, wrong, replayed)


def next_id(directory: Path) -> int:
    """From where to read again, so that no payment is missed which a database has not: each got its own in order."""
    newest = []
    for path in directory.glob("balances-*.sqlite"):
        balances = Balances(path, durable=False)
        newest.append(balances.next_id())
        balances.close()
    return min(newest, default=0)


def _committed(directory: Path) -> list[tuple[int, int, int, float, float]]:
    """The results in the visible parts of a FileSink. A part becomes visible by its renaming, which sets its ctime."""
    rows = []
    for part in sorted(directory.glob("part-*.jsonl")) if directory.is_dir() else []:
        visible = part.stat().st_ctime
        for row in msgspec.json.Decoder().decode_lines(part.read_bytes()):
            rows.append((row["id"], row["account"], row["balance"], row["due"], visible))
    return rows
