"""Sessions in arrays agree with sessions by the book, record by record, however the stream is cut into batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Schema
from streamcore.batch import to_columns
from streamcore.state import key_slots
from streamcore.state import sessions as module
from streamcore.state.accumulators import COUNT, Accumulator
from streamcore.state.sessions import SessionTable
from streamcore.state.totals import Totals
from tests.property.in_order import InOrder, Objects
from tests.property.session_reference import SessionsByTheBook

RECORD = Schema.of(k=str, t=int, n=int)
MANY = settings(deadline=None, max_examples=400)


ACCUMULATORS = (Accumulator("sum", "n"), COUNT, InOrder())


def reference(gap, lateness):
    def fold(value, n):
        total, count, order = value or (0, 0, InOrder.first)
        return total + n, count + 1, InOrder.of([n], order)

    def merge(one, other):
        return one[0] + other[0], one[1] + other[1], InOrder.merged(one[2], other[2])

    return SessionsByTheBook(gap, lateness, fold, merge)


def rows_of(sessions):
    if sessions is None:
        return []
    columns = [sessions.keys["k"].to_pylist(), sessions.starts.tolist(), sessions.ends.tolist()]
    values = zip(*(array.tolist() for kept in ACCUMULATORS for array in sessions.values[kept]), strict=True)
    return list(zip(*columns, values, strict=True))


STEPS = st.lists(
    st.one_of(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(-30, 90), st.integers(0, 99)), min_size=1, max_size=30),
        st.integers(0, 25),
        st.just("restore"),
    ),
    max_size=12,
)


@MANY
@given(STEPS, st.sampled_from([1, 2, 5, 12, 40]), st.sampled_from([0, 1, 10, 200]), st.sampled_from([-30, None]))
def test_any_history_agrees_with_the_book(steps, gap, lateness, begin):
    book, table = reference(gap, lateness), SessionTable(RECORD.select(["k"]), ACCUMULATORS, gap, lateness)
    if begin is not None:
        assert table.advance(begin) is None
        book.advance(begin)
    time = -35
    for step in steps:
        if step == "restore":
            table, old = SessionTable(RECORD.select(["k"]), ACCUMULATORS, gap, lateness), table
            table.watermark = old.watermark
            table.restore(old.captured())
        elif isinstance(step, int):
            time += step
            got = rows_of(table.advance(time))
            assert sorted(got) == sorted(book.advance(time))
            assert [end for _, _, end, _ in got] == sorted(end for _, _, end, _ in got)
        else:
            fired, late = table.add(to_columns(step, RECORD), np.array([t for _, t, _ in step], np.int64))
            by_record = [book.add(*record) for record in step]
            assert rows_of(fired) == [result for results in by_record for result in results or []]
            wanted_late = [results is None for results in by_record]
            assert (late.tolist() if late is not None else [False] * len(step)) == wanted_late
        assert len(table) == sum(map(len, book.sessions.values()))
        assert not table._sessions["phase"][table._live()].any()
    assert sorted(rows_of(table.advance((1 << 63) - 1))) == sorted(book.advance((1 << 63) - 1))
    assert len(table) == 0


@MANY
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(-10, 40)), max_size=60), st.sampled_from([1, 3000]))
def test_the_calendar_goes_round(steps, gap):
    """Far more time than the calendar has buckets, in one step or in many, with records far ahead."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BUCKETS", 4)
        patch.setattr(module, "_BUCKETS_PER_GAP", 3)
        book, table, time = reference(gap, 0), SessionTable(RECORD.select(["k"]), ACCUMULATORS, gap), 0
        for ahead, forward in steps:
            record = ("abcdef"[ahead % 6], time + ahead, 1)
            table.add(to_columns([record], RECORD), np.array([time + ahead]))
            book.add(*record)
            time += forward if forward < 30 else 100 * forward
            assert sorted(rows_of(table.advance(time - 20))) == sorted(book.advance(time - 20))


@pytest.mark.parametrize("lateness", [0, 50])
def test_what_is_over_is_forgotten(lateness, monkeypatch):
    """Keys that come and go, more than fit at a time: neither sessions nor keys pile up."""
    monkeypatch.setattr(key_slots, "SPARE_KEYS", 50)
    book, table = reference(5, lateness), SessionTable(RECORD.select(["k"]), ACCUMULATORS, 5, lateness)
    for number in range(300):
        batch = [(f"{number - i % 3}-{i % 10}", 10 * number - i % 4, i) for i in range(20)]
        table.add(to_columns(batch, RECORD), np.array([t for _, t, _ in batch]))
        for record in batch:
            book.add(*record)
        assert sorted(rows_of(table.advance(10 * number - 8))) == sorted(book.advance(10 * number - 8))
        assert len(table) == sum(map(len, book.sessions.values())) < 400
        assert len(table._keys) <= 4 * 400 + 50
    assert len(table._sessions) <= 1024


def test_objects_that_fire_twice_are_those_of_their_time(monkeypatch):
    monkeypatch.setattr(Totals, "fields", lambda self, names: [])
    objects = Objects()
    table = SessionTable(RECORD.select(["k"]), (objects,), 10, 1000)
    table.advance(500)
    batch = [("a", 1, 1), ("b", 2, 2), ("a", 3, 3), ("a", 30, 4), ("a", 13, 5)]
    fired, late = table.add(to_columns(batch, RECORD), np.array([t for _, t, _ in batch]))
    assert late is None
    assert fired.keys["k"].to_pylist() == ["a", "b", "a", "a", "a"]
    assert fired.values[objects][0].tolist() == [[1], [2], [1, 3], [4], [1, 3, 5]]
    assert (fired.starts[-1], fired.ends[-1]) == (1, 23)
    fired, _ = table.add(to_columns([("a", 23, 6)], RECORD), np.array([23]))
    assert fired.values[objects][0].tolist() == [[1, 3, 5, 4, 6]]
    table.advance(5000)
    assert all(value is None for value in table._totals.arrays[0][0])
