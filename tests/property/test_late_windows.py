"""Windows with allowed lateness, against the rule applied to one record after another in plain Python: however the
records are cut into batches, in one stage and in two, with a snapshot and a restore in the middle."""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_window_results import FEW, WINDOWS, expected, run, streams
from test_window_results import RECORD as JOB_RECORD
from test_window_results import SETTINGS as RUNS

from streamcore import OutputTag, Schema, Windows, bounded_out_of_orderness, count, max_of, min_of, sum_of
from streamcore.api.aggregating import add_aggregate, bind_aggregates
from streamcore.batch import Field, to_columns
from streamcore.runtime.counters import Counters
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.operator import OperatorContext, Output, SavedOperator
from streamcore.runtime.operators.window import PartialAggregate, WindowAggregate, WindowTimes, accumulators_of
from streamcore.runtime.wakeup import Wakeup
from streamcore.state.accumulators import Part
from streamcore.state.store import KeyedStore
from streamcore.testing import MemorySink
from streamcore.time import MIN_TIME, Clock
from tests.saved_state import saved_store

MANY = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
RECORD = Schema.of(k=int, t=int, n=int)
PRIME = (1 << 31) - 1


class Text:
    """The numbers of a group written one behind the other in base 1000, modulo a prime: the order of records shows."""

    parts = (Part("text", np.dtype(np.int64), 0), Part("power", np.dtype(np.int64), 1))

    def add(self, totals, entries, batch):
        self.merge(totals, entries, (batch["n"], np.full(len(batch), 1000)))

    def merge(self, totals, entries, partial):
        for entry, text, power in zip(entries.tolist(), partial[0].tolist(), partial[1].tolist(), strict=True):
            totals[0][entry] = (int(totals[0][entry]) * power + text) % PRIME
            totals[1][entry] = int(totals[1][entry]) * power % PRIME


class TextOf:
    accumulators = (Text(),)
    columns = (Field("text", pa.int64()),)

    def results(self, values):
        return {"text": values[self.accumulators[0]][0]}


AGGREGATES = [
    count().bind(RECORD, "here"),
    sum_of("n").bind(RECORD, "here"),
    max_of("n").bind(RECORD, "here"),
    TextOf(),
]
RESULT = Schema.of(k=int, window_start=int, window_end=int, count=int, sum_n=int, max_n=int, text=int)


class Job:
    """One stage or two on one subtask; what comes out is written down in order."""

    def __init__(self, windows, lateness, *, stages, keyed, tag, saved=None):
        self.results, self.late, self.counters = [], [], Counters()
        result = RESULT if keyed else RESULT.select(RESULT.names[1:])
        times, key = WindowTimes(windows, EventTime("t")), RECORD.select(["k"] if keyed else [])
        self.last = WindowAggregate(
            "k" if keyed else (), times, AGGREGATES, result, partials=stages == 2, lateness_ms=lateness, late_tag=tag
        )
        self.first = self.last
        if stages == 2:
            self.first = PartialAggregate(key, times, accumulators_of(AGGREGATES), each_behind=lateness > 0)
            down = [lambda batch: self.last.process(batch, 0)]
            self._set_up(self.first, Output(main=down, watermarks=[self.last.advance]), None)
        self.store = self._set_up(self.last, Output(main=[self._take], side={"late": [self._take_late]}), saved)

    def _set_up(self, operator, output, saved):
        store = KeyedStore(16, range(16), [saved[0]] if saved else [], allow_pickle=False)
        own = [SavedOperator(0, 1, saved[1])] if saved else []
        context = OperatorContext(
            name="operator", subtask=0, parallelism=1, max_parallelism=16, epoch=1, store=store, saved=own,
            clock=Clock(), wakeup=Wakeup(), counters=self.counters,
        )  # fmt: skip
        operator.setup(context, output)
        operator.open()
        return store

    def _take(self, batch):
        self.results += map(tuple, batch.to_rows())

    def _take_late(self, batch):
        self.late += map(tuple, batch.to_rows())

    def snapshot(self):
        self.first.before_barrier()
        return saved_store(self.store), self.last.capture(1)

    def finish(self):
        self.first.finish()
        if self.last is not self.first:
            self.last.finish()


class Reference:
    """One record after another, one window after another."""

    def __init__(self, windows, lateness, keyed, *, stages=1):
        self.windows, self.lateness, self.keyed, self.stages = windows, lateness, keyed, stages
        self.watermark, self.rows, self.fired, self.results, self.late = MIN_TIME, {}, set(), [], []

    def record(self, row):
        size, every, offset = self.windows.size_ms, self.windows.every_ms, self.windows.offset_ms
        last = (row[1] - offset) // every
        containing = [w for w in range(last - size // every - 1, last + 1) if row[1] < offset + w * every + size]
        alive = [w for w in containing if self._last_ms(w) + self.lateness > self.watermark]
        is_behind = self.stages == 1 and row[1] + self.lateness <= self.watermark
        if not alive and (containing or is_behind):  # between windows only the watermark says, and only in one stage
            self.late.append(row)
        for window in alive:
            place = (row[0] if self.keyed else 0, window)
            self.rows.setdefault(place, []).append(row)
            if self._last_ms(window) <= self.watermark:
                self._fire(place)

    def advance(self, watermark):
        for place in list(self.rows):
            if self.watermark < self._last_ms(place[1]) <= watermark:
                self._fire(place)
        self.watermark = watermark

    def finish(self):
        self.advance(1 << 62)

    def _last_ms(self, window):
        return self.windows.offset_ms + window * self.windows.every_ms + self.windows.size_ms - 1

    def _fire(self, place):
        rows, (start, end) = self.rows[place], self.windows.bounds(place[1])
        cuts = {bound for window in range(place[1] - 60, place[1] + 60) for bound in self.windows.bounds(window)}
        text = 0
        for _, _, n in sorted(rows, key=lambda row: max(cut for cut in cuts if cut <= row[1])):  # stable
            text = (text * 1000 + n) % PRIME
        values = [n for _, _, n in rows]
        key = (place[0],) if self.keyed else ()
        self.results.append((*key, start, end, len(rows), sum(values), max(values), text))


class Setting(NamedTuple):
    windows: Windows
    lateness: int
    stages: int
    keyed: bool
    tagged: bool
    batch: int


SETTINGS = st.builds(
    Setting,
    st.one_of(
        st.builds(Windows, st.integers(1, 20), st.integers(1, 20), st.integers(-30, 30)),
        st.builds(Windows, st.integers(10, 30), st.integers(1, 5), st.integers(-30, 30)),
    ),
    st.one_of(st.just(0), st.integers(1, 40)),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 3, 50]),
)


def steps_of(count, seed):
    """Records around the present, steps of the watermark, and restores. Not drawn one by one by hypothesis, which
    prefers short and simple lists, in which little is late."""
    chance = random.Random(seed)
    for _ in range(count):
        kind = chance.random()
        if kind < 0.7:
            yield chance.randint(0, 3), chance.randint(-25, 25), chance.randint(1, 999)
        else:
            yield chance.choice([0, 1, 2, 3, 5, 8, 12]) if kind < 0.97 else "restore"


def in_order(results, places):
    """The results of each key and window, in the order in which they came."""
    found = {}
    for row in results:
        found.setdefault(row[:places], []).append(row[places:])
    return found


@MANY
@given(SETTINGS, st.integers(0, 150), st.integers(0, 1 << 30))
def test_the_rule_of_lateness(setting, count, seed):
    stages = 1 if setting.tagged else setting.stages
    options = {"stages": stages, "keyed": setting.keyed, "tag": "late" if setting.tagged else None}
    job, reference = (
        Job(setting.windows, setting.lateness, **options),
        Reference(*setting[:2], setting.keyed, stages=stages),
    )
    now, results, late, dropped, batch = 0, [], [], 0, []

    def flush():
        if batch:
            job.first.process(to_columns(batch, RECORD), 0)
            batch.clear()

    for step in steps_of(count, seed):
        if isinstance(step, tuple):
            record = (step[0], now + step[1], step[2])
            batch.append(record)
            reference.record(record)
            if len(batch) == setting.batch:
                flush()
            continue
        flush()
        if step == "restore":
            saved = job.snapshot()
            results, late, dropped = results + job.results, late + job.late, dropped + job.counters.late_records
            job = Job(setting.windows, setting.lateness, **options, saved=saved)
        else:
            now += step
            job.first.advance(now)
            reference.advance(now)
    flush()
    job.finish()
    reference.finish()
    places = 3 if setting.keyed else 2
    assert in_order(results + job.results, places) == in_order(reference.results, places)
    late += job.late
    dropped += job.counters.late_records
    assert Counter(late) == Counter(reference.late if setting.tagged else [])
    assert dropped == (0 if setting.tagged else len(reference.late))
    assert len(job.last._table) == 0


def test_many_late_records_of_one_key_in_one_batch_each_give_a_result():
    job = Job(Windows(10, 10), 100, stages=1, keyed=True, tag=None)
    job.first.advance(50)
    job.first.process(to_columns([(1, 45, n) for n in range(1, 6)] + [(2, 45, 7)], RECORD), 0)
    assert [row[3:5] for row in job.results if row[0] == 1] == [(1, 1), (2, 3), (3, 6), (4, 10), (5, 15)]
    assert [row[:5] for row in job.results if row[0] == 2] == [(2, 40, 50, 1, 7)]


def counts_by_place(results, places):
    """The counts of each key and window, lowest first."""
    return {place: sorted(row[0] for row in rows) for place, rows in in_order(results, places).items()}


@FEW
@given(st.data(), st.sampled_from(["word", ("flag", "number"), ()]), WINDOWS, RUNS, st.sampled_from([1, 3, 200]))
def test_in_a_job_every_late_record_gives_a_result_or_is_late(data, key, windows, setting, lateness):
    """Which records are late is a matter of chance in a job with several subtasks; that none is lost is not."""
    rows, late = data.draw(streams(60)), MemorySink()
    tagged = data.draw(st.booleans())
    names = (key,) if isinstance(key, str) else key
    tag = OutputTag("late", JOB_RECORD) if tagged else None

    def build(env, source):
        stream = env.source(source, watermarks=bounded_out_of_orderness("t", 0.002))
        stream = stream.key_by(key) if key else stream
        bound = bind_aggregates(stream, (count(), sum_of("n"), min_of("x")))
        result = add_aggregate(stream, windows, EventTime("t"), bound, lateness_ms=lateness, late_tag=tag)
        if tag is not None:
            result.side_output(tag).sink(late)
        return result

    results, dropped = run(setting, rows, build)
    counts = counts_by_place(map(tuple, results), len(names) + 2)
    assert all(found == list(range(found[0], found[-1] + 1)) for found in counts.values())
    complete = expected(rows, key, windows, ["count", "sum_n", "min_x"])
    last = {row[: len(names) + 2]: row for row in sorted(map(tuple, results), key=lambda row: row[len(names) + 2])}
    late_rows = [tuple(row) for row in late.committed]
    if windows.size_ms == windows.every_ms:  # a record between windows is late too, or dropped without a word
        assert sum(row[len(names) + 2] for row in last.values()) + dropped + len(late_rows) == sum(
            row[len(names) + 2] for row in complete
        )
    assert not (Counter(late_rows) - Counter(map(tuple, rows)))
    if lateness == 200 and max((row.t for row in rows), default=0) - min((row.t for row in rows), default=0) < 200:
        assert dropped == len(late_rows) == 0
        assert sorted(last.values()) == complete
