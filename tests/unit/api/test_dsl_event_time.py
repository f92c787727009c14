"""What becomes of records with a bad event time, through a whole topology; and where event time is carried."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from streamcore import (
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    col,
    count,
    monotonous,
    seconds,
    tumbling,
)
from streamcore.connectors.iterable_source import IterableSource
from streamcore.errors import BadRecordError, TopologyError

YEAR_2100 = 4_102_444_800_000
READING = Schema.of(sensor=str, time=int | None)
ROWS = [("a", 1), ("a", 2), ("a", None), ("a", YEAR_2100), ("a", 999), ("a", -1), ("a", 1500)]
STRATEGY = bounded_out_of_orderness("time", seconds(1))


def read(rows, strategy, schema=READING, batch_size=1):
    return StreamEnvironment(batch_size=batch_size).source(IterableSource(rows, schema), watermarks=strategy)


def counted(stream):
    counts = stream.key_by("sensor").window(tumbling(seconds(1))).aggregate(count())
    return sorted((r.window_start, r.count) for r in counts.execute_and_collect())


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("policy", ["skip", "side_output"])
def test_one_time_far_ahead_does_not_make_all_that_follows_late(batch_size, policy):
    """The known trap: believed, it would close every window until the year 2100."""
    assert counted(read(ROWS, STRATEGY.with_bad_times(policy), batch_size=batch_size)) == [(0, 3), (1000, 1)]
    rows = [(sensor, time) for sensor, time in ROWS if time is not None]
    believed = STRATEGY.with_bad_times("skip", max_ahead=None, min_time=None)
    assert len(counted(read(rows, believed, Schema.of(sensor=str, time=int), batch_size=1))) == 2
    assert (1000, 1) not in counted(read(rows, believed, Schema.of(sensor=str, time=int), batch_size=1))


def test_the_job_fails_by_default_and_names_operator_split_record_and_remedy():
    rows = [("a", 1), ("b", YEAR_2100)]
    with pytest.raises(BadRecordError) as caught:
        read(rows, STRATEGY, Schema.of(sensor=str, time=int)).print().execute_and_collect()
    for part in (
        "operator 'IterableSource' (test_dsl_event_time.py:",
        "split 'all': the event time 'time' of record Record(sensor='b', time=4102444800000)",
        "years ahead of the clock",
        "with_bad_times('skip')",
    ):
        assert part in str(caught.value)


def test_a_field_that_may_be_missing_needs_a_policy():
    with pytest.raises(TopologyError, match=r"source \(test_dsl_event_time.py:\d+\): field time[\s\S]*with_bad_times"):
        read(ROWS, STRATEGY)
    with pytest.raises(BadRecordError, match=r"Record\(sensor='a', time=None\) is missing: its field 'time' is empty"):
        counted(read(ROWS, STRATEGY.with_bad_times("fail")))


def test_the_side_output_of_a_source():
    source = read(ROWS, STRATEGY.with_bad_times("side_output"))
    bad = source.bad_records().execute_and_collect()
    assert [record.text for record in bad] == [
        "Record(sensor='a', time=None)",
        f"Record(sensor='a', time={YEAR_2100})",
        "Record(sensor='a', time=-1)",
    ]
    assert {record.split for record in bad} == {"all"}
    assert "event time 'time' is missing" in bad[0].reason


def test_the_side_output_of_assign_watermarks():
    timed = (
        StreamEnvironment()
        .from_values(ROWS)
        .assign_watermarks(monotonous(lambda row: row[1]).with_bad_times("side_output"))
    )
    bad = timed.bad_records().execute_and_collect()
    assert [(record.text, record.split) for record in bad] == [
        (repr(row), "subtask 0") for row in ROWS if row[1] in (None, YEAR_2100, -1)
    ]
    assert timed.execute_and_collect() == [row for row in ROWS if row[1] not in (None, YEAR_2100, -1)]
    with pytest.raises(TopologyError, match="only sources and assign_watermarks have bad records"):
        timed.map(lambda row: row).bad_records()


def test_only_sources_align():
    with pytest.raises(TopologyError, match=r"assign_watermarks \(.*\): only a source can wait for others"):
        StreamEnvironment().from_values(ROWS).assign_watermarks(
            monotonous(lambda row: row[1]).with_alignment("g", max_drift=seconds(1))
        )


# --- carried event time -----------------------------------------------------------------------------------------


class Pair(NamedTuple):
    sensor: str
    at: int


PAIRS = [Pair("a", 1), Pair("a", 5), Pair("b", 2000)]


def by_function(env):
    return env.source(IterableSource(PAIRS, Pair), watermarks=monotonous(lambda pair: pair.at))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s,
        lambda s: s.filter(lambda pair: pair.at != 5),
        lambda s: s.filter(lambda pair: pair.at != 5, compiled=False),
        lambda s: s.filter(col("at") != 5),
        lambda s: s.filter_batch(lambda columns: columns["at"] != 5),
        lambda s: s.rebalance().filter(col("at") != 5),
        lambda s: s.union(s),
        lambda s: s.broadcast().filter(col("at") > 0),
    ],
)
def test_event_time_by_a_function_stays_where_records_stay_the_same(change):
    stream = change(by_function(StreamEnvironment()))
    expected = {}
    for pair in change(by_function(StreamEnvironment())).execute_and_collect():
        place = (pair.sensor, pair.at // 1000 * 1000)
        expected[place] = expected.get(place, 0) + 1
    counts = stream.key_by("sensor").window(tumbling(seconds(1))).aggregate(count())
    assert {(r.sensor, r.window_start): r.count for r in counts.execute_and_collect()} == expected


def test_event_time_by_a_function_is_lost_where_records_change():
    stream = by_function(StreamEnvironment()).map(lambda pair: pair, returns=Pair)
    with pytest.raises(TopologyError, match="has no event time"):
        stream.key_by("sensor").window(tumbling(seconds(1)))
    other = by_function(StreamEnvironment())
    unequal = other.union(other._env.source(IterableSource(PAIRS, Pair), watermarks=monotonous("at")))
    with pytest.raises(TopologyError, match="has no event time"):
        unequal.key_by("sensor").window(tumbling(seconds(1)))
