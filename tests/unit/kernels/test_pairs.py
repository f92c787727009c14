"""Indexes of pairs that forget, against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.kernels.pair_grid import PairGrid
from streamcore.kernels.pairs import PairIndex, SingleSlice

PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(-3, 3)), max_size=40)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), PAIRS),
        st.tuples(st.just("remove"), st.integers(-3, 3)),
        st.tuples(st.just("rename"), st.integers(1, 9)),
    ),
    max_size=25,
)


def add(index, pairs):
    first = np.array([a for a, _ in pairs], np.int64)
    second = np.array([b for _, b in pairs], np.int64)
    return index.find_or_add(first, second)


def agree(index, known):
    """Every known pair is found under its number, none is made for it, and no number is given twice."""
    assert len(index) == len(known)
    assert len(set(known.values())) == len(known)
    entries, added = add(index, list(known))
    assert entries.tolist() == list(known.values())
    assert len(added) == 0
    assert index.first(entries).tolist() == [a for a, _ in known]
    assert index.second(entries).tolist() == [b for _, b in known]
    assert all(entry < index.capacity for entry in known.values())


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_any_history_agrees_with_a_dictionary(steps):
    index, known = PairIndex(capacity=4), {}
    for action, what in steps:
        if action == "add":
            entries, added = add(index, what)
            new = [pair for pair in dict.fromkeys(what) if pair not in known]
            assert len(added) == len(new)
            for pair, entry in zip(what, entries.tolist(), strict=True):
                assert known.setdefault(pair, entry) == entry
            assert added.tolist() == [known[pair] for pair in new]
        elif action == "remove":
            gone = [pair for pair in known if pair[1] == what]
            index.remove(np.array([known.pop(pair) for pair in gone], np.int64))
        else:
            entries = np.array(list(known.values()), np.int64)[::-1].copy()
            index.replace_first(entries, index.first(entries) + what)
            known = {(a + what, b): entry for (a, b), entry in known.items()}
        agree(index, known)


def test_numbers_of_removed_entries_are_given_out_again():
    index = PairIndex()
    entries, _ = add(index, [(n, 0) for n in range(100)])
    index.remove(entries[:60])
    again, added = add(index, [(n, 1) for n in range(60)])
    assert sorted(again.tolist()) == sorted(entries[:60].tolist())
    assert sorted(added.tolist()) == sorted(again.tolist())
    assert len(index) == 100


def test_an_index_that_lives_long_does_not_grow():
    index = PairIndex()
    for number in range(200):
        entries, _ = add(index, [(n, number) for n in range(100)])
        index.remove(entries)
    assert index.capacity == PairIndex().capacity
    assert len(index) == 0


@pytest.mark.parametrize("value", [-(1 << 63), (1 << 63) - 1])
def test_extreme_numbers(value):
    index = PairIndex()
    entries, added = add(index, [(value, value), (value, -1), (value, value)])
    assert entries[0] == entries[2] != entries[1]
    assert len(added) == 2


def test_pairs_are_found_without_being_added():
    index = PairIndex(capacity=4)
    entries, _ = add(index, [(n, n % 3) for n in range(50)])
    first, second = np.arange(60), np.arange(60) % 3
    assert index.find(first, second).tolist() == [*entries.tolist(), *[-1] * 10]
    assert index.find(first, second + 1).tolist() == [-1] * 60
    assert len(index) == 50


GRID_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(-8, 8), PAIRS),
        st.tuples(st.just("remove"), st.integers(-10, 10), st.just([])),
        st.tuples(st.just("renumber"), st.just(0), st.just([])),
    ),
    max_size=25,
)


@settings(max_examples=200, deadline=None)
@given(GRID_STEPS, st.booleans())
def test_a_grid_agrees_with_a_dictionary_and_with_the_index_it_becomes(steps, becomes_hashed):
    grid, known = PairGrid(capacity=4), {}
    for action, where, pairs in steps:
        if action == "add":
            pairs = [(a, b + where) for a, b in pairs]  # noqa: PLW2901
            slices = [b for _, b in [*known, *pairs]]
            assert grid.reserve(13, min(slices, default=0), max(slices, default=0))
            entries, added = add(grid, pairs)
            new = [pair for pair in dict.fromkeys(pairs) if pair not in known]
            for pair, entry in zip(pairs, entries.tolist(), strict=True):
                assert known.setdefault(pair, entry) == entry
            assert added.tolist() == [known[pair] for pair in new]
        elif action == "remove":
            gone = [pair for pair in known if pair[1] == where]
            grid.remove(np.array([known.pop(pair) for pair in gone], np.int64))
        else:
            entries = np.array(list(known.values()), np.int64)
            grid.replace_first(entries, 12 - grid.first(entries))
            known = {(12 - a, b): entry for (a, b), entry in known.items()}
        index = grid.hashed() if becomes_hashed else grid
        everywhere = [(a, b) for a in range(15) for b in range(-20, 20)]
        found = index.find(*(np.array(column) for column in zip(*everywhere, strict=True)))
        assert found.tolist() == [known.get(pair, -1) for pair in everywhere]
        assert len(index) == len(known)
    if becomes_hashed:
        agree(index := grid.hashed(), known)
        _, added = add(index, [(a, 99) for a in range(40)])
        assert not {*added.tolist()} & {*known.values()}


def test_a_grid_refuses_what_would_leave_it_empty():
    grid = PairGrid()
    assert grid.reserve(1000, 0, 60)
    assert not grid.reserve(1000, 0, 64)
    assert not grid.reserve(100_000, 0, 1)
    assert not grid.reserve(5, -(1 << 62), 1 << 62)
    add(grid, [(a, b) for a in range(1000) for b in range(60)])
    assert grid.reserve(1000, 0, 64)


class TestSingleSlice:
    def test_the_number_of_an_entry_is_its_key(self):
        index = SingleSlice(capacity=2)
        entries, added = add(index, [(5, 0), (0, 0), (5, 0), (300, 0)])
        assert entries.tolist() == [5, 0, 5, 300]
        assert added.tolist() == [5, 0, 300]
        assert len(index) == 3
        assert index.capacity > 300
        assert index.first(entries).tolist() == [5, 0, 5, 300]
        assert index.second(entries).tolist() == [0, 0, 0, 0]

    def test_what_was_removed_is_added_again(self):
        index = SingleSlice()
        add(index, [(1, 0), (2, 0)])
        index.remove(np.array([1]))
        assert len(index) == 1
        assert add(index, [(1, 0), (2, 0)])[1].tolist() == [1]

    def test_nothing_is_added_for_nothing(self):
        assert len(add(SingleSlice(), [])[1]) == 0

    def test_entries_keep_their_numbers(self):
        index = SingleSlice()
        add(index, [(1, 0)])
        with pytest.raises(AssertionError, match="can't be renumbered"):
            index.replace_first(np.array([1]), np.array([2]))
