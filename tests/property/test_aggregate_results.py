"""Every aggregate is that of NumPy or plain Python over the records of its window, however the job runs."""

from __future__ import annotations

import datetime
import itertools
import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamcore import (
    Columns,
    Schema,
    StreamEnvironment,
    Windows,
    approx_count_distinct,
    bounded_out_of_orderness,
    collect,
    count_distinct,
    count_of,
    first_of,
    last_of,
    max_by,
    max_of,
    mean,
    median,
    min_by,
    min_of,
    quantile,
    std_of,
    sum_of,
    top_values,
    var_of,
)
from streamcore.batch import to_columns
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.runtime.event_time import EventTime
from streamcore.state.accumulators import fresh
from streamcore.testing import MemorySink

RECORD = Schema.of(
    word=str, t=int, n=int, x=float, maybe=int | None, half=float | None, name=str | None, at=datetime.datetime
)
BOUND = 8


class Row(NamedTuple):
    word: str
    t: int
    n: int
    x: float
    maybe: int | None
    half: float | None
    name: str | None
    at: datetime.datetime


class Setting(NamedTuple):
    """How the job runs, which must not matter."""

    batch_size: int
    splits: int
    parallelism: int
    two_stage: bool
    as_columns: bool


SETTINGS = st.builds(
    Setting, st.sampled_from([1, 3, 8192]), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.booleans()
)


def there(values):
    return [value for value in values if value is not None]


def or_none(function):
    return lambda values: function(values) if values else None


def column(name, function):
    return lambda rows: function(there([getattr(row, name) for row in rows]))


def spread(function, ddof):
    return lambda values: float(function(values, ddof=ddof)) if len(values) > ddof else math.nan


def at_best(name, by, best):
    def reference(rows):
        able = [row for row in rows if getattr(row, by) is not None]
        return getattr(best(able, key=lambda row: getattr(row, by)), name) if able else None

    return reference


def by_time(rows):
    return sorted(rows, key=lambda row: row.t)


def highest(name, by, k):
    def reference(rows):
        able = [row for row in rows if getattr(row, name) is not None and getattr(row, by) is not None]
        return [getattr(r, name) for r in sorted(able, key=lambda r: (-getattr(r, by), getattr(r, name)))[:k]]

    return reference


def rounded_quantile(q):
    return lambda values: float(np.quantile(values, q)) if values else math.nan


AGGREGATES = {
    "count_of": (count_of("maybe"), column("maybe", len)),
    "count_of_text": (count_of("name"), column("name", len)),
    "sum_maybe": (sum_of("maybe"), column("maybe", or_none(sum))),
    "mean_maybe": (mean("maybe"), column("maybe", or_none(np.mean))),
    "min_half": (min_of("half"), column("half", or_none(min))),
    "max_maybe": (max_of("maybe"), column("maybe", or_none(max))),
    "min_at": (min_of("at"), column("at", min)),
    "max_at": (max_of("at"), column("at", max)),
    "var": (var_of("n"), column("n", spread(np.var, 1))),
    "std": (std_of("x", ddof=0), column("x", spread(np.std, 0))),
    "var_half": (var_of("half"), column("half", spread(np.var, 1))),
    "first": (first_of("n"), lambda rows: by_time(rows)[0].n),
    "first_at": (first_of("at"), lambda rows: by_time(rows)[0].at),
    "first_name": (first_of("name"), lambda rows: next(iter(there([r.name for r in by_time(rows)])), None)),
    "last": (last_of("x"), lambda rows: by_time(rows)[-1].x),
    "last_maybe": (last_of("maybe"), lambda rows: next(iter(there([r.maybe for r in by_time(rows)][::-1])), None)),
    "min_by": (min_by("n", "t"), at_best("n", "t", min)),
    "max_by": (max_by("name", "t"), at_best("name", "t", max)),
    "distinct": (count_distinct("n"), column("n", lambda values: len(set(values)))),
    "distinct_name": (count_distinct("name"), column("name", lambda values: len(set(values)))),
    "distinct_at": (count_distinct("at"), column("at", lambda values: len(set(values)))),
    "approx": (approx_count_distinct("name"), column("name", lambda values: len(set(values)))),
    "approx_half": (approx_count_distinct("half"), column("half", lambda values: len(set(values)))),
    "quantile": (quantile("x", 0.3), column("x", rounded_quantile(0.3))),
    "median": (median("maybe"), column("maybe", rounded_quantile(0.5))),
    "top": (top_values("half", 3), highest("half", "half", 3)),
    "top_by": (top_values("name", 2, by="n"), highest("name", "n", 2)),
    "collect": (collect("n"), lambda rows: [r.n for r in by_time(rows)]),
    "collect_name": (collect("name"), lambda rows: there([r.name for r in by_time(rows)])),
    "collect_at": (collect("at"), lambda rows: [r.at for r in by_time(rows)]),
}

VALUES = st.tuples(
    st.sampled_from(["a", "b"]),
    st.integers(-20, 20),
    st.integers(-100, 100).map(lambda n: n / 2),
    st.one_of(st.none(), st.integers(-5, 5)),
    st.one_of(st.none(), st.integers(-5, 5).map(lambda n: n / 2)),
    st.one_of(st.none(), st.sampled_from(["", "ü", "lang " * 5, "z"])),
    st.integers(-3, 3).map(lambda n: datetime.datetime(1970, 1, 1) + n * datetime.timedelta(days=1, microseconds=1)),  # noqa: DTZ001
)


@st.composite
def streams(draw):
    """Records of different times, at most BOUND ms out of order."""
    times = draw(st.lists(st.integers(0, 60), unique=True, max_size=30))
    coming = sorted((t + draw(st.integers(0, BOUND)), t) for t in times)
    return [Row(word, t, *values) for (_, t), (word, *values) in ((c, draw(VALUES)) for c in coming)]


def run(setting, rows, build):
    def make(start, stop):
        return to_columns(rows[start:stop], RECORD) if setting.as_columns else rows[start:stop]

    env, sink = (
        StreamEnvironment(
            "aggregates",
            parallelism=setting.parallelism,
            batch_size=setting.batch_size,
            buffer_timeout=0.0,
            two_stage=setting.two_stage,
        ),
        MemorySink(),
    )
    source = GeneratorSource(make, count=len(rows), splits=setting.splits, schema=RECORD)
    build(env, source).sink(sink)
    env.execute()
    return sink.committed


def close(got, wanted):
    if isinstance(wanted, float) and isinstance(got, float):
        return got == pytest.approx(wanted, rel=1e-9, abs=1e-9, nan_ok=True)
    return got == wanted and (got is None) == (wanted is None)


def check(results, groups, names):
    assert len(results) == len(groups)
    for record in results:
        place, values = tuple(record[: -len(names)]), record[-len(names) :]
        for name, got in zip(names, values, strict=True):
            assert close(got, AGGREGATES[name][1](groups[place])), (name, got, groups[place])


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    streams(),
    st.builds(Windows, st.integers(1, 25), st.integers(1, 25)),
    st.lists(st.sampled_from(sorted(AGGREGATES)), min_size=1, max_size=5, unique=True),
    SETTINGS,
)
def test_aggregates_of_windows(rows, windows, names, setting):
    chosen = {name: AGGREGATES[name][0] for name in names}

    def build(env, source):
        stream = env.source(source, watermarks=bounded_out_of_orderness("t", BOUND / 1000))
        return stream.key_by("word").window(windows).aggregate(**chosen)

    groups = defaultdict(list)
    for row in rows:
        first = (row.t - windows.size_ms) // windows.every_ms
        for window in range(first, first + windows.size_ms // windows.every_ms + 3):
            start, end = windows.bounds(window)
            if start <= row.t < end:
                groups[row.word, start, end].append(row)
    check(run(setting, rows, build), groups, names)


@settings(deadline=None, max_examples=150)
@given(st.data(), streams(), st.sampled_from(sorted(AGGREGATES)))
def test_parts_may_be_merged_in_any_order(data, rows, name):
    rows = [row for row in rows if row.word == "a"]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    pieces = [rows[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(rows)])]
    bound = AGGREGATES[name][0].bind(RECORD, "here", EventTime("t"))
    kept = {}
    for accumulator in bound.accumulators:
        total, place = fresh(accumulator, 1), np.zeros(1, np.int64)
        for piece in data.draw(st.permutations(pieces)):
            part = fresh(accumulator, 1)
            accumulator.add(part, np.zeros(len(piece), np.int64), to_columns(piece, RECORD))
            sent = [p.decode(p.encode(values)) for p, values in zip(accumulator.parts, part, strict=True)]
            accumulator.merge(total, place, sent)
        kept[accumulator] = total
    if rows:
        result = Columns(Schema(bound.columns), bound.results(kept)).to_rows()
        assert close(result[0][0], AGGREGATES[name][1](rows)), (name, result, rows)


@pytest.mark.parametrize("name", sorted(AGGREGATES))
def test_one_stage_and_two_give_the_same(name):
    chance = np.random.default_rng(len(name))
    rows = []
    for t in range(200):
        name_, maybe, half = chance.integers(0, 4), chance.integers(0, 9), chance.integers(0, 9)
        rows.append(
            Row(
                "ab"[chance.integers(2)],
                int(t),
                int(chance.integers(-9, 9)),
                float(chance.integers(0, 99)) / 2,
                int(maybe) if maybe else None,
                float(half) / 2 if half else None,
                [None, "", "b", "ü"][name_],
                datetime.datetime(2020, 1, 1 + int(t) % 28),  # noqa: DTZ001
            )
        )

    def build(env, source):
        stream = env.source(source, watermarks=bounded_out_of_orderness("t", 0.3))
        return stream.key_by("word").aggregate(**{name: AGGREGATES[name][0]})

    groups = defaultdict(list)
    for row in rows:
        groups[(row.word,)].append(row)
    for two_stage in (False, True):
        check(run(Setting(16, 2, 2, two_stage, as_columns=True), rows, build), groups, [name])


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(0, 99)), min_size=1, max_size=30),
    st.booleans(),
    st.sampled_from([1, 4, 8192]),
    st.booleans(),
)
def test_records_of_one_time_stay_in_the_order_in_which_they_came(triples, has_time, batch_size, two_stage):
    """By one way - one split, one subtask before the exchange - the order of arrival is that of the source."""
    moment = datetime.datetime(2020, 1, 1)  # noqa: DTZ001
    rows = [Row(word, t, n, 0.0, None, None, str(n), moment) for word, t, n in triples]
    ordered = by_time(rows) if has_time else rows

    def build(env, source):
        marks = bounded_out_of_orderness("t", 0.01) if has_time else None
        stream = env.source(source, watermarks=marks).key_by("word")
        return stream.aggregate(first_of("n"), last_of("n"), collect("n"), min_by("name", "t"), max_by("n", "t"))

    results = run(Setting(batch_size, 1, 1 + two_stage, two_stage, as_columns=True), rows, build)
    assert {record.word for record in results} == {row.word for row in rows}
    for word, *got in results:
        mine = [row for row in ordered if row.word == word]
        came = [row for row in rows if row.word == word]
        lowest, latest = min(came, key=lambda r: r.t), max(came, key=lambda r: r.t)
        assert got == [mine[0].n, mine[-1].n, [row.n for row in mine], lowest.name, latest.n]
