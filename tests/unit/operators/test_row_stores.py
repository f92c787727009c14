"""Rows by number, and rows in order of time, against plain lists."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamcore import Columns, Schema
from streamcore.operators.row_store import RowStore
from streamcore.operators.sorted_runs import SortedRuns

SCHEMA = Schema.of(time=int, number=int)
batches = st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=8)


def columns(times, first):
    return Columns(SCHEMA, {"time": np.array(times, np.int64), "number": np.arange(first, first + len(times))})


def tuples(part):
    return [] if part is None else [tuple(row) for row in part.to_rows()]


@given(batches, st.lists(st.integers(-1, 10), min_size=8, max_size=8))
def test_what_is_due_comes_in_order_of_time_then_of_coming(parts, dues):
    runs, waiting, first = SortedRuns(SCHEMA), [], 0
    for times, due in zip(parts, dues, strict=False):
        part = columns(times, first)
        runs.add(part, part["time"])
        waiting += tuples(part)
        first += len(times)
        again = SortedRuns(SCHEMA)  # what is restored from a snapshot goes on in the same order
        again.add(runs.rows(), runs.rows()["time"])
        runs = again if due % 2 else runs
        assert tuples(runs.take(due)) == sorted(row for row in waiting if row[0] <= due)
        waiting = [row for row in waiting if row[0] > due]
        assert len(runs) == len(waiting)


@given(batches, st.data())
def test_rows_are_found_by_number_also_after_others_went(parts, data):
    store, held = RowStore(SCHEMA), []
    for times in parts:
        store.add(columns(times, len(held)))
        held += tuples(columns(times, len(held)))
        assert len(store) == len(held)
        assert tuples(store.rows()) == held
        if held:
            rows = np.array(data.draw(st.lists(st.integers(0, len(held) - 1), max_size=9)), np.int64)
            places, found = store.take(rows)
            assert sorted(zip(places.tolist(), tuples(found), strict=True)) == [
                (place, held[row]) for place, row in enumerate(rows)
            ]
    kept = np.flatnonzero(np.arange(len(held)) % 3 == 1)
    store.keep(kept)
    assert tuples(store.rows()) == [held[row] for row in kept]
    assert len(store) == len(kept)
