"""Session windows over a million keys, against a bare loop that knows the events in order."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numba
import numpy as np

from streamcore import (
    Columns,
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    count,
    count_windows,
    milliseconds,
    session,
    sum_of,
)
from streamcore.connectors.generator_source import GeneratorSource
from tests.bench.workloads import Measured, TotalSink, _read_totals

EVENT = Schema.of(user=np.int64, t=np.int64, amount=np.int64)
USERS, PER_MS, GAP_MS = 1_000_000, 1000, 3000
BLOCK = 1 << 17
"""Events come shuffled by blocks: up to 132 ms out of order."""


@functools.cache
def _drawn() -> tuple[Any, Any]:
    chance = np.random.default_rng(1)
    return chance.integers(0, USERS, 1 << 22), chance.permutation(BLOCK)


def _user(places: Any) -> Any:
    users = _drawn()[0]
    return (users[places & (len(users) - 1)] + 7919 * (places >> 22)) % USERS


def events(start: int, stop: int) -> Columns:
    """Events [start, stop): a thousand a millisecond, of users chosen at random."""
    positions = np.arange(start, stop)
    places = (positions & -BLOCK) + _drawn()[1][positions & (BLOCK - 1)]
    return Columns(EVENT, {"user": _user(places), "t": places // PER_MS, "amount": places & 1023})


def open_sessions(records: int = 12 * (1 << 20)) -> Measured:
    """count and sum per session; the limit loops over the events in order with three arrays."""
    with tempfile.TemporaryDirectory() as scratch:
        env = StreamEnvironment("sessions")
        stream = env.source(
            GeneratorSource(events, count=records, schema=EVENT),
            watermarks=bounded_out_of_orderness("t", milliseconds(BLOCK // PER_MS + 1)),
        )
        results = stream.key_by("user").window(session(milliseconds(GAP_MS))).aggregate(count(), sum_of("amount"))
        results.sink(TotalSink(f"{scratch}/t", "sum_amount"))
        started = time.perf_counter()
        env.execute()
        seconds = time.perf_counter() - started
        sessions, total = _read_totals(f"{scratch}/t")
    places = np.arange(records)
    users, times = _user(places), places // PER_MS
    wanted, most, limit_s = _in_order(users, times)
    correct = sessions == wanted and total == float((places & 1023).sum())
    return Measured(records, seconds, limit_s, correct, f"{sessions:,} sessions, up to {most:,} open at a time")


def _in_order(users: Any, times: Any) -> tuple[int, int, float]:
    _loop(users[:1], times[:1], *_states())
    states = _states()
    started = time.perf_counter()
    sessions = _loop(users, times, *states)
    limit_s = time.perf_counter() - started
    most = max(_active(users, times, at) for at in (times[-1] // 2, times[-1]))
    return sessions, most, limit_s


def _active(users: Any, times: Any, at: int) -> int:
    """Users whose session is open at a time."""
    active = np.zeros(USERS, np.bool_)
    active[users[(times > at - GAP_MS) & (times <= at)]] = True
    return int(active.sum())


def _states() -> tuple[Any, Any, Any]:
    return np.full(USERS, -(1 << 40)), np.zeros(USERS, np.int64), np.zeros(USERS, np.int64)


@numba.njit(cache=True)
def _loop(users: Any, times: Any, last: Any, counts: Any, sums: Any) -> Any:
    sessions = 0
    for i in range(len(users)):
        user = users[i]
        if times[i] - last[user] > GAP_MS:
            sessions += 1
            counts[user] = 0
            sums[user] = 0
        last[user] = times[i]
        counts[user] += 1
        sums[user] += i & 1023
    return sessions


def counted(size: int, every: int, users: int, records: int = 1 << 23) -> Measured:
    """sum per window by count, over some users or one; the limit is the running sums of all of them."""
    with tempfile.TemporaryDirectory() as scratch:
        env = StreamEnvironment("count windows")
        stream = env.source(GeneratorSource(partial(_of_users, users), count=records, schema=EVENT))
        results = stream.key_by("user").window(count_windows(size, every=every)).aggregate(sum_of("amount"))
        results.sink(TotalSink(f"{scratch}/t", "sum_amount"))
        started = time.perf_counter()
        env.execute()
        seconds = time.perf_counter() - started
        windows, total = _read_totals(f"{scratch}/t")
    wanted, sums = _windows_of(size, every, users, records)
    return Measured(records, seconds, None, windows == wanted and total == sums, f"{windows:,} windows")


def _of_users(users: int, start: int, stop: int) -> Columns:
    batch = events(start, stop)
    return batch.with_columns(user=batch["user"] % users)


def _windows_of(size: int, every: int, users: int, records: int) -> tuple[int, float]:
    batch = _of_users(users, 0, records)
    order = np.argsort(batch["user"], kind="stable")
    running = np.concatenate([[0], np.cumsum(batch["amount"][order])])
    first = np.searchsorted(batch["user"][order], np.arange(users + 1))
    windows, total = 0, 0.0
    for begin, end in zip(first[:-1].tolist(), first[1:].tolist(), strict=True):
        ends = np.arange(begin + every, end + 1, every)
        windows += len(ends)
        total += float((running[ends] - running[np.maximum(ends - size, begin)]).sum())
    return windows, total


def all_workloads() -> Iterator[tuple[str, int, Callable[[], Measured]]]:
    """(name, workers, run)."""
    yield "sessions of 1 M keys", 1, open_sessions
    yield "windows of 10 records, 1,000 keys", 1, partial(counted, 10, 10, 1000)
    yield "windows of 10 records, one key", 1, partial(counted, 10, 10, 1)
    yield "windows of 100 records every 10, 1,000 keys", 1, partial(counted, 100, 10, 1000)
