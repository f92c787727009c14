"""decayed_counts against sums over all records, however they come and are cut."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Schema, StreamEnvironment, bounded_out_of_orderness, milliseconds
from streamcore.operators.decayed_counts import decayed_counts

WORD = Schema.of(word=str, time=int)


def by_definition(rows, half_life, every, forget):
    """The scores of all keys that count, by end of period."""
    found = {}
    for end in sorted({time // every * every + every for _, time in rows}):
        scores = {}
        for word in {word for word, _ in rows}:
            score, at = 0.0, 0
            for period in sorted({time // every * every + every for key, time in rows if key == word and time < end}):
                if score and score * 0.5 ** ((period - at) / half_life) < forget:
                    score = 0.0
                elif score:
                    score *= 0.5 ** ((period - at) / half_life)
                score += sum(
                    0.5 ** ((period - time) / half_life)
                    for key, time in rows
                    if key == word and 0 < period - time <= every
                )
                at = period
            if score and score * 0.5 ** ((end - at) / half_life) >= forget:
                scores[word] = score * 0.5 ** ((end - at) / half_life)
        found[end] = scores
    return found


@st.composite
def words(draw):
    now, rows = 0, []
    for word in draw(st.lists(st.sampled_from("abcdef"), max_size=30)):
        now += draw(st.integers(0, 30))
        rows.append((word, now - draw(st.integers(0, 8))))
    return rows


@settings(max_examples=40, deadline=None)
@given(
    words(),
    st.integers(1, 40),
    st.integers(1, 25),
    st.integers(1, 4),
    st.sampled_from([1e-9, 0.111]),
    st.integers(1, 9),
)
def test_the_scores_are_the_sums_of_halving_weights(rows, half_life, every, k, forget, batch_size):
    env = StreamEnvironment(batch_size=batch_size, parallelism=2)
    stream = env.from_values(rows, WORD).assign_watermarks(bounded_out_of_orderness("time", milliseconds(8)))
    top = decayed_counts(
        stream, "word", half_life=half_life / 1000, every=every / 1000, k=k, forget=forget
    ).execute_and_collect()
    expected = by_definition(rows, half_life, every, forget)
    found = defaultdict(list)
    for record in sorted(top, key=lambda record: record.rank):
        found[record.window_end].append(record)
        assert record.score == pytest.approx(expected[record.window_end][record.word], abs=1e-7)
    for end, scores in expected.items():
        highest = sorted(scores.values(), reverse=True)[:k]
        assert [record.score for record in found[end]] == pytest.approx(highest, abs=1e-7)
        assert [record.rank for record in found[end]] == list(range(1, len(highest) + 1))
