"""What the two disciplines without snapshots keep outside of the engine: a database of balances, a log of results."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

from streamcore.apps.guarantees.payments import Balance, Payment


class Balances:
    """Balances in SQLite, a file per subtask. A payment is added once, however often it comes.

    Args:
        durable: waits at each commit until the disk has it. Without, a commit outlives the process but not the machine.
    """

    def __init__(self, path: Path, *, durable: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        self._db.execute("CREATE TABLE IF NOT EXISTS balances (account INTEGER PRIMARY KEY, balance INTEGER)")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS results "
            "(id INTEGER PRIMARY KEY, account INTEGER, balance INTEGER, due REAL, visible REAL)"
        )
        self._db.execute("CREATE TABLE IF NOT EXISTS replayed (id INTEGER)")

    def add(self, payment: Payment) -> Balance:
        """Adds a payment in a transaction of its own, with its result; if it was there already, gives that."""
        found = self._db.execute("SELECT balance FROM results WHERE id = ?", (payment.id,)).fetchone()
        if found is not None:
            self._db.execute("INSERT INTO replayed VALUES (?)", (payment.id,))
            return Balance(payment.id, payment.account, found[0], payment.due)
        self._db.execute("BEGIN")
        (balance,) = self._db.execute(
            "INSERT INTO balances VALUES (?, ?) ON CONFLICT DO UPDATE SET balance = balance + excluded.balance "
            "RETURNING balance",
            (payment.account, payment.amount),
        ).fetchone()
        result = Balance(payment.id, payment.account, balance, payment.due)
        self._db.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?)", (*result, time.time()))
        self._db.execute("COMMIT")
        return result

    def results(self) -> list[tuple[int, int, int, float, float]]:
        """(id, account, balance, due, visible) of every payment."""
        return self._db.execute("SELECT * FROM results").fetchall()

    def replayed(self) -> int:
        """How often a payment came that was there already."""
        return int(self._db.execute("SELECT count(*) FROM replayed").fetchone()[0])

    def next_id(self) -> int:
        """The payment after the newest one here."""
        return int(self._db.execute("SELECT coalesce(max(id) + 1, 0) FROM results").fetchone()[0])

    def close(self) -> None:
        """Closes the database."""
        self._db.close()


class ResultLog:
    """Results that are visible as soon as they are written: lines at the end of a file, a write for each batch."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, results: Iterable[Balance]) -> None:
        """Writes results at the end."""
        visible = time.time()
        os.write(self._file, b"".join(json.dumps([*result, visible]).encode() + b"\n" for result in results))

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def read_log(path: Path) -> list[tuple[int, int, int, float, float]]:
    """(id, account, balance, due, visible) of every line; none where there is no log."""
    if not path.exists():
        return []
    return [tuple(json.loads(line)) for line in path.read_bytes().splitlines()]
