"""Windows that overlap, made of two stacks, against merging all their slices."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Schema
from streamcore.batch import to_columns
from streamcore.state import key_slots
from streamcore.state.accumulators import COUNT, Part
from streamcore.state.slices import SliceTable
from streamcore.state.sliding import SlidingMerge
from streamcore.state.totals import Totals

PRIME = (1 << 31) - 1
RECORD = Schema.of(k=int, n=int)


class Text:
    """Numbers written one behind the other: the order of merging shows. `merged` counts values."""

    merged = 0

    def merge(self, totals, entries, partial):
        self.merged += len(entries)
        self.append(totals, entries, partial)


class Digits(Text):
    """In base 100, modulo a prime."""

    parts = (Part("text", np.dtype(np.int64), 0), Part("power", np.dtype(np.int64), 1))

    def add(self, totals, entries, batch):
        self.append(totals, entries, [batch["n"], np.full(len(batch), 100)])

    def append(self, totals, entries, partial):
        for entry, text, power in zip(entries.tolist(), partial[0].tolist(), partial[1].tolist(), strict=True):
            totals[0][entry] = (int(totals[0][entry]) * power + text) % PRIME
            totals[1][entry] = int(totals[1][entry]) * power % PRIME


class Words(Text):
    """As objects."""

    parts = (Part("text", np.dtype(object), ""),)

    def add(self, totals, entries, batch):
        self.append(totals, entries, [np.array([f"{n}," for n in batch["n"]], object)])

    def append(self, totals, entries, partial):
        for entry, text in zip(entries.tolist(), partial[0].tolist(), strict=True):
            totals[0][entry] += text


class Case:
    def __init__(self, text=Digits):
        self.text = text()
        self.table = SliceTable(RECORD.select(["k"]), (COUNT, self.text) if text is Digits else (COUNT,))
        if text is Words:  # a table takes objects once they can be written as a column
            self.table.accumulators = (COUNT, self.text)
            self.table._totals = Totals(self.table.accumulators, self.table._pairs.capacity)
            self.table._has_objects = True
        self.sliding = SlidingMerge(self.table)

    def add(self, keys, slices):
        batch = to_columns([(key, 10 + (key + number) % 80) for key, number in zip(keys, slices, strict=True)], RECORD)
        slices = np.array(slices, np.int64)
        self.sliding.touch(self.table.slots_of(batch), slices)
        self.table.add(batch, slices)

    def check(self, window):
        wanted, found = self.table.merged(window), self.sliding.window(window)
        before = self.text.merged
        assert in_words(found) == in_words(wanted)
        self.text.merged = before
        return found


def in_words(groups):
    rows = zip(*(array.tolist() for arrays in groups.values for array in arrays), strict=True)
    words = dict(zip(groups.slots.tolist(), rows, strict=True))
    assert len(words) == len(groups.slots)
    return words


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(2, 9), st.integers(1, 3), st.sampled_from([Digits, Words]))
def test_any_history(seed, length, step, text):
    chance, case, start = random.Random(seed), Case(text), 0
    for _ in range(40):
        window = range(start, start + length)
        for _ in range(chance.choice([0, 1, 1, 4])):
            count = chance.randint(0, 6)
            numbers = [chance.randint(start, start + length + 2) for _ in range(count)]
            case.add([chance.randint(0, 5 + start // 8) for _ in range(count)], numbers)
        if chance.random() < 0.9:
            found = case.check(window)
            given_out = in_words(found)
            case.check(window)
            assert in_words(found) == given_out
        start += step * chance.choice([1, 1, 1, 1, 7])
        case.table.remove([number for number in case.table.slices if number < start])
        if chance.random() < 0.1:
            case.table._forget_keys()


def test_keys_that_are_numbered_anew(monkeypatch):
    monkeypatch.setattr(key_slots, "SPARE_KEYS", 0)
    case = Case()
    case.add([*range(100), 3, 50], [0] * 100 + [1, 2])
    case.check(range(3))
    before = case.table.numbering
    case.table.remove([0])
    assert case.table.numbering > before
    case.add([200], [3])
    assert len(case.check(range(1, 4)).slots) == 3


@pytest.mark.parametrize("length", [10, 60])
def test_a_slice_is_merged_a_constant_number_of_times(length):
    case, keys = Case(), 20
    for start in range(300):
        case.add(list(range(keys)), [start] * keys)
        case.sliding.window(range(start - length + 1, start + 1))
        case.table.remove([start - length + 1])
        case.table.remove([number for number in case.table.slices if number <= start - length + 1])
    assert case.text.merged < 4 * 300 * keys


@pytest.mark.parametrize(("behind", "share"), [(1, 0.6), (5, 1.0), (20, 3.0)])
def test_records_behind_cost_a_bounded_share_of_what_merging_all_slices_would(behind, share):
    """The worst case, a record behind for every key in every window, is a new front for each."""
    case, keys, length, naive = Case(), 20, 30, 0
    for start in range(200):
        case.add(list(range(keys)), [start] * keys)
        late = [(start * 7 + i) % keys for i in range(behind)]
        case.add(late, [max(start - 5, 0)] * behind)
        before = case.text.merged
        window = range(start - length + 1, start + 1)
        case.table.merged(window)
        naive, case.text.merged = naive + case.text.merged - before, before
        case.sliding.window(window)
        case.table.remove([number for number in case.table.slices if number <= start - length + 1])
    assert case.text.merged < share * naive


def test_nothing_is_merged_where_there_is_nothing():
    case = Case()
    assert len(case.check(range(5)).slots) == 0
    case.add([1], [7])
    assert len(case.check(range(1, 6)).slots) == 0
    assert len(case.check(range(4, 9)).slots) == 1
    assert len(case.check(range(20, 25)).slots) == 0
