"""Splits that appear while a job runs, and what the readers of a subtask share."""

from __future__ import annotations

import asyncio

import pytest

from streamcore import Checkpointing, StreamEnvironment, bounded_out_of_orderness, count, milliseconds, tumbling
from streamcore.connectors.base import Source, SourceClient, Split, SplitReader
from streamcore.errors import UserFunctionError
from streamcore.job.restart import FixedDelay


class Growing(Source):
    """Splits of ten numbers each: `first` at the start, one more whenever one has been read, until there are `most`.
    The source never ends: jobs are ended by an exception. `hold`: a split, and an offset at which it waits for a
    checkpoint that has it."""

    bounded = False
    discovers = True
    offset_of_new = "new"

    def __init__(self, first, most, log, hold=(None, 0)):
        self.first, self.most, self.log, self.hold = first, most, log, hold

    def splits(self):
        return [Split(f"s{n}") for n in range(self.first)]

    def subtask_of(self, split, parallelism):
        return int(split.id[1:]) % parallelism

    def split(self, split_id):
        return Split(split_id)

    def client(self, context):
        client = Client(self, context)
        self.log.append(("client", context.subtask))
        return client

    def reader(self, split, offset, context):
        self.log.append(("reader", split.id, offset))
        return Reader(self, split, offset, context)


class Client(SourceClient):
    def __init__(self, source, context):
        self.source, self.context, self.known, self.read = source, context, source.first, 0
        if context.subtask >= source.first:  # it has no split yet
            asyncio.get_running_loop().call_soon(self.find)

    def find(self):
        self.known = min(self.known + 1, self.source.most)
        self.context.found([Split(f"s{n}") for n in range(self.known)])

    async def close(self):
        self.source.log.append(("closed", self.context.subtask))


class Reader(SplitReader):
    def __init__(self, source, split, offset, context):
        self.number = int(split.id[1:])
        self.offset = offset if isinstance(offset, int) else 0
        self.context = context
        held, self.hold_at = source.hold
        self.is_held = split.id == held

    def poll(self, limit):
        if self.offset == 10 or (self.is_held and self.offset == self.hold_at):
            return None
        self.offset += 1
        if self.offset == 10:
            asyncio.get_running_loop().call_soon(self.context.client.find)
        return [self.number * 10 + self.offset - 1]

    def committed(self, offset):
        if offset == self.hold_at:
            self.is_held = False
            self.context.wake()


class EnoughError(Exception):
    pass


def run(source, look, *, parallelism=1, checkpoint=None, restarts=0):
    env = StreamEnvironment(parallelism=parallelism, checkpoint=checkpoint, restart=FixedDelay(restarts, 0.01))
    env.source(source).uid("source").map(look, compiled=False).parallelism(parallelism).uid("look").print()
    with pytest.raises(UserFunctionError, match="EnoughError"):
        env.execute()


def looker(wanted, seen):
    def look(n):
        seen.append(n)
        if len(set(seen)) == wanted:
            raise EnoughError
        return n

    return look


def test_new_splits_are_read_from_where_new_ones_begin():
    log, seen = [], []
    run(Growing(1, 3, log), looker(30, seen))
    assert sorted(seen) == list(range(30))
    assert [entry for entry in log if entry[0] == "reader"] == [
        ("reader", "s0", None),
        ("reader", "s1", "new"),
        ("reader", "s2", "new"),
    ]
    assert log[0] == ("client", 0)
    assert log[-1] == ("closed", 0)


def test_each_subtask_finds_its_own():
    log, seen = [], []
    run(Growing(1, 4, log), looker(40, seen), parallelism=3)
    assert set(seen) == set(range(40))
    assert sorted(entry[1] for entry in log if entry[0] == "reader") == ["s0", "s1", "s2", "s3"]


def test_a_restart_goes_on_with_splits_that_the_plan_does_not_know(tmp_path):
    """They were found by the attempt before."""
    log, seen, failed = [], [], []

    def look(n):
        seen.append(n)
        if n == 15 and not failed:
            failed.append(n)
            raise RuntimeError("once")
        if len(set(seen)) == 20:
            raise EnoughError
        return n

    source = Growing(1, 2, log, hold=("s1", 5))
    run(source, look, checkpoint=Checkpointing(str(tmp_path), interval=0.01), restarts=1)
    assert failed
    readers = [entry[1:] for entry in log if entry[0] == "reader"]
    assert readers == [("s0", None), ("s1", "new"), ("s0", 10), ("s1", 5)]


def test_a_subtask_without_splits_does_not_hold_event_time_back():
    seen = []

    def fired(row):
        seen.append(row)
        raise EnoughError

    env = StreamEnvironment(parallelism=2, restart=FixedDelay(0, 0))
    strategy = bounded_out_of_orderness(lambda n: n, milliseconds(0))
    stream = env.source(Growing(1, 1, []), watermarks=strategy)
    windows = stream.key_by(lambda n: 0).window(tumbling(milliseconds(5))).aggregate(count())
    windows.map(fired, compiled=False).print()
    with pytest.raises(UserFunctionError, match="EnoughError"):
        env.execute()
    assert len(seen) == 1
