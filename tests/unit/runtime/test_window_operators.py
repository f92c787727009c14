"""The operators of windows by themselves: what they send, in which order, before what."""

from __future__ import annotations

import numpy as np
import pytest

from streamcore import Columns, Schema, Windows, count, sum_of
from streamcore.batch import to_columns
from streamcore.errors import IncompatibleSnapshotError
from streamcore.runtime.counters import Counters
from streamcore.runtime.event_time import EventTime
from streamcore.runtime.operator import OperatorContext, Output, SavedOperator
from streamcore.runtime.operators import window as module
from streamcore.runtime.operators.watermarks import AssignWatermarks
from streamcore.runtime.operators.window import PartialAggregate, WindowAggregate, WindowTimes, accumulators_of
from streamcore.runtime.wakeup import Wakeup
from streamcore.runtime.watermark_strategy import bounded_out_of_orderness, monotonous
from streamcore.state.store import KeyedStore
from streamcore.time import Clock
from tests.saved_state import saved_store

RECORD = Schema.of(k=str, t=int, n=int)
RESULT = Schema.of(k=str, window_start=int, window_end=int, count=int, sum_n=int)
TOTALS = Schema.of(k=str, count=int, sum_n=int)
AGGREGATES = [count().bind(RECORD, "here"), sum_of("n").bind(RECORD, "here")]
TUMBLING = Windows(10, 10)
SLIDING = Windows(10, 5)
APART = Windows(2, 10)


class Rig:
    """An operator whose output is written down: batches as rows, watermarks as numbers."""

    def __init__(self, operator, saved=None):
        self.operator, self.out, self.batches, self.counters = operator, [], [], Counters()
        keyed = [part[0] for part in saved or []]
        store = KeyedStore(16, range(16), keyed, allow_pickle=False)
        own = [SavedOperator(number, len(saved), part[1]) for number, part in enumerate(saved or [])]
        context = OperatorContext(
            name="operator", subtask=0, parallelism=1, max_parallelism=16, epoch=1, store=store, saved=own,
            clock=Clock(), wakeup=Wakeup(), counters=self.counters,
        )  # fmt: skip
        operator.setup(context, Output(main=[self._take], watermarks=[self.out.append]))
        operator.open()
        self.store = store

    def _take(self, batch):
        self.batches.append(batch)
        self.out.extend(map(tuple, batch.to_rows() if isinstance(batch, Columns) else batch))

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
        """What came out since the last time."""
        out, self.out[:] = list(self.out), []
        return out

    def saved(self):
        return saved_store(self.store), self.operator.capture(1)


def window(windows=TUMBLING, *, partials=False, saved=None):
    time = EventTime("t") if windows else None
    result = RESULT if windows else TOTALS
    return Rig(WindowAggregate("k", WindowTimes(windows, time), AGGREGATES, result, partials=partials), saved)


def partial(windows=TUMBLING):
    times = WindowTimes(windows, EventTime("t") if windows else None)
    return Rig(PartialAggregate(RECORD.select(["k"]), times, accumulators_of(AGGREGATES)))


def test_results_come_before_the_watermark_that_completed_them():
    rig = window().process(("a", 1, 5), ("b", 12, 7), ("a", 9, 6)).advance(8)
    assert rig.taken() == [8]
    rig.advance(9)
    assert rig.taken() == [("a", 0, 10, 2, 11), 9]
    rig.advance(30)
    assert rig.taken() == [("b", 10, 20, 1, 7), 30]


def test_windows_that_are_due_together_come_in_order():
    rig = window(SLIDING).process(("a", 12, 1), ("a", 1, 10), ("a", 6, 100)).advance(100)
    assert rig.taken() == [
        ("a", -5, 5, 1, 10),
        ("a", 0, 10, 2, 110),
        ("a", 5, 15, 2, 101),
        ("a", 10, 20, 1, 1),
        100,
    ]
    assert len(rig.operator._table) == 0


def test_finish_completes_what_is_open_and_nothing_twice():
    rig = window(SLIDING).process(("a", 6, 1)).advance(9)
    assert rig.taken() == [("a", 0, 10, 1, 1), 9]
    assert rig.finish().taken() == [("a", 5, 15, 1, 1)]
    assert window().finish().taken() == []


def test_without_windows_results_come_at_the_end():
    rig = window(None).process(("a", 1, 5), ("b", 2, 6)).process(("a", 0, 7)).advance(1000)
    assert rig.taken() == [1000]
    assert rig.finish().taken() == [("a", 2, 12), ("b", 1, 6)]
    assert window(None).finish().taken() == []


def test_a_record_whose_windows_are_all_over_is_late():
    rig = window().advance(9).process(("a", 9, 1), ("a", 10, 1), ("b", 3, 1), ("a", 30, 1))
    assert rig.counters.late_records == 2
    assert rig.finish().taken() == [9, ("a", 10, 20, 1, 1), ("a", 30, 40, 1, 1)]


def test_a_record_with_a_window_that_is_not_over_is_in_time():
    rig = window(SLIDING).advance(9).process(("a", 6, 1), ("a", 4, 1))
    assert rig.counters.late_records == 1
    assert rig.finish().taken() == [9, ("a", 5, 15, 1, 1)]


def test_late_partial_results_count_the_records_in_them():
    sender = partial().process(("a", 1, 1), ("a", 2, 1), ("b", 3, 1), ("a", 11, 1)).finish()
    rig = window(partials=True).advance(9)
    rig.operator.process(sender.batches[0], 0)
    assert rig.counters.late_records == 3
    assert rig.finish().taken() == [9, ("a", 10, 20, 1, 1)]


@pytest.mark.parametrize("partials", [False, True])
def test_records_between_windows_that_lie_apart_are_not_kept_and_late_behind_the_watermark(partials):
    rig = window(APART, partials=partials).advance(-9)

    def feed(*records):
        if not partials:
            rig.process(*records)
        for batch in partial(APART).process(*records).finish().batches if partials else []:
            rig.operator.process(batch, 0)

    feed(("a", 1, 1), ("a", 2, 1), ("a", 9, 1), ("a", -5, 1), ("a", -9, 1))
    feed(("b", 5, 1))
    assert rig.counters.late_records == 1  # the one at -9
    rig.advance(3)
    feed(("a", 7, 1), ("a", 2, 1))
    assert rig.finish().taken() == [-9, ("a", 0, 2, 1, 1), 3]
    assert rig.counters.late_records == (1 if partials else 2)  # and the one at 2; the first stage drops it


def test_time_does_not_go_back():
    rig = window().process(("a", 1, 1)).advance(20, 15)
    rig.process(("a", 15, 1), ("a", 25, 1))
    assert rig.counters.late_records == 1
    assert rig.taken() == [("a", 0, 10, 1, 1), 20, 15]


def test_a_restored_window_goes_on_where_it_was():
    first = window(SLIDING).process(("a", 6, 1), ("b", 7, 2)).advance(9)
    second = window(SLIDING, saved=[first.saved()])
    second.process(("a", 4, 100), ("a", 8, 10))
    assert second.counters.late_records == 1  # the watermark is restored too
    second.advance(3)
    assert sorted(second.advance(14).taken()[1:-1]) == [("a", 5, 15, 2, 11), ("b", 5, 15, 1, 2)]


def test_a_snapshot_of_one_stage_and_of_two_is_the_same():
    direct = window(SLIDING).process(("a", 6, 1), ("b", 7, 2), ("a", 6, 3))
    sender = partial(SLIDING).process(("a", 6, 1), ("b", 7, 2), ("a", 6, 3)).finish()
    merged = window(SLIDING, partials=True)
    merged.operator.process(sender.batches[0], 0)
    assert direct.saved() == merged.saved()


def test_a_partial_aggregate_sends_a_slice_before_the_watermark_that_ends_it():
    rig = partial().process(("a", 1, 5), ("a", 12, 1), ("a", 3, 6)).advance(8)
    assert rig.taken() == [8]
    assert rig.advance(9).taken() == [("a", 0, 2, 11), 9]
    assert rig.finish().taken() == [("a", 1, 1, 1)]


def test_a_partial_aggregate_keeps_nothing_over_a_barrier():
    rig = partial().process(("a", 1, 5), ("a", 12, 1))
    rig.operator.before_barrier()
    assert rig.taken() == [("a", 0, 1, 5), ("a", 1, 1, 1)]
    assert len(rig.operator._table) == 0
    assert rig.finish().taken() == []


def test_a_partial_aggregate_does_not_grow_without_bound(monkeypatch):
    monkeypatch.setattr(module, "_PARTIAL_ENTRIES", 4)
    rig = partial()
    for _ in range(2):
        rig.process(*[("abc"[n % 3], 1, n) for n in range(30)])
    assert rig.taken() == []
    rig.process(("d", 1, 0))
    assert sorted(rig.taken()) == [*_sums(2, "abc"), ("d", 0, 1, 0)]


def _sums(times, keys):
    return [(key, 0, 10 * times, times * sum(range(i, 30, 3))) for i, key in enumerate(keys)]


def test_records_pass_as_they_are_where_keys_hardly_come_twice(monkeypatch):
    monkeypatch.setattr(module, "_PARTIAL_ENTRIES", 4)
    monkeypatch.setattr(module, "_BYPASSED_ROWS", 3)
    rig = partial().process(*[(key, 1, 1) for key in "abcd"])
    assert len(rig.taken()) == 4
    assert rig.process(("x", 1, 1), ("x", 11, 2), ("x", 1, 3)).taken() == [
        ("x", 0, 1, 1),
        ("x", 1, 1, 2),
        ("x", 0, 1, 3),
    ]
    assert rig.process(("x", 1, 1), ("x", 1, 2)).taken() == []  # adds up again
    assert rig.advance(50).taken() == [("x", 0, 2, 3), 50]


def test_what_is_left_after_a_watermark_is_not_taken_for_new_keys(monkeypatch):
    monkeypatch.setattr(module, "_PARTIAL_ENTRIES", 5)
    rig = partial().process(*[(key, 11, 1) for key in "abc"] * 5).process(("z", 1, 1)).advance(9)
    rig.process(("d", 11, 1), ("e", 11, 1))  # full: 17 records in 5 entries
    assert len(rig.taken()) == 1 + 1 + 5
    assert rig.process(("y", 31, 1), ("y", 31, 1)).taken() == []


def test_large_results_go_out_in_parts(monkeypatch):
    monkeypatch.setattr(module, "_BATCH_ROWS", 10)
    rig = window().process(*[(f"{n}", 10 * n, 1) for n in range(25)]).advance(10_000)
    assert [len(batch) for batch in rig.batches] == [10, 10, 5]
    sender = partial().process(*[(f"{n}", 1, 1) for n in range(25)]).finish()
    assert [len(batch) for batch in sender.batches] == [10, 10, 5]


def test_assigned_watermarks_follow_the_records():
    rig = Rig(AssignWatermarks(bounded_out_of_orderness("t", 0.005)))
    rig.process(("a", 10, 0), ("a", 30, 0)).process(("a", 20, 0)).advance(99)
    assert rig.taken() == [("a", 10, 0), ("a", 30, 0), 24, ("a", 20, 0)]


def test_assigned_watermarks_are_told_again_after_a_restore():
    first = Rig(AssignWatermarks(monotonous("t"))).process(("a", 10, 0))
    second = Rig(AssignWatermarks(monotonous("t")), saved=[first.saved()]).process(("a", 3, 0))
    assert second.taken() == [("a", 3, 0), 9]


def test_several_old_parts_restore_to_the_earliest():
    parts = [Rig(AssignWatermarks(monotonous("t"))).process(("a", time, 0)).saved() for time in (10, 7)]
    assert Rig(AssignWatermarks(monotonous("t")), saved=parts).process(("a", 3, 0)).taken()[-1] == 6


def test_times_without_windows_are_one_slice():
    batch = to_columns([("a", 1, 1), ("b", 99, 1)], RECORD)
    kept, slices, between = WindowTimes(None, None).assign(batch)
    assert kept is batch
    assert np.array_equal(slices, [0, 0])
    assert between is None


def test_overlapping_windows_of_subtasks_at_different_times_are_not_put_together():
    """In a snapshot whose barriers overtook records: what one has fired, the time of the other would fire again."""
    ahead, behind = window(SLIDING).process(("a", 1, 5)).advance(20), window(SLIDING).process(("b", 1, 5)).advance(4)
    with pytest.raises(IncompatibleSnapshotError, match=r"4 to 20 ms: at another parallelism than 2") as caught:
        window(SLIDING, saved=[ahead.saved(), behind.saved()])
    assert "restore with parallelism 2" in caught.value.hint
    again = window(SLIDING, saved=[ahead.saved(), window(SLIDING).advance(20).saved()])
    assert again.advance(30).taken() == [30]
    assert len(window(TUMBLING, saved=[window().advance(20).saved(), window().advance(4).saved()]).taken()) == 0
