"""The as-of join against polars and plain loops, and what it keeps."""

import collections

import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import OutputTag, Schema, StreamEnvironment, bounded_out_of_orderness, milliseconds
from streamcore.operators import temporal_join as module
from streamcore.operators.joining import JoinError
from streamcore.operators.temporal_join import temporal_join
from tests.operator_rig import OperatorRig
from tests.unit.operators.test_interval_join import BOUND, out_of_order

LEFT = Schema.of(key=str, time=int, left=int)
RIGHT = Schema.of(id=str, at=int, right=int, gone=bool)
LATE = OutputTag("late", LEFT)


@pytest.fixture(autouse=True, scope="module")
def tidy_early():
    """What is forgotten is cleared away all the time, not only in big joins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LEAST_ROWS", 2)
        yield


@st.composite
def two_streams(draw):
    keys, times = st.sampled_from(["a", "b", "c"]), st.integers(-30, 60)
    left = draw(st.lists(st.tuples(keys, times, st.integers(0, 3)), max_size=25))
    # one version a key and time: which of two is the last is the order of their coming
    ids = st.tuples(keys, times)
    right = draw(st.lists(ids, max_size=25, unique=True))
    right = [(key, at, number, draw(st.booleans())) for number, (key, at) in enumerate(right)]
    return out_of_order(draw, left), out_of_order(draw, right)


def job(left, right, batch_size, parallelism, **options):
    env = StreamEnvironment(batch_size=batch_size, parallelism=parallelism)
    lefts, rights = env.from_values(left, LEFT), env.from_values(right, RIGHT)
    return temporal_join(
        lefts.assign_watermarks(bounded_out_of_orderness("time", milliseconds(BOUND))),
        rights.assign_watermarks(bounded_out_of_orderness("at", milliseconds(BOUND))),
        on=("key", "id"),
        time=("time", "at"),
        **options,
    )


def collected(stream):
    return collections.Counter(map(tuple, stream.execute_and_collect()))


def by_polars(left, right):
    lefts = polars.DataFrame(left, schema=["key", "time", "left"], orient="row").sort("time")
    rights = polars.DataFrame(right, schema=["id", "at", "right", "gone"], orient="row").sort("at")
    return lefts.join_asof(
        rights.with_columns(version_at="at"), left_on="time", right_on="at", by_left="key", by_right="id"
    ).select("key", "time", "left", "version_at", "right", "gone")


@pytest.mark.filterwarnings("ignore:Sortedness of columns")
@settings(max_examples=60, deadline=None)
@given(two_streams(), st.integers(1, 9), st.integers(1, 3))
def test_each_record_meets_the_version_that_polars_finds(drawn, batch_size, parallelism):
    left, right = drawn
    if not left or not right:
        return
    expected = collections.Counter(by_polars(left, right).iter_rows())
    assert collected(job(left, right, batch_size, parallelism, how="left")) == expected
    inner = collections.Counter({row: n for row, n in expected.items() if row[3] is not None})
    assert collected(job(left, right, batch_size, parallelism)) == inner


@settings(max_examples=60, deadline=None)
@given(two_streams(), st.integers(1, 9), st.integers(1, 3))
def test_a_deletion_ends_the_version_before(drawn, batch_size, parallelism):
    left, right = drawn
    expected = collections.Counter()
    for key, time, number in left:
        versions = [version for version in right if version[0] == key and version[1] <= time]
        last = max(versions, key=lambda version: version[1], default=None)
        valid = last[1:] if last is not None and not last[3] else (None, None, None)
        expected[(key, time, number, *valid)] += 1
    joined = job(left, right, batch_size, parallelism, how="left", deleted="gone")
    assert collected(joined) == expected


def rig(how="left", saved=(), **options):
    env = StreamEnvironment()
    stream = temporal_join(
        env.from_values([], LEFT), env.from_values([], RIGHT), on=("key", "id"), time=("time", "at"), how=how,
        late_to=LATE, **options,
    )  # fmt: skip
    return OperatorRig(stream._node.make(), (LEFT, RIGHT), saved=saved, sides=("late",))


def test_a_record_waits_for_the_watermark_and_meets_the_last_version_of_its_time():
    join = rig().process(0, ("a", 10, 0)).process(1, ("a", 10, 1, False), ("a", 10, 2, False), ("a", 11, 3, False))
    assert join.advance(9).taken() == [9]
    assert join.advance(10).taken() == [("a", 10, 0, 10, 2, False), 10]
    assert join.process(0, ("a", 99, 1)).finish().taken() == [("a", 99, 1, 11, 3, False)]


def test_late_records_go_to_their_side_output_and_late_versions_count_from_now_on():
    join = rig().process(1, ("a", 10, 1, False), ("b", 10, 1, False)).advance(20)
    join.process(0, ("a", 20, 0), ("a", 30, 1), ("b", 30, 2))
    join.process(1, ("a", 15, 2, False), ("a", 5, 3, False), ("b", 5, 4, False))
    assert join.advance(40).taken() == [20, ("a", 30, 1, 15, 2, False), ("b", 30, 2, 10, 1, False), 40]
    assert join.side_out == {"late": [("a", 20, 0)]}
    assert join.counters.late_records == 4


def test_a_snapshot_has_what_waits_and_the_last_versions():
    join = rig().process(1, ("a", 10, 1, False), ("a", 12, 2, False), ("b", 90, 3, False), ("b", 90, 4, False))
    join.process(0, ("a", 50, 0)).advance(20)
    again = rig(saved=[join.saved()])
    again.process(0, ("a", 19, 9), ("b", 90, 1)).advance(100)
    assert again.taken() == [("a", 50, 0, 12, 2, False), ("b", 90, 1, 90, 4, False), 100]
    assert again.counters.late_records == 1  # the watermark is restored too


def test_old_versions_and_keys_without_version_are_forgotten():
    join = rig(deleted="gone")
    for number in range(300):
        join.process(1, ("a", number, number, False), (f"k{number}", number, number, False))
        join.process(1, (f"k{number - 1}", number, number, True))
        join.process(0, ("a", number, number), (f"left{number}", number, number))
        if number % 5 == 0:
            join.advance(number)
    join.advance(300)
    function = join.operator._function
    results = [row for row in join.taken() if isinstance(row, tuple)]
    assert len(results) == 600
    assert all(row[3] == row[1] if row[0] == "a" else row[3] is None for row in results)
    assert len(function._versions) < 50
    assert len(function._keys) < 50
    assert len(function._last_versions()) == 2


def test_what_cannot_be_joined_is_refused_with_the_reason():
    env = StreamEnvironment()
    left, right = env.from_values([], LEFT), env.from_values([], RIGHT)
    for options, message in [
        ({"how": "full"}, "can't be 'full'"),
        ({"deleted": "no"}, "no field 'no' of booleans"),
        ({"deleted": "right"}, "no field 'right' of booleans"),
        ({"time": ("time", "when")}, "no event time in a field 'when'"),
    ]:
        with pytest.raises(JoinError, match=message):
            temporal_join(left, right, **{"on": ("key", "id"), "time": ("time", "at"), **options})
