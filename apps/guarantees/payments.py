"""The workload: payments into accounts, which can be read again from any of them; and the right balances."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamcore import Columns, Schema
from streamcore.connectors.base import ReaderContext, Source, Split, SplitReader

ACCOUNTS = 1000
_SCATTER = 2_654_435_761
_TICK_S = 0.001


class Payment(NamedTuple):
    """What comes in; `due` is in seconds of the wall clock."""

    id: int
    account: int
    amount: int
    due: float


class Balance(NamedTuple):
    """What comes out, one for each payment: what its account has then."""

    id: int
    account: int
    balance: int
    due: float


PAYMENTS = Schema.of(id=int, account=int, amount=int, due=float)


def accounts_of(ids: Any) -> Any:
    """The accounts of payments; int64 (n,)."""
    return ids * _SCATTER % ACCOUNTS


def amounts_of(ids: Any) -> Any:
    """Their amounts; int64 (n,)."""
    return ids % 97 + 1


class Payments(Source[Payment]):
    """Payments by number, of which all can be read again.

    Args:
        count: how many there are.
        rate: payments per second that become due, from the moment that the file `clock` says, which the first run
            writes: so what becomes due while nobody runs is late. None: they are due when they are read.
        start: the first one, where no snapshot says so.
        batch: reads at most so many and then waits until a checkpoint has them all: a micro-batch. None: doesn't wait.
    """

    schema = PAYMENTS

    def __init__(self, count: int, rate: float | None, clock: Path, start: int = 0, batch: int | None = None) -> None:
        self.count = count
        self.rate = rate
        self.clock = clock
        self.start = start
        self.batch = batch

    def splits(self) -> Sequence[Split]:
        return [Split("payments")]

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        return _Reader(self, self.start if offset is None else int(offset), context)


class _Reader(SplitReader):
    def __init__(self, source: Payments, start: int, context: ReaderContext) -> None:
        self._source = source
        self._context = context
        self._origin = _origin(source.clock)
        self._batch_end = start  # of a micro-batch, the next begins when a checkpoint has this one
        self._may_begin = True
        self.offset = start
        self.exhausted = start >= source.count

    def poll(self, limit: int) -> Columns | None:
        source, now = self._source, time.time()
        stop = source.count if source.rate is None else min(int((now - self._origin) * source.rate), source.count)
        if source.batch is not None:
            if self.offset == self._batch_end and self._may_begin:
                self._batch_end, self._may_begin = min(stop, self.offset + source.batch), self.offset >= stop
            stop = self._batch_end
        stop = min(stop, self.offset + limit)
        waits_for_checkpoint = source.batch is not None and not self._may_begin
        self.wake_at = None if waits_for_checkpoint else self._context.now() + _TICK_S
        if stop <= self.offset:
            return None
        ids = np.arange(self.offset, stop)
        self.offset, self.exhausted = stop, stop == source.count
        due = np.full(len(ids), now) if source.rate is None else self._origin + ids / source.rate
        return Columns(PAYMENTS, {"id": ids, "account": accounts_of(ids), "amount": amounts_of(ids), "due": due})

    def committed(self, offset: Any) -> None:
        if offset == self._batch_end:
            self._may_begin = True
            self._context.wake()


def _origin(clock: Path) -> float:
    """When payment 0 was due."""
    if not clock.exists():
        clock.write_text(repr(time.time()), encoding="ascii")
    return float(clock.read_text(encoding="ascii"))


def add(balance: int, payment: Payment) -> tuple[int, Balance]:
    """The account's balance after a payment."""
    after = balance + payment.amount
    return after, Balance(payment.id, payment.account, after, payment.due)
