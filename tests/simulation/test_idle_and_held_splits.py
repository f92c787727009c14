"""Idle splits and alignment groups under random schedules with crashes: nothing is lost or doubled, nobody waits for
ever, and no record is late but of a split that was silent for the time-out, and only until one was in time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from streamcore import Checkpointing, Schema, StreamEnvironment, count, milliseconds, monotonous, seconds, tumbling
from streamcore.batch import to_rows
from streamcore.checkpoint.log import CheckpointLog
from streamcore.connectors.base import Source, Split, SplitReader
from streamcore.job.config import RunConfig
from streamcore.runtime.operator import Operator
from streamcore.runtime.output import EdgeOutput
from streamcore.runtime.spec import Form
from streamcore.runtime.split_times import SplitTime, SplitTimes
from streamcore.testing import MemorySink, SimulatedWorld
from streamcore.time import MIN_TIME

RECORD = Schema.of(split=int, n=int, t=int)
TIMEOUT_S, DRIFT_MS = 0.02, 30
LAST = 59


class Timetable(Source):
    """Splits whose records come one after the other, each so many seconds after the one before: (gap, record)."""

    schema = RECORD

    def __init__(self, timetables):
        self._timetables = timetables

    def splits(self):
        return [Split(f"{number:02}") for number in self._timetables]

    def reader(self, split, offset, context):
        return TimetableReader(self._timetables[int(split.id)], offset or 0, context)


class TimetableReader(SplitReader):
    def __init__(self, timetable, offset, context):
        self._timetable, self.offset, self._now = timetable, offset, context.now
        self._last = context.now()

    def poll(self, limit):
        rows = []
        self.wake_at = None
        while self.offset < len(self._timetable) and len(rows) < limit:
            gap, row = self._timetable[self.offset]
            if self._now() < self._last + gap:
                self.wake_at = self._last + gap
                break
            self._last += gap
            self.offset += 1
            rows.append(row)
        self.exhausted = self.offset == len(self._timetable)
        return rows


class Witness(Operator):
    """Notes whose records come late, and that time never goes back. Where the sources meet: once a record was in time,
    those after it are, until the split falls silent again (before a record of `after_silence`); those that aren't are
    `wronged`. (Further down that doesn't hold: time may have gone on by one way and not by another.)"""

    late: Counter = Counter()
    wronged: list = []
    idle = 0
    after_silence: set = set()

    def open(self):
        self._watermark = MIN_TIME
        self._in_time = {}

    def process(self, batch, port):
        for split, n, t in to_rows(batch):
            if t > self._watermark:
                self._in_time[split] = n
                continue
            Witness.late[split] += 1
            if self.context.name == "first" and split in self._in_time:
                since = range(self._in_time[split] + 1, n + 1)
                if not any((split, number) in Witness.after_silence for number in since):
                    Witness.wronged.append((split, n, t))
        self.output.emit(batch)

    def advance(self, time_ms):
        assert time_ms > self._watermark, "time went back"
        self._watermark = time_ms
        self.output.emit_watermark(time_ms)

    def set_idle(self, idle):
        Witness.idle += idle
        self.output.emit_idle(idle)


def make_timetables(chance):
    """Five splits; event time goes along with the clock, at different speeds. Split 0 falls silent, sometimes others,
    and may come back ahead of all."""
    timetables = {}
    for split in range(5):
        silent_at = {chance.randrange(5, 20)} if split == 0 or chance.random() < 0.2 else set()
        speed, count, t, timetable = chance.choice([1, 2, 20]), chance.randint(10, 40), 0, []
        for n in range(count):
            gap = chance.uniform(2, 3) * TIMEOUT_S if n in silent_at else chance.uniform(0, 0.1 * TIMEOUT_S)
            t += 1 + round(speed * min(gap, 0.1 * TIMEOUT_S) * 1000) + (n in silent_at) * chance.choice([0, 150])
            timetable.append((gap, (split, n, t)))
        timetables[split] = timetable
    return timetables


def make_job(timetables, sink, *, parallelism, batch_size, aligned):
    env = StreamEnvironment(
        "silence", parallelism=parallelism, max_parallelism=8, batch_size=batch_size, buffer_timeout=0.0003
    )
    strategy = monotonous("t").with_idleness(seconds(TIMEOUT_S))
    if aligned:
        strategy = strategy.with_alignment("all", max_drift=milliseconds(DRIFT_MS), every=milliseconds(1))
    sources = [
        env.source(Timetable({n: timetables[n] for n in numbers}), name=f"source{numbers[0]}", watermarks=strategy)
        for numbers in ((0, 1, 2), (3, 4))
    ]
    stream = sources[0].rebalance().union(sources[1].rebalance())
    first = stream._then("first", Witness, Form.ROWS, RECORD)
    second = first.key_by("n")._then("second", Witness, Form.ROWS, RECORD)
    again = second.assign_watermarks(monotonous("t").with_idleness(seconds(TIMEOUT_S / 4))).key_by("split")
    again._then("third", Forwarder, Form.ROWS, RECORD).sink(sink)
    return env.compile()


class Forwarder(Operator):
    """Behind `assign_watermarks`, which knows no splits: only that time never goes back."""

    _watermark = MIN_TIME

    def process(self, batch, port):
        self.output.emit(batch)

    def advance(self, time_ms):
        assert time_ms > self._watermark, "time went back"
        self._watermark = time_ms
        self.output.emit_watermark(time_ms)


def run_schedule(seed, *, aligned, crashes=2):
    """One schedule; how many checkpoints were restored from."""
    chance, world, sink = random.Random(seed), SimulatedWorld(seed), MemorySink()
    timetables = make_timetables(chance)
    Witness.after_silence = {row[:2] for rows in timetables.values() for gap, row in rows if gap >= TIMEOUT_S}
    checkpointing = Checkpointing("simulated://", interval=chance.uniform(0.002, 0.006))
    settings, restored = {"parallelism": 2}, 0
    for crash_after in [chance.randint(300, 1500) for _ in range(crashes)] + [None]:
        config = RunConfig(checkpointing=checkpointing)
        if CheckpointLog(world.storage).checkpoints():
            config.restore, settings, restored = "latest", {"parallelism": chance.randint(1, 3)}, restored + 1
        batch_size = chance.choice([1, 4, 20])
        job = make_job(timetables, sink, **settings, batch_size=batch_size, aligned=aligned)
        done = world.run(job, config, crash_after=crash_after)
        if done is not None:
            break
    expected = Counter(row for timetable in timetables.values() for _, row in timetable)
    assert Counter(map(tuple, sink.committed)) == expected, f"seed {seed}"
    silent = {split for split, _ in Witness.after_silence}
    assert not Witness.wronged, f"seed {seed}"
    assert set(Witness.late) <= silent, f"seed {seed}: late are {Witness.late}, silent {silent}"
    return restored


def run_schedules(seeds, *, aligned):
    late = restored = 0
    Witness.idle = 0
    for seed in seeds:
        Witness.late, Witness.wronged = Counter(), []
        restored += run_schedule(seed, aligned=aligned)
        late += sum(Witness.late.values())
    return late, restored


def only_silent_splits_are_late(seeds):
    late, restored = run_schedules(seeds, aligned=False)
    assert late > 2 * len(seeds)  # time went on without them
    assert restored > 0.8 * len(seeds)
    assert Witness.idle > 0.8 * len(seeds)


def test_only_splits_that_were_silent_are_ever_late():
    only_silent_splits_are_late(range(10))


def test_held_splits_are_never_late_and_nobody_waits_for_ever(monkeypatch):
    held = Counter()

    def holds(self, split, holds=SplitTimes.holds):
        held[split] += (answer := holds(self, split))
        return answer

    monkeypatch.setattr(SplitTimes, "holds", holds)
    _, restored = run_schedules(range(100, 110), aligned=True)
    assert restored > 8
    assert sum(held.values()) > 300


def _idle_at_once(monkeypatch):
    monkeypatch.setattr(SplitTime, "silent_for", lambda self, attention_s: TIMEOUT_S)


def _idleness_is_not_passed_on(monkeypatch):
    monkeypatch.setattr(EdgeOutput, "write_idle", lambda self, idle: None)


@pytest.mark.parametrize("break_it", [_idle_at_once, _idleness_is_not_passed_on])
def test_the_simulation_finds_what_is_broken_on_purpose(break_it, monkeypatch):
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        only_silent_splits_are_late(range(6))


def come_back():
    """A split comes back from its silence ahead of all, slower than the other, which must then wait for it."""
    Witness.late, sink = Counter(), MemorySink()
    steady = [(0.0005, (0, i, 10 * i)) for i in range(200)]
    first = [(0.0005, (1, i, 10 * i)) for i in range(5)]
    back = [(0.05 if i == 0 else 0.005, (1, 5 + i, 1300 + i)) for i in range(10)]
    env = StreamEnvironment("back", buffer_timeout=0.0, batch_size=4)
    strategy = monotonous("t").with_idleness(seconds(TIMEOUT_S))
    sources = [env.source(Timetable({n: rows}), watermarks=strategy) for n, rows in enumerate((steady, first + back))]
    sources[0].union(sources[1])._then("first", Witness, Form.ROWS, RECORD).sink(sink)
    SimulatedWorld(3).run(env.compile(), RunConfig(checkpointing=Checkpointing("simulated://", interval=0.01)))
    assert len(sink.committed) == 215
    assert not Witness.late, Witness.late


def test_who_comes_back_ahead_of_all_is_never_late():
    come_back()


def test_it_would_be_if_nobody_told_that_it_is_back(monkeypatch):
    def write_idle(self, idle, write_idle=EdgeOutput.write_idle):
        if idle:
            write_idle(self, idle)

    monkeypatch.setattr(EdgeOutput, "write_idle", write_idle)
    with pytest.raises(AssertionError):
        come_back()


@pytest.mark.parametrize("two_stage", [True, False])
def test_what_came_before_the_silence_is_in_its_windows(two_stage):
    """Also what an aggregate before the exchange holds when its subtask falls silent."""
    steady = [(0.0005, (0, i, 10 * i)) for i in range(200)]
    first = [(0.0005, (1, i, 1 + 10 * i)) for i in range(7)]
    back = [(0.08 if i == 0 else 0.0005, (1, 7 + i, 5000 + i)) for i in range(10)]
    for seed in range(4):
        sink, world = MemorySink(), SimulatedWorld(seed)
        env = StreamEnvironment("windows", parallelism=2, two_stage=two_stage, batch_size=4)
        strategy = monotonous("t").with_idleness(seconds(TIMEOUT_S))
        source = env.source(Timetable({0: steady, 1: first + back}), watermarks=strategy)
        source.key_by("split").window(tumbling(milliseconds(50))).aggregate(count()).sink(sink)
        world.run(env.compile(), RunConfig(checkpointing=Checkpointing("simulated://", interval=1.0)))
        expected = Counter((split, t // 50 * 50) for _, (split, _, t) in steady + first + back)
        assert {(row[0], row[1]): row[3] for row in sink.committed} == expected, f"seed {seed}"


class Strict(Operator):
    """Notes records that come although the stream was said to be idle."""

    told: list = []

    def process(self, batch, port):
        Strict.told.append("records")
        self.output.emit(batch)

    def set_idle(self, idle):
        Strict.told.append("idle" if idle else "active")


def test_a_stream_is_not_idle_while_an_answer_may_come():
    async def later(record):
        await asyncio.sleep(3 * TIMEOUT_S)
        return record

    Strict.told, sink = [], MemorySink()
    env = StreamEnvironment("answers", buffer_timeout=0.0)
    strategy = monotonous("t").with_idleness(seconds(TIMEOUT_S))
    rows = [(gap, (0, i, i)) for i, gap in enumerate([0.001, 10 * TIMEOUT_S, 2 * TIMEOUT_S, 10 * TIMEOUT_S])]
    answers = env.source(Timetable({0: rows}), watermarks=strategy).async_map(later, returns=RECORD)
    answers._then("strict", Strict, Form.ROWS, RECORD).sink(sink)
    SimulatedWorld(5).run(env.compile(), RunConfig(checkpointing=Checkpointing("simulated://", interval=1.0)))
    assert len(sink.committed) == 4
    # the third record comes while the second is still asked for
    assert Strict.told == ["records", "idle", "active", "records", "records", "idle", "active", "records"]


class Drift(Operator):
    """How far the fast source ever was ahead of the slow one."""

    furthest = 0

    def open(self):
        self._times = {}

    def process(self, batch, port):
        for split, _, t in to_rows(batch):
            self._times[split] = t
            if self._times.get(0, t) < LAST:  # then the slow one has ended
                Drift.furthest = max(Drift.furthest, self._times.get(1, 0) - self._times.get(0, t))
        self.output.emit(batch)


def drift(seed, *, aligned):
    """A millisecond of event time each millisecond, and ten; as long as each other by the clock."""
    Drift.furthest, sink, world = 0, MemorySink(), SimulatedWorld(seed)
    env = StreamEnvironment("drift", buffer_timeout=0.0)
    strategy = monotonous("t")
    if aligned:
        strategy = strategy.with_alignment("g", max_drift=milliseconds(20), every=milliseconds(1))
    slow, fast = (
        env.source(Timetable({n: [(0.001, (n, i, i * speed)) for i in range(LAST + 1)]}), watermarks=strategy)
        for n, speed in ((0, 1), (1, 10))
    )
    slow.union(fast)._then("drift", Drift, Form.ROWS, RECORD).parallelism(1).sink(sink)
    config = RunConfig(checkpointing=Checkpointing("simulated://", interval=0.005))
    result = world.run(env.compile(), config)
    assert len(sink.committed) == 2 * (LAST + 1)
    assert result.checkpoints > 8  # also while a source is held
    return Drift.furthest


def test_alignment_keeps_a_fast_source_near_a_slow_one():
    for seed in range(4):
        assert drift(seed, aligned=True) < 20 + 130  # and what is read until the news has gone round
        assert drift(seed, aligned=False) > 500


class PerPoll(Source):
    """Splits that give a record or nothing at each poll."""

    schema = RECORD

    def splits(self):
        return [Split("busy"), Split("slow")]

    def reader(self, split, offset, context):
        return PerPollReader(split.id, offset or 0)


class PerPollReader(SplitReader):
    def __init__(self, name, offset):
        self._step, self.offset = 1 if name == "busy" else 3, offset

    def poll(self, limit):
        self.offset += 1
        self.exhausted = self.offset == 60
        return [(self._step, self.offset, self.offset - self._step)] if self.offset % self._step == 0 else []


class Slow(Witness):
    """Takes five seconds for a batch."""

    def process(self, batch, port):
        asyncio.get_running_loop()._now += 5.0
        super().process(batch, port)


def backpressured():
    """Every turn of the source waits for room downstream, for longer than the time-out."""
    Witness.late, sink, world = Counter(), MemorySink(), SimulatedWorld(7)
    env = StreamEnvironment("slow", batch_size=1, buffer_timeout=0.0)
    strategy = monotonous("t").with_idleness(seconds(3))
    stream = env.source(PerPoll(), watermarks=strategy).rebalance()._then("slow", Slow, Form.ROWS, RECORD)
    stream.sink(sink)
    world.run(env.compile(), RunConfig(checkpointing=Checkpointing("simulated://", interval=1000.0)))
    assert len(sink.committed) == 60 + 20
    assert not Witness.late, Witness.late


def test_waiting_for_room_downstream_is_no_silence():
    backpressured()


def test_by_the_clock_alone_it_would_be(monkeypatch):
    def by_clock(self, attention_s, silent_for=SplitTime.silent_for):
        return silent_for(self, asyncio.get_running_loop().time())

    monkeypatch.setattr(SplitTime, "silent_for", by_clock)
    with pytest.raises(AssertionError):
        backpressured()
