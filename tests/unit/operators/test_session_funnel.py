"""session_funnel against trying all chains of steps, in any order of arrival."""

from collections import defaultdict

import pytest
from batch_rig import Rig
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import OutputTag, Schema, StreamcoreError, StreamEnvironment, bounded_out_of_orderness, col
from streamcore.operators.session_funnel import Limits, SessionFunnel, Step, session_funnel

HOUR, DAY = 3_600_000, 86_400_000
SEEN = Schema.of(user=int, group=str, event=str, size=int, time=int)
NAMES = ["visit", "order", "again"]
STEPS = ["visit", Step("order", (col("event") == "order") & (col("size") > 0)), Step("again", after=7200)]

seen = st.lists(
    st.tuples(
        st.integers(1, 2),
        st.sampled_from("ab"),
        st.sampled_from([*NAMES, "other"]),
        st.integers(0, 2),
        st.integers(-30, 50).map(lambda hour: hour * HOUR),
    ),
    max_size=30,
)


def furthest(times, within, start, depth=0, at=None):
    """How many steps a chain can have that began at `start`: all chains are tried."""
    if depth == len(NAMES):
        return depth
    least = start if at is None else at + (2 * HOUR if depth == 2 else 0)
    options = [time for time in times[depth] if least <= time <= start + within and (depth or time == start)]
    return max((furthest(times, within, start, depth + 1, time) for time in options), default=depth)


def by_definition(rows, within):
    steps = defaultdict(lambda: [[], [], []])
    for user, group, event, size, time in rows:
        if event in NAMES and (event != "order" or size > 0):
            steps[user, group][NAMES.index(event)].append(time)
    counts = defaultdict(lambda: [0, 0, 0])
    for (_, group), times in steps.items():
        for day in {time // DAY for time in times[0]}:
            depth = max(furthest(times, within, start) for start in times[0] if start // DAY == day)
            for step in range(depth):
                counts[group, day * DAY][step] += 1
    return counts


def funnel(rows, within, batch_size, **options):
    env = StreamEnvironment(batch_size=batch_size, parallelism=2)
    stream = env.from_values(rows, SEEN).assign_watermarks(bounded_out_of_orderness("time", 3600.0))
    return session_funnel(
        stream, "user", STEPS, within=within / 1000, every=7200, by=("group",), step="event", **options
    )


def last_counts(lines):
    found, revisions = {}, defaultdict(list)
    for line in sorted(lines, key=lambda line: line.revision):
        assert line.cohort_end == line.cohort_start + DAY
        found[line.group, line.cohort_start] = [line.visit, line.order, line.again]
        revisions[line.group, line.cohort_start].append(line.revision)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in revisions.values())
    return found


@settings(max_examples=60, deadline=None)
@given(seen, st.integers(1, 30), st.integers(1, 6))
def test_users_are_counted_by_the_chain_that_gets_furthest(rows, hours, batch_size):
    lines = funnel(rows, hours * HOUR, batch_size).execute_and_collect()
    assert last_counts(lines) == by_definition(rows, hours * HOUR)


def rig(snapshot=None, lateness_ms=DAY):
    """The keyed function alone: two steps, two hours from the first to the second."""
    schema, late = SEEN.select(["user", "group", "time"]), OutputTag("late")
    limits = Limits(2 * HOUR, (0, 0))
    function = SessionFunnel(schema, ("user", "group"), ["visit", "order"], limits, HOUR, "day", lateness_ms, late)
    return Rig(function, snapshot)


MARKED = Schema.of(user=int, group=str, time=int, funnel_steps=int)
VISIT, ORDER = 1, 2


@pytest.mark.parametrize("restored", [False, True])
def test_late_steps_count_until_the_lateness_is_over(restored):
    job = rig()
    job.feed([(1, "a", HOUR, VISIT), (2, "a", 5 * HOUR, ORDER)], MARKED)
    assert job.take() == []
    job.advance(DAY)
    assert job.take() == [("a", 0, DAY, 2 * HOUR - 1, 1, 0)]
    if restored:
        job = rig(job.snapshot())
    job.feed([(1, "a", 2 * HOUR, ORDER), (2, "a", 4 * HOUR, VISIT), (2, "a", HOUR, VISIT)], MARKED)
    assert job.take() == [("a", 0, DAY, DAY - 1, 0, 1), ("a", 0, DAY, DAY - 1, 1, 1)]
    job.advance(2 * DAY + 2 * HOUR - 2)
    job.feed([(3, "a", 0, VISIT)], MARKED)
    assert job.take() == [("a", 0, DAY, 2 * DAY + HOUR - 1, 1, 0)]
    job.advance(2 * DAY + 2 * HOUR - 1)
    if restored:
        job = rig(job.snapshot())
    job.feed([(3, "a", 1, ORDER), (3, "a", DAY, ORDER)], MARKED)
    assert job.take() == []
    assert job.late == [(3, "a", 1, ORDER)]
    assert [len(state) for state in job.snapshot()[1].values()] == [0, 1]  # the first day's steps are gone


def test_one_watermark_may_end_many_periods():
    job = rig(lateness_ms=0)
    job.feed([(1, "a", day * DAY + HOUR, step) for day in range(9) for step in (VISIT, ORDER)], MARKED)
    job.advance(8 * DAY)
    assert [change[-2:] for change in job.take()] == [(1, 1)] * 8
    assert [len(state) for state in job.snapshot()[1].values()] == [2, 1]  # what waits; the last of the eight days


def test_without_lateness_steps_are_kept_for_good():
    job = rig(lateness_ms=None)
    job.advance(1000 * DAY)
    job.feed([(1, "a", 0, VISIT)], MARKED)
    assert job.take() == [("a", 0, DAY, 1000 * DAY - 1, 1, 0)]
    assert job.late == []


def test_wrong_arguments_are_refused():
    stream = StreamEnvironment().from_values([], SEEN)
    with pytest.raises(StreamcoreError, match="of 1 steps"):
        session_funnel(stream, "user", ["visit"], within=1, every=1, step="event")
    with pytest.raises(StreamcoreError, match="'visit'"):
        session_funnel(stream, "user", ["visit", "order"], within=1, every=1)
    with pytest.raises(StreamcoreError, match="needs the fields player, time"):
        session_funnel(stream, "player", NAMES, within=1, every=1, step="event")
    with pytest.raises(StreamcoreError, match="times"):
        session_funnel(stream, "user", NAMES, within=0, every=1, step="event")
    with pytest.raises(StreamcoreError, match="'hour'"):
        session_funnel(stream, "user", NAMES, within=1, every=1, step="event", period="hour")
    with pytest.raises(StreamcoreError, match="one name"):
        session_funnel(stream, "user", ["visit", "visit"], within=1, every=1, step="event")
