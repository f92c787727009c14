"""The operators of sessions and of windows by count by themselves: what they send, in which order, before what."""

from __future__ import annotations

import pytest

from streamcore import Columns, CountWindows, Schema, count, sum_of
from streamcore.batch import to_columns
from streamcore.errors import IncompatibleSnapshotError
from streamcore.runtime.counters import Counters
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.operator import OperatorContext, Output, SavedOperator
from streamcore.runtime.operators import session as module
from streamcore.runtime.operators.count_window import CountAggregate
from streamcore.runtime.operators.session import SessionAggregate
from streamcore.runtime.wakeup import Wakeup
from streamcore.state.store import KeyedStore
from streamcore.time import Clock
from tests.saved_state import saved_store

RECORD = Schema.of(k=str, t=int, n=int)
RESULT = Schema.of(k=str, window_start=int, window_end=int, count=int, sum_n=int)
WHOLE = Schema.of(window_start=int, window_end=int, count=int, sum_n=int)
COUNTED = Schema.of(k=str, count=int, sum_n=int)
AGGREGATES = [count().bind(RECORD, "here"), sum_of("n").bind(RECORD, "here")]


class Rig:
    """An operator whose outputs are written down: batches as rows, watermarks as numbers, the side output apart."""

    def __init__(self, operator, saved=(), groups=range(16)):
        self.operator, self.out, self.side, self.batches, self.counters = operator, [], [], [], Counters()
        self.store = KeyedStore(16, groups, [part[0] for part in saved], allow_pickle=False)
        own = [SavedOperator(number, len(saved), part[1]) for number, part in enumerate(saved)]
        context = OperatorContext(
            name="operator", subtask=0, parallelism=1, max_parallelism=16, epoch=1, store=self.store, saved=own,
            clock=Clock(), wakeup=Wakeup(), counters=self.counters,
        )  # fmt: skip
        outputs = Output(main=[self._take], side={"late": [self._take_side]}, watermarks=[self.out.append])
        operator.setup(context, outputs)
        operator.open()

    def _take(self, batch):
        assert isinstance(batch, Columns)
        self.batches.append(len(batch))
        self.out.extend(map(tuple, batch.to_rows()))

    def _take_side(self, batch):
        self.side.extend(map(tuple, batch.to_rows()))

    def process(self, *records):
        self.operator.process(to_columns(list(records), RECORD), 0)
        return self

    def advance(self, *times):
        for time in times:
            self.operator.advance(time)
        return self

    def finish(self):
        self.operator.finish()
        return self

    def taken(self):
        out, self.out[:] = list(self.out), []
        return out

    def saved(self):
        return saved_store(self.store), self.operator.capture(1)


def sessions(gap=10, *, lateness=0, tag=None, key="k", result=RESULT, **rig):
    operator = SessionAggregate(key, gap, EventTime("t"), AGGREGATES, result, lateness_ms=lateness, late_tag=tag)
    return Rig(operator, **rig)


def counted(size, every, **rig):
    return Rig(CountAggregate("k", CountWindows(size, every), AGGREGATES, COUNTED), **rig)


def test_results_come_before_the_watermark_that_completed_them():
    rig = sessions().process(("a", 1, 5), ("b", 2, 7), ("a", 9, 6)).advance(10)
    assert rig.taken() == [10]
    assert rig.advance(11).taken() == [("b", 2, 12, 1, 7), 11]
    assert rig.advance(18).taken() == [("a", 1, 19, 2, 11), 18]


def test_sessions_that_touch_are_one():
    assert sessions().process(("a", 0, 1), ("a", 10, 2)).finish().taken() == [("a", 0, 20, 2, 3)]
    assert sessions().process(("a", 0, 1), ("a", 11, 2)).finish().taken() == [("a", 0, 10, 1, 1), ("a", 11, 21, 1, 2)]


def test_a_record_between_two_sessions_makes_one_of_them():
    rig = sessions().process(("a", 0, 1), ("a", 18, 2), ("b", 7, 5), ("a", 9, 4))
    assert rig.finish().taken() == [("b", 7, 17, 1, 5), ("a", 0, 28, 3, 7)]


def test_sessions_that_are_due_together_come_in_order_of_their_ends():
    rig = sessions().process(("a", 50, 1), ("b", 1, 2), ("c", 30, 3)).advance(100)
    assert [row[2] for row in rig.taken()[:-1]] == [11, 40, 60]


def test_a_late_record_is_counted_unless_it_touches_an_open_session():
    rig = sessions().process(("a", 20, 1)).advance(25)
    rig.process(("a", 15, 2), ("b", 15, 4), ("a", 4, 8))
    assert rig.counters.late_records == 2
    assert rig.finish().taken() == [25, ("a", 15, 30, 2, 3)]


def test_late_records_go_to_the_side_output_as_they_came():
    rig = sessions(tag="late").advance(25).process(("a", 3, 2), ("a", 20, 4), ("b", 15, 8))
    assert rig.side == [("a", 3, 2), ("b", 15, 8)]
    assert rig.counters.late_records == 0


def test_what_comes_within_the_lateness_fires_again_at_once():
    rig = sessions(lateness=100).process(("a", 0, 1)).advance(20)
    assert rig.taken() == [("a", 0, 10, 1, 1), 20]
    rig.process(("a", 5, 2), ("a", 7, 4), ("b", 1, 1))
    assert rig.taken() == [("a", 0, 15, 2, 3), ("a", 0, 17, 3, 7), ("b", 1, 11, 1, 1)]
    rig.process(("a", 16, 8))  # its end comes after the watermark: it fires when that has come there
    assert rig.taken() == []
    assert rig.advance(25).taken() == [("a", 0, 26, 4, 15), 25]
    rig.process(("a", 34, 16)).advance(124)
    assert rig.taken() == [("a", 34, 44, 1, 16), 124]
    rig.process(("a", 26, 32))  # the first session is kept for the last time, and what joins them fires
    assert rig.taken() == [("a", 0, 44, 6, 63)]
    assert rig.advance(142).taken() == [142]
    assert len(rig.operator._table) == 1
    assert rig.advance(143).taken() == [143]
    assert len(rig.operator._table) == 0
    rig.process(("a", 33, 1))
    assert rig.counters.late_records == 1


def test_a_batch_is_as_good_as_its_records_one_by_one():
    records = [("a", 0, 1), ("a", 18, 2), ("a", 9, 4), ("a", -25, 8), ("a", -1, 16), ("a", -60, 32), ("a", -12, 64)]
    whole, single = sessions(lateness=30).advance(8), sessions(lateness=30).advance(8)
    whole.process(*records)
    for record in records:
        single.process(record)
    assert whole.finish().taken() == single.finish().taken()
    assert whole.counters.late_records == single.counters.late_records == 1


def test_time_does_not_go_back():
    rig = sessions().process(("a", 1, 1)).advance(15, 12).process(("a", 10, 1))
    assert rig.taken() == [("a", 1, 11, 1, 1), 15, 12]
    assert rig.counters.late_records == 0
    assert rig.process(("a", 9, 1)).counters.late_records == 0  # touches [10, 20)
    assert rig.process(("b", 6, 1)).counters.late_records == 1


def test_large_results_go_out_in_parts(monkeypatch):
    monkeypatch.setattr(module, "_BATCH_ROWS", 10)
    rig = sessions().process(*[(f"{n}", 1, 1) for n in range(25)]).advance(100)
    assert rig.batches == [10, 10, 5]


def test_restored_sessions_go_on_where_they_were():
    first = sessions(lateness=20).process(("a", 6, 1), ("b", 30, 2), ("a", 20, 3)).advance(20)
    second = sessions(lateness=20, saved=[first.saved()])
    second.process(("b", 25, 4), ("a", 14, 5), ("c", -15, 6))
    assert second.counters.late_records == 1  # the watermark is restored too
    assert second.finish().taken() == [("a", 6, 30, 3, 9), ("b", 25, 40, 2, 6)]


def test_a_snapshot_is_shared_out_by_key_group():
    records = [(f"k{n}", n % 7, n) for n in range(40)]
    saved = [sessions().process(*records).saved()]
    halves = [sessions(saved=saved, groups=groups).finish().taken() for groups in (range(9), range(9, 16))]
    assert min(map(len, halves)) > 5
    assert sorted(halves[0] + halves[1]) == sorted(sessions().process(*records).finish().taken())


def test_without_key_all_records_are_one_group():
    first = sessions(key=(), result=WHOLE).process(("a", 1, 1), ("b", 5, 2)).advance(5)
    second = sessions(key=(), result=WHOLE, saved=[first.saved()]).process(("c", 14, 4), ("a", 40, 8))
    assert second.finish().taken() == [(1, 24, 3, 7), (40, 50, 1, 8)]


def test_a_key_completes_several_windows_in_one_batch():
    rig = counted(2, 2).process(*[("a", 0, n) for n in range(5)], ("b", 0, 9))
    assert rig.taken() == [("a", 2, 1), ("a", 2, 5)]
    assert rig.process(("b", 0, 1), ("a", 0, 5)).taken() == [("b", 2, 10), ("a", 2, 9)]
    assert rig.finish().taken() == []


def test_windows_by_count_that_overlap_have_fewer_records_at_first():
    rig = counted(3, 2).process(*[("a", 0, 10**n) for n in range(4)])
    assert rig.taken() == [("a", 2, 11), ("a", 3, 1110)]
    assert rig.process(("a", 0, 5), ("a", 0, 6)).advance(7).taken() == [("a", 3, 1011), 7]


def test_restored_windows_by_count_go_on_where_they_were():
    first = counted(3, 2).process(("a", 0, 1), ("a", 0, 2), ("a", 0, 4), ("b", 0, 8))
    second = counted(3, 2, saved=[first.saved()]).process(("a", 0, 16), ("b", 0, 32))
    assert second.taken() == [("a", 3, 22), ("b", 2, 40)]


def test_a_snapshot_of_windows_of_another_size_is_refused():
    saved = [counted(3, 2).process(("a", 0, 1)).saved()]
    with pytest.raises(IncompatibleSnapshotError, match="windows of 3 records every 2, and now they are of 4 records"):
        counted(4, 4, saved=saved)
