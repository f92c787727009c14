"""decayed_counts against sums over all records, however they come and are cut."""

from collections import defaultdict

import pyarrow as pa
import pytest
from batch_rig import Rig
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Field, Schema, StreamEnvironment, bounded_out_of_orderness, milliseconds
from streamcore.operators.decayed_counts import DecayedCounts, DecayedTop, DecayError, decayed_counts

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
    now, rows = draw(st.sampled_from([0, -100_000])), []  # before 1970, too
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


SUMS = Schema.of(word=int, window_start=int, window_end=int, weight=int)
SCORED = Schema((*Schema.of(word=int, window_end=int).fields, Field("score", pa.float64())))
ONE = 1 << 32


def test_keys_that_have_sunk_are_forgotten_so_the_state_is_bounded():
    job = Rig(DecayedCounts("word", SCORED, 1000, 2, 0.3))
    kept = []
    for period in range(40):
        end = 1000 * (period + 1)
        job.feed([(1000 * period + key, end - 1000, end, ONE) for key in range(1000)], SUMS)
        job.advance(end - 1)
        kept.append(len(job.snapshot()[1]["scores"]))
    assert max(kept) < 8000, "of 40,000 keys, 2,000 have a score of 0.3 or more at any time"


@pytest.mark.parametrize("restored", [False, True])
def test_scores_and_ranks_go_on_after_a_restore(restored):
    counts, top = (make() for make in (counts_rig, top_rig))
    counts.feed([(1, 0, 1000, 4 * ONE), (2, 0, 1000, ONE)], SUMS)
    top.feed(counts.take(), SCORED)
    if restored:
        counts, top = counts_rig(counts.snapshot()), top_rig(top.snapshot())
    top.advance(999)
    assert top.take() == [(1, 1000, 4.0, 1), (2, 1000, 1.0, 2)]
    counts.feed([(3, 1000, 2000, 2 * ONE), (2, 1000, 2000, ONE), (4, 2000, 3000, ONE)], SUMS)
    top.feed(counts.take(), SCORED)
    top.advance(1999)
    if restored:
        counts, top = counts_rig(counts.snapshot()), top_rig(top.snapshot())
    top.advance(2999)
    before = [] if restored else [(1, 2000, 2.0, 1), (3, 2000, 2.0, 2)]
    assert top.take() == sorted([*before, (1, 3000, 1.0, 1), (3, 3000, 1.0, 2)])


def counts_rig(snapshot=None):
    return Rig(DecayedCounts("word", SCORED, 1000, 2, 0.01), snapshot)


def top_rig(snapshot=None):
    return Rig(DecayedTop("word", SCORED, 1000, 2, 0.01), snapshot)


def test_wrong_arguments_are_refused():
    stream = StreamEnvironment().from_values([], WORD)
    times = {"half_life": 1, "every": 1, "k": 1}
    for wrong in ({"half_life": 0}, {"every": 0}, {"k": 0}, {"forget": 0}):
        with pytest.raises(DecayError, match="can't be"):
            decayed_counts(stream, "word", **{**times, **wrong})
    with pytest.raises(DecayError, match="needs the fields page, time"):
        decayed_counts(stream, "page", **times)
    with pytest.raises(DecayError, match="no event time"):
        decayed_counts(stream, "word", **times, time="word")
    with pytest.raises(DecayError, match="'score'"):
        decayed_counts(stream.with_columns(score=1), "score", **times)
