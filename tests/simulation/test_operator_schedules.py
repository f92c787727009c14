"""Reusable operators with event time under random schedules, crashes, and restores at another parallelism.

Each schedule's results are those of plain loops over all records: nothing lost, nothing doubled, no window torn.
"""

import collections
import random

import numpy as np
import pytest

from streamcore import (
    Checkpointing,
    Columns,
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    milliseconds,
    seconds,
    sliding,
    tumbling,
)
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.job.config import RunConfig
from streamcore.operators.interval_join import interval_join
from streamcore.operators.stream_join import stream_join
from streamcore.operators.temporal_join import temporal_join
from streamcore.operators.top_k import top_k
from streamcore.operators.window_join import window_join
from streamcore.testing import MemorySink, SimulatedWorld
from tests.bench.nexmark.generator import Nexmark
from tests.bench.nexmark.winning_bids import winning_bids

KEYS, WINDOW_MS = 5, 1000
LOW, HIGH, SIZE, EVERY = -300, 700, 1000, 400
LEFTS, RIGHTS, SCORES = 200, 170, 300
NEXMARK = Nexmark(500, rate=100)
LEFT = Schema.of(key=int, time=int, left=int)
RIGHT = Schema.of(id=int, at=int, right=int)
SCORE = Schema.of(window_end=int, at=int, player=int, score=int)


def lefts(start, stop):
    number = np.arange(start, stop)
    return Columns(LEFT, {"key": number * 7 % KEYS, "time": number * 130 + number % 3 * 100, "left": number})


def rights(start, stop):
    number = np.arange(start, stop)
    return Columns(RIGHT, {"id": number * 3 % KEYS, "at": number * 170, "right": -number})


def scores(start, stop):
    number = np.arange(start, stop)
    time = number * 130 + number % 3 * 100
    end = (time // WINDOW_MS + 1) * WINDOW_MS
    return Columns(SCORE, {"window_end": end, "at": time, "player": number, "score": number * 5 % 4})


def rows(make, count):
    return [tuple(row) for row in make(0, count).to_rows()]


def source(env, make, schema, count, time):
    watermarks = bounded_out_of_orderness(time, seconds(0.2))
    return env.source(GeneratorSource(make, count=count, splits=2, schema=schema), watermarks=watermarks)


def windows_joined(env):
    left, right = source(env, lefts, LEFT, LEFTS, "time"), source(env, rights, RIGHT, RIGHTS, "at")
    return window_join(left, right, on=("key", "id"), windows=tumbling(seconds(1)), time=("time", "at"))


def intervals_joined(env):
    left, right = source(env, lefts, LEFT, LEFTS, "time"), source(env, rights, RIGHT, RIGHTS, "at")
    bounds = {"lower": milliseconds(LOW), "upper": milliseconds(HIGH)}
    return interval_join(left, right, on=("key", "id"), time=("time", "at"), how="full", **bounds)


def versions_joined(env):
    left, right = source(env, lefts, LEFT, LEFTS, "time"), source(env, rights, RIGHT, RIGHTS, "at")
    return temporal_join(left, right, on=("key", "id"), time=("time", "at"), how="left")


def sliding_joined(env):
    left, right = source(env, lefts, LEFT, LEFTS, "time"), source(env, rights, RIGHT, RIGHTS, "at")
    windows = sliding(milliseconds(SIZE), every=milliseconds(EVERY))
    return window_join(left, right, on=("key", "id"), windows=windows, time=("time", "at"), how="left")


def streams_joined(env):
    left, right = source(env, lefts, LEFT, LEFTS, "time"), source(env, rights, RIGHT, RIGHTS, "at")
    return stream_join(left, right, on=("key", "id"))


def best_scores(env):
    return top_k(source(env, scores, SCORE, SCORES, "at"), 2, "score", with_ties=True)


def pairs(*, within_windows):
    for key, time, left in rows(lefts, LEFTS):
        for other, at, right in rows(rights, RIGHTS):
            if key == other and (not within_windows or time // WINDOW_MS == at // WINDOW_MS):
                yield (key, time, left, at, right)


def within_bounds():
    all_lefts, all_rights = rows(lefts, LEFTS), rows(rights, RIGHTS)
    met = [(a, b) for a in all_lefts for b in all_rights if a[0] == b[0] and LOW <= b[1] - a[1] <= HIGH]
    yield from ((*a, *b[1:]) for a, b in met)
    yield from ((*a, None, None) for a in all_lefts if a not in {left for left, _ in met})
    yield from ((b[0], None, None, *b[1:]) for b in all_rights if b not in {right for _, right in met})


def valid_versions():
    for key, time, left in rows(lefts, LEFTS):
        versions = [version for version in rows(rights, RIGHTS) if version[0] == key and version[1] <= time]
        last = max(versions, key=lambda version: version[1], default=(None, None, None))
        yield (key, time, left, *last[1:])


def within_sliding():
    for key, time, left in rows(lefts, LEFTS):
        for number in range((time - SIZE) // EVERY + 1, time // EVERY + 1):
            start = number * EVERY
            met = [b[1:] for b in rows(rights, RIGHTS) if b[0] == key and start <= b[1] < start + SIZE]
            yield from ((key, time, left, *other) for other in met or [(None, None)])


def ranked():
    by_window = collections.defaultdict(list)
    for record in rows(scores, SCORES):
        by_window[record[0]].append(record)
    for records in by_window.values():
        for record in records:
            rank = 1 + sum(other[3] > record[3] for other in records)
            if rank <= 2:
                yield (*record, rank)


def winners(env):
    strategy = bounded_out_of_orderness("time", seconds(0.2))
    auctions, bids = (env.source(NEXMARK.source(kind, 2), watermarks=strategy) for kind in ("auctions", "bids"))
    return winning_bids(auctions, bids)


def highest_bids():
    bids = NEXMARK.bids(0, NEXMARK.count_of("bids")).to_rows()
    for auction in NEXMARK.auctions(0, NEXMARK.count_of("auctions")).to_rows():
        during = (bid for bid in bids if auction.time <= bid.time <= auction.expires)
        if prices := [bid.price for bid in during if bid.auction == auction.id]:
            yield (auction.id, auction.category, auction.expires, max(prices))


CASES = {
    "winning_bids": (winners, highest_bids),
    "window_join": (windows_joined, lambda: pairs(within_windows=True)),
    "interval_join": (intervals_joined, within_bounds),
    "temporal_join": (versions_joined, valid_versions),
    "sliding_join": (sliding_joined, within_sliding),
    "stream_join": (streams_joined, lambda: pairs(within_windows=False)),
    "top_k": (best_scores, ranked),
}


def run_schedule(build, expected, seed):
    """One schedule with crashes; returns how many checkpoints were restored from at another parallelism."""
    chance = random.Random(seed)
    world, sink = SimulatedWorld(seed), MemorySink()
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.0003, 0.001))
    settings = {"parallelism": 2, "max_parallelism": 8, "buffer_timeout": 0.0005}
    old = rescaled = 0
    for last in (False, False, False, True):
        env = StreamEnvironment("operators", batch_size=chance.choice([1, 2, 5]), **settings)
        operator = build(env).uid("operator")
        operator.sink(sink)
        has_checkpoint = any(b'"kind": "checkpoint"' in data for data in world.storage.files.values())
        config = RunConfig(checkpointing=checkpointing, restore="latest" if has_checkpoint else None)
        crash_after = None if last else chance.randint(200, 1200)
        new = chance.choice([1, 2, 3])
        operator.parallelism(new)
        result = world.run(env.compile(), config, crash_after=crash_after)
        rescaled += has_checkpoint and new != old
        old = new
        if result is not None:
            break
    assert collections.Counter(map(tuple, sink.committed)) == expected, f"seed {seed}"
    return rescaled


@pytest.mark.parametrize("name", CASES)
def test_schedules_with_crashes_and_rescaling_give_what_plain_loops_give(name):
    build, results = CASES[name]
    expected = collections.Counter(results())
    assert len(expected) > 10
    assert sum(run_schedule(build, expected, seed) for seed in range(28)) > 10
