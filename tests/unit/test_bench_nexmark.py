"""Nexmark's events and queries at a small scale."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from streamcore import Columns, StreamEnvironment
from tests.bench.nexmark.digest import Digest
from tests.bench.nexmark.expected import expected, load
from tests.bench.nexmark.generator import Nexmark
from tests.bench.nexmark.queries import QUERIES, build
from tests.bench.nexmark.run import limit, measure

EVENTS = Nexmark(30_000, rate=500)  # a minute of event time
KINDS = ("persons", "auctions", "bids")


@pytest.mark.parametrize("kind", KINDS)
def test_events_are_the_same_in_whatever_pieces_they_are_made(kind):
    make = getattr(EVENTS, kind)
    whole = make(0, 200)
    assert Columns.concat([make(0, 1), make(1, 47), make(47, 200)]) == whole
    assert (np.diff(whole["time"]) >= 0).all()


def test_of_every_50_events_one_is_a_person_and_three_are_auctions():
    for events in range(120):
        counts = [Nexmark(events).count_of(kind) for kind in KINDS]
        kinds = Counter("persons" if n % 50 < 1 else "auctions" if n % 50 < 4 else "bids" for n in range(events))
        assert counts == [kinds[kind] for kind in KINDS]


def test_chance_is_as_the_specification_says():
    bids, auctions = EVENTS.bids(0, 27_600), EVENTS.auctions(0, 1_800)
    newest = np.arange(27_600) // 46 * 3 + 2
    auction = bids["auction"] - 1000
    assert abs((auction == newest // 100 * 100).mean() - 0.5) < 0.02
    assert ((auction >= newest - 199) & (auction <= newest + 10)).all()
    person = np.arange(27_600) // 46
    assert abs((bids["bidder"] - 1000 == person // 100 * 100 + 1).mean() - 0.75) < 0.02
    assert (bids["bidder"] - 1000 <= person + 10).all()
    assert abs((auctions["seller"] % 100 == 0).mean() - 0.75) < 0.05
    assert np.unique(auctions["category"]).tolist() == [10, 11, 12, 13, 14]
    assert (auctions["expires"] > auctions["time"]).all()
    assert abs(np.log10(bids["price"] / 100).mean() - 3) < 0.05
    assert bids["time"][-1] - bids["time"][0] == pytest.approx(60_000, abs=20)


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("batch_size", [8192, 333])
def test_results_are_those_of_polars(name, batch_size):
    found = build(name, StreamEnvironment(batch_size=batch_size), EVENTS).execute_and_collect()
    right = expected(name, load(name, EVENTS))
    right = right.with_columns(pl.col(pl.Categorical).cast(pl.String))
    assert right.height > 5
    assert Counter(map(tuple, found)) == Counter(right.rows())


@pytest.mark.parametrize("name", sorted(QUERIES.keys() - {"q4"}))
def test_results_do_not_depend_on_parallelism(name):
    """Except in q4, whose running averages are those of the order in which auctions end on two subtasks."""
    found = build(name, StreamEnvironment(parallelism=2), EVENTS).execute_and_collect()
    right = expected(name, load(name, EVENTS)).with_columns(pl.col(pl.Categorical).cast(pl.String))
    assert Counter(map(tuple, found)) == Counter(right.rows())


@pytest.mark.parametrize("name", ["q1", "q5"])
def test_the_benchmark_s_digests_agree_and_see_a_difference(name):
    right = limit(name, EVENTS)[1]
    assert measure(name, EVENTS)[1] == right
    assert measure(name, Nexmark(29_950, rate=500))[1] != right


def test_a_digest_depends_on_each_row_as_a_whole():
    def digest(**arrays):
        made = Digest()
        made.add(Columns.of(**{name: np.array(values) for name, values in arrays.items()}).arrays)
        return str(made)

    assert digest(a=[1, 2], b=[3.0, 4.0]) == digest(a=[2, 1], b=[4.0, 3.0])
    assert digest(a=[1, 2], b=[3.0, 4.0]) != digest(a=[2, 1], b=[3.0, 4.0])
    assert digest(a=[1, 1]) != digest(a=[1])
