"""key_by with scan, reduce and count, against dictionaries."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

from streamcore import Columns, Schema, StreamEnvironment


@dataclass(frozen=True)
class Visit:
    user: str
    page: int
    seconds: float
    country: str | None = None


class Pair(NamedTuple):
    a: int
    b: str


VISITS = [Visit(f"u{i * 7 % 5}", i % 3, float(i), None if i % 4 else f"c{i % 8}") for i in range(60)]
WORDS = ["to", "be", "or", "not", "to", "be", "", "ü", "to"] * 5


@pytest.fixture(params=[(1, 8192), (3, 4)], ids=["narrow", "wide"])
def env(request):
    parallelism, batch_size = request.param
    return StreamEnvironment(parallelism=parallelism, batch_size=batch_size)


def running(records, key):
    """(key, 1), (key, 2), … as a multiset: a running count."""
    seen = Counter()
    result = Counter()
    for record in records:
        seen[key(record)] += 1
        result[key(record), seen[key(record)]] += 1
    return result


def test_count_each_on_rows(env):
    results = env.from_values(WORDS).key_by(lambda w: w).count().execute_and_collect()
    assert Counter(results) == running(WORDS, lambda w: w)


def test_count_final_on_rows(env):
    results = env.from_values(WORDS).key_by(lambda w: w).count(emit="final").execute_and_collect()
    assert sorted(results) == sorted(Counter(WORDS).items())


def test_count_each_on_columns(env):
    results = env.from_values(VISITS, Visit).key_by("user").count().execute_and_collect()
    assert Counter((r.user, r.count) for r in results) == running(VISITS, lambda v: v.user)


def test_count_final_on_columns(env):
    results = env.from_values(VISITS, Visit).key_by("page").count(emit="final").execute_and_collect()
    assert sorted((r.page, r.count) for r in results) == sorted(Counter(v.page for v in VISITS).items())


@pytest.mark.parametrize("emit", ["each", "final"])
def test_count_by_two_fields(env, emit):
    stream = env.from_values(VISITS, Visit).key_by(("user", "page")).count(emit=emit)
    results = Counter((r.user, r.page, r.count) for r in stream.execute_and_collect())
    if emit == "each":
        assert results == {(*k, n): c for (k, n), c in running(VISITS, lambda v: (v.user, v.page)).items()}
    else:
        assert results == {(*k, n): 1 for k, n in Counter((v.user, v.page) for v in VISITS).items()}


@pytest.mark.parametrize("emit", ["each", "final"])
def test_count_by_a_field_that_may_be_missing(env, emit):
    stream = env.from_values(VISITS, Visit).key_by("country").count(emit=emit)
    results = Counter((r.country, r.count) for r in stream.execute_and_collect())
    expected = running(VISITS, lambda v: v.country)
    assert results == (expected if emit == "each" else dict.fromkeys(Counter(v.country for v in VISITS).items(), 1))


@pytest.mark.parametrize(
    "declared",
    [np.int32, bool, np.float64, np.uint8],
)
def test_count_by_each_kind_of_number(env, declared):
    values = [declared(i % 2) for i in range(21)]
    columns = Columns.of(n=np.array(values, declared))
    results = env.from_values(columns).key_by("n").count(emit="final").execute_and_collect()
    assert sorted((r.n, r.count) for r in results) == [(0, 11), (1, 10)]


def test_count_on_a_typed_stream_with_a_key_function(env):
    results = env.from_values(VISITS, Visit).key_by(lambda v: v.page % 2).count(emit="final").execute_and_collect()
    assert sorted(results) == sorted(Counter(v.page % 2 for v in VISITS).items())


def test_reduce_each(env):
    pairs = [(w, i) for i, w in enumerate(WORDS)]
    results = env.from_values(pairs).key_by(lambda p: p[0]).reduce(lambda a, b: (b[0], a[1] + b[1]))
    by_key = defaultdict(list)
    for word, i in pairs:
        by_key[word].append(i)
    expected = Counter((w, total) for w, numbers in by_key.items() for total in itertools.accumulate(numbers))
    assert Counter(results.execute_and_collect()) == expected


def test_reduce_final(env):
    results = (
        env.from_values(VISITS, Visit)
        .key_by("user")
        .reduce(lambda a, b: Visit(a.user, max(a.page, b.page), a.seconds + b.seconds), emit="final")
        .execute_and_collect()
    )
    expected = {
        user: (max(v.page for v in VISITS if v.user == user), sum(v.seconds for v in VISITS if v.user == user))
        for user in {v.user for v in VISITS}
    }
    assert {r.user: (r.page, r.seconds) for r in results} == expected
    assert len(results) == len(expected)


def test_reduce_gives_a_lone_record_as_it_is(env):
    assert env.from_values([("k", 5)]).key_by(lambda p: p[0]).reduce(lambda a, b: 1 / 0).execute_and_collect() == [
        ("k", 5)
    ]


def test_scan_sees_the_records_of_a_key_in_order(env):
    records = [(i % 4, i) for i in range(80)]
    results = env.from_values(records).key_by(lambda r: r[0]).scan((), lambda seen, r: ((*seen, r[1]), (r[0], seen)))
    longest = {}
    for key, seen in results.execute_and_collect():
        longest[key] = max(longest.get(key, ()), seen, key=len)
    assert longest == {k: tuple(i for i in range(80) if i % 4 == k)[:-1] for k in range(4)}


def test_scan_starts_each_key_from_the_initial_state(env):
    results = env.from_values(WORDS).key_by(lambda w: w).scan(100, lambda n, w: (n + 1, (w, n)))
    expected = Counter((w, n + 99) for (w, n), c in running(WORDS, lambda w: w).items() for _ in range(c))
    assert Counter(results.execute_and_collect()) == expected


def test_a_scan_can_be_typed(env):
    results = (
        env.from_values(WORDS)
        .key_by(lambda w: w)
        .scan(0, lambda n, w: (n + 1, Pair(n, w)), returns=Pair)
        .filter_batch(lambda c: c["a"] == 0)
        .execute_and_collect()
    )
    assert sorted(results) == sorted(Pair(0, w) for w in set(WORDS))


def test_keys_that_are_equal_in_python_meet(env):
    records = [1, 1.0, True, np.int64(1), 2, 2.0, np.float32(2)]
    results = env.from_values(records).key_by(lambda x: x).count(emit="final").execute_and_collect()
    assert sorted(results) == [(1, 4), (2, 3)]


def test_records_of_one_key_meet_in_one_subtask_also_from_dicts(env):
    rows = [{"k": f"k{i % 6}", "v": i} for i in range(50)]
    results = env.from_values(rows).key_by("k").count(emit="final").execute_and_collect()
    assert sorted(results) == sorted(Counter(r["k"] for r in rows).items())


@pytest.mark.parametrize("typed", [True, False])
def test_a_tuple_of_one_name_gives_keys_that_are_tuples_in_both_forms(env, typed):
    stream = env.from_values([Pair(1, "x"), Pair(1, "y")], Pair if typed else None)
    results = stream.key_by(("a",)).scan(0, lambda n, p: (n + 1, n)).execute_and_collect()
    assert sorted(results) == [0, 1]
    keys = (
        StreamEnvironment()
        .from_values([Pair(1, "x")], Pair if typed else None)
        .filter_batch(lambda c: c["a"] > 0)
        .key_by(("a",))
        .count()
        if typed
        else StreamEnvironment().from_values([Pair(1, "x")]).key_by(("a",)).count()
    ).execute_and_collect()
    assert [tuple(k) for k in keys] == ([(1, 1)] if typed else [((1,), 1)])


def test_key_by_again_uses_the_new_key(env):
    results = (
        env.from_values(VISITS, Visit)
        .key_by("user")
        .reduce(lambda a, b: b)
        .key_by("page")
        .count(emit="final")
        .execute_and_collect()
    )
    assert sorted((r.page, r.count) for r in results) == sorted(Counter(v.page for v in VISITS).items())


@pytest.mark.parametrize("parallelism", [1, 3])
def test_plain_tuples_on_a_typed_stream_are_keyed_by_position(parallelism):
    env = StreamEnvironment(parallelism=parallelism)
    stream = env.from_values([(1, "a"), (2, "b"), (3, "a")], Schema.of(n=int, s=str))
    counted = stream.key_by("s").count(emit="final").execute_and_collect()
    assert sorted(map(tuple, counted)) == [("a", 2), ("b", 1)]
