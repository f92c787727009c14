"""top_k with and without ties, against sorting each window."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Field, Schema, StreamEnvironment, bounded_out_of_orderness, milliseconds
from streamcore.batch import to_columns
from streamcore.operators.top_k import TopK, TopKError, top_k

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


class Emitted:
    """Stands for the context: keeps what is emitted."""

    def __init__(self):
        self.rows = []

    def emit_batch(self, columns):
        self.rows += map(tuple, columns.to_rows())


def test_records_of_windows_that_are_over_are_dropped():
    ranked = Schema((*SCORE.fields, Field("rank", pa.int64())))
    function, out = TopK(SCORE, ranked, 1, "score", "window_end", with_ties=False), Emitted()
    for time, row in ((9, (10, 1, 5)), (12, (10, 2, 9)), (30, (20, 3, 1))):
        function.process(to_columns([row], SCORE), out)
        function.on_watermark(time, out)
    assert out.rows == [(10, 1, 5, 1), (20, 3, 1, 1)]


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
