"""deduplicate against a plain loop, and what it keeps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Schema, StreamEnvironment, bounded_out_of_orderness, milliseconds
from streamcore.batch import to_columns
from streamcore.operators.deduplicate import DeduplicateError, FirstWithin, deduplicate
from streamcore.runtime.counters import Counters
from streamcore.runtime.keys import KeySelector
from streamcore.runtime.operator import OperatorContext, Output, SavedOperator
from streamcore.runtime.operators.process import ProcessColumns
from streamcore.runtime.wakeup import Wakeup
from streamcore.state.store import KeyedStore
from streamcore.time import Clock
from tests.saved_state import saved_store

BEAT = Schema.of(name=str, number=int, time=np.int64)
beats = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.integers(-30, 60)), max_size=30)


@settings(max_examples=30, deadline=None)
@given(beats, st.integers(1, 7), st.sampled_from(["name", ("name", "number")]))
def test_the_first_ever_of_each_key(rows, batch_size, by):
    stream = StreamEnvironment(batch_size=batch_size).from_values(rows, BEAT)
    found = deduplicate(stream, by).execute_and_collect()
    first = {}
    for row in rows:
        first.setdefault(row[0] if by == "name" else row[:2], row)
    assert list(map(tuple, found)) == list(first.values())


@settings(max_examples=40, deadline=None)
@given(beats, st.integers(1, 7), st.integers(1, 20))
def test_the_first_of_each_key_within_a_span(rows, batch_size, span):
    strategy = bounded_out_of_orderness("time", milliseconds(200))  # no key is forgotten before the end
    stream = StreamEnvironment(batch_size=batch_size).from_values(rows, BEAT).assign_watermarks(strategy)
    found = deduplicate(stream, ("name", "number"), within=milliseconds(span)).execute_and_collect()
    latest, expected = {}, []
    for row in rows:
        if row[:2] not in latest or abs(row[2] - latest[row[:2]]) >= span:
            latest[row[:2]] = max(row[2], latest.get(row[:2], row[2]))
            expected.append(row)
    assert list(map(tuple, found)) == expected


def rig(saved=()):
    """The operator without a job, its function, and what it emits."""
    out, function = [], FirstWithin(BEAT, ("name",), 10, "time")
    operator = ProcessColumns(function, (KeySelector("name"),))
    store = KeyedStore(8, range(8), [keyed for keyed, _ in saved], allow_pickle=False)
    own = [SavedOperator(0, 1, state) for _, state in saved]
    context = OperatorContext("first", 0, 1, 8, 1, store, own, Clock(), Wakeup(), Counters())
    operator.setup(context, Output(main=[lambda batch: out.extend(map(tuple, batch.to_rows()))]))
    operator.open()
    return operator, function, out


def test_a_key_is_forgotten_when_no_repeat_of_it_can_come_in_time():
    operator, function, out = rig()
    operator.process(to_columns([("a", 0, 5), ("b", 0, 9), ("a", 1, 14)], BEAT), 0)
    assert out == [("a", 0, 5), ("b", 0, 9)]
    operator.advance(18)
    assert len(function._passed) == 2
    operator.process(to_columns([("a", 2, 19)], BEAT), 0)  # known again, from a later time
    operator.advance(20)
    assert function._passed == {"a": 19}
    operator.advance(40)
    assert not function._passed
    assert not function._buckets


def test_what_has_passed_is_known_after_a_restore():
    first, _, _ = rig()
    first.advance(0)
    first.process(to_columns([("a", 0, 5), ("b", 0, 18)], BEAT), 0)
    second, function, out = rig([(saved_store(first.context.store), first.capture(1))])
    second.process(to_columns([("a", 1, 14), ("b", 1, 28), ("c", 1, 9)], BEAT), 0)
    assert out == [("b", 1, 28), ("c", 1, 9)]
    second.advance(60)
    assert not function._passed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "colour"}, "'colour'"),
        ({"by": ()}, "needs the fields"),
        ({"by": "name", "within": 0.0}, "above 0"),
        ({"by": "name", "within": 1.0, "time": "name"}, "'name' must be whole milliseconds"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(DeduplicateError, match=message):
        deduplicate(StreamEnvironment().from_values([], BEAT), **arguments)
