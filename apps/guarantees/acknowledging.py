"""Record acknowledgement, as in Storm: what is not acknowledged is read again after a crash."""

from __future__ import annotations

import time
from pathlib import Path

from streamcore import Context, CoProcessFunction, ProcessFunction
from streamcore.apps.guarantees.payments import Balance, Payment
from streamcore.apps.guarantees.store import Balances, ResultLog

_PERSIST_EVERY_S = 0.05


class Tracker(CoProcessFunction[Payment, int, Payment]):
    """Passes payments on and takes their acknowledgements, which come round a loop; writes down from time to time up to
    where all are acknowledged: from there a restarted job reads again."""

    def __init__(self, prefix: Path, start: int) -> None:
        self._path = prefix
        self._prefix = start
        self._ahead: set[int] = set()
        self._persist_at = 0.0

    def process_first(self, record: Payment, ctx: Context[Payment]) -> None:
        ctx.emit(record)

    def process_second(self, record: int, ctx: Context[Payment]) -> None:
        self._ahead.add(record)
        while self._prefix in self._ahead:
            self._ahead.remove(self._prefix)
            self._prefix += 1
        if time.monotonic() >= self._persist_at:
            self._persist()

    def close(self) -> None:
        self._persist()

    def _persist(self) -> None:
        self._persist_at = time.monotonic() + _PERSIST_EVERY_S
        hidden = self._path.with_name(f".{self._path.name}.new")
        hidden.write_text(str(self._prefix), encoding="ascii")
        hidden.replace(self._path)


def acknowledged(prefix: Path) -> int:
    """Up to where everything was acknowledged."""
    return int(prefix.read_text(encoding="ascii")) if prefix.exists() else 0


class AddOnce(ProcessFunction[Payment, Balance]):
    """Adds payments to balances that outlive the job. One that comes again is recognised, but whether its result got
    out before the crash is not known, so it is given again."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        self._directory = directory
        self._durable = durable

    def open(self, ctx: Context[Balance]) -> None:
        self._balances = Balances(self._directory / f"balances-{ctx.subtask}.sqlite", durable=self._durable)

    def process(self, record: Payment, ctx: Context[Balance]) -> None:
        ctx.emit(self._balances.add(record))

    def close(self) -> None:
        self._balances.close()


class WriteOut(ProcessFunction[Balance, int]):
    """Writes results where they are visible at once, and acknowledges them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, ctx: Context[int]) -> None:
        self._log = ResultLog(self._directory / f"results-{ctx.subtask}.jsonl")

    def process(self, record: Balance, ctx: Context[int]) -> None:
        self._log.append([record])
        ctx.emit(record.id)

    def close(self) -> None:
        self._log.close()
