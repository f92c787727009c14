"""top_k with and without ties, against sorting each window."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Field, Schema, StreamEnvironment, bounded_out_of_orderness, milliseconds
from streamcore.batch import to_columns
from streamcore.operators.top_k import TopK, TopKError, top_k
from streamcore.runtime.counters import Counters
from streamcore.runtime.keys import KeySelector
from streamcore.runtime.operator import OperatorContext, Output, SavedOperator
from streamcore.runtime.operators.process import ProcessColumns
from streamcore.runtime.wakeup import Wakeup
from streamcore.state.store import KeyedStore
from streamcore.time import Clock
from tests.saved_state import saved_store

SCORE = Schema.of(window_end=int, player=int, score=int)
records = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4)), max_size=30)


def scores(env, drawn):
    rows = [((time // 10 + 1) * 10, player, score) for player, (time, score) in enumerate(drawn)]
    stream = env.from_values(rows, SCORE).assign_watermarks(bounded_out_of_orderness("window_end", milliseconds(60)))
    return stream, rows


@settings(max_examples=40, deadline=None)
@given(records, st.integers(1, 4), st.booleans(), st.integers(1, 9))
def test_the_highest_of_each_window(drawn, k, with_ties, batch_size):
    stream, rows = scores(StreamEnvironment(batch_size=batch_size, parallelism=2), drawn)
    expected = []
    for end in {row[0] for row in rows}:
        ordered = sorted((row for row in rows if row[0] == end), key=lambda row: (-row[2], row[1]))
        for place, row in enumerate(ordered):
            higher = sum(other[2] > row[2] for other in ordered)
            if (higher if with_ties else place) < k:
                expected.append((*row, (higher if with_ties else place) + 1))
    found = top_k(stream, k, "score", with_ties=with_ties).execute_and_collect()
    assert sorted(map(tuple, found)) == sorted(expected)


def rig(saved=()):
    """The operator without a job, and what it emits."""
    ranked, out = Schema((*SCORE.fields, Field("rank", pa.int64()))), []
    operator = ProcessColumns(TopK(SCORE, ranked, 1, "score", "window_end", False), (KeySelector("window_end"),))
    store = KeyedStore(8, range(8), [keyed for keyed, _ in saved], allow_pickle=False)
    own = [SavedOperator(0, 1, state) for _, state in saved]
    context = OperatorContext("top", 0, 1, 8, 1, store, own, Clock(), Wakeup(), Counters())
    operator.setup(context, Output(main=[lambda batch: out.extend(map(tuple, batch.to_rows()))]))
    operator.open()
    return operator, out


def test_records_of_windows_that_are_over_are_dropped():
    operator, out = rig()
    for time, row in ((9, (10, 1, 5)), (12, (10, 2, 9)), (30, (20, 3, 1))):
        operator.process(to_columns([row], SCORE), 0)
        operator.advance(time)
    assert out == [(10, 1, 5, 1), (20, 3, 1, 1)]


def test_numbers_come_before_what_is_none():
    schema = Schema.of(window_end=int, score=float)
    rows = [(10, float("nan")), (10, 2.0), (10, 3.0), (10, 1.0)]
    stream = StreamEnvironment().from_values(rows, schema)
    found = top_k(stream, 2, "score").execute_and_collect()
    assert sorted((record.rank, record.score) for record in found) == [(1, 3.0), (2, 2.0)]


def test_wrong_arguments_are_refused():
    stream, _ = scores(StreamEnvironment(), [])
    with pytest.raises(TopKError, match="'points'"):
        top_k(stream, 1, "points")
    with pytest.raises(TopKError, match="at least 1"):
        top_k(stream, 0, "score")


def test_what_was_late_before_a_restore_is_late_after_it():
    first, out = rig()
    first.process(to_columns([(10, 1, 5)], SCORE), 0)
    first.advance(15)
    assert out == [(10, 1, 5, 1)]
    second, out = rig([(saved_store(first.context.store), first.capture(1))])
    second.process(to_columns([(10, 2, 9), (20, 3, 1)], SCORE), 0)
    second.finish()
    assert out == [(20, 3, 1, 1)]


def test_a_field_named_rank_is_refused():
    stream = StreamEnvironment().from_values([], Schema.of(window_end=int, rank=int))
    with pytest.raises(TopKError, match="rank"):
        top_k(stream, 1, "rank")
