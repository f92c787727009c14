"""Windows by count in arrays agree with lists of records, however the stream is cut into batches."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Schema
from streamcore.batch import to_columns
from streamcore.state import counted as module
from streamcore.state import key_slots
from streamcore.state.accumulators import COUNT, Accumulator
from streamcore.state.counted import CountTable
from tests.property.in_order import InOrder

RECORD = Schema.of(k=str, n=int)
ACCUMULATORS = (Accumulator("sum", "n"), Accumulator("min", "n"), COUNT, InOrder())
MANY = settings(deadline=None, max_examples=400)


class WindowsByTheBook:
    """After every `every`-th record of a key its last `size` records."""

    def __init__(self, size, every):
        self.size, self.every, self.records = size, every, defaultdict(list)

    def add(self, key, n):
        mine = self.records[key]
        mine.append(n)
        return [(key, self._value(mine))] if len(mine) % self.every == 0 else []

    def _value(self, mine):
        last = mine[-self.size :]
        return sum(last), min(last), len(last), self._order(len(mine), last)

    def _order(self, seen, last):
        """Slices of the greatest common divisor, each from nothing, merged in order."""
        length = next(d for d in range(self.size, 0, -1) if self.size % d == 0 and self.every % d == 0)
        slices = [last[at : at + length] for at in range(0, len(last), length)]
        if self.size == length:
            return InOrder.of(last)
        value = InOrder.first
        for part in slices:
            value = InOrder.merged(value, InOrder.of(part))
        return value


def rows_of(completed):
    if completed is None:
        return []
    keys, values = completed
    numbers = zip(*(array.tolist() for accumulator in ACCUMULATORS for array in values[accumulator]), strict=True)
    return list(zip(keys["k"].to_pylist(), numbers, strict=True))


STEPS = st.lists(
    st.one_of(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(-99, 99)), min_size=1, max_size=40),
        st.sampled_from(["restore", "forget"]),
    ),
    max_size=10,
)


@MANY
@given(STEPS, st.integers(1, 13), st.integers(1, 13), st.sampled_from([1, 1 << 20]))
def test_any_history_agrees_with_the_book(steps, size, every, merged_at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MERGED_AT_ONCE", merged_at_once)
        patch.setattr(key_slots, "SPARE_KEYS", -100)
        book, table = WindowsByTheBook(size, every), CountTable(RECORD.select(["k"]), ACCUMULATORS, size, every)
        for step in steps:
            if step == "restore":
                table, old = CountTable(RECORD.select(["k"]), ACCUMULATORS, size, every), table
                table.restore(old.captured())
            elif step == "forget":
                table._forget_keys()
            else:
                wanted = [result for record in step for result in book.add(*record)]
                assert rows_of(table.add(to_columns(step, RECORD))) == wanted


@pytest.mark.parametrize(("size", "every"), [(3, 3), (2, 4), (3, 2)])
def test_keys_between_two_windows_are_forgotten(size, every, monkeypatch):
    monkeypatch.setattr(key_slots, "SPARE_KEYS", 20)
    monkeypatch.setattr(module, "SPARE_KEYS", 20)
    table = CountTable(RECORD.select(["k"]), ACCUMULATORS, size, every)
    table.add(to_columns([("stays", 1)], RECORD))
    for number in range(200):
        batch = [(f"{number}-{i % 5}", i) for i in range(5 * every)]
        assert len(rows_of(table.add(to_columns(batch, RECORD)))) == 5
    if every >= size:
        assert len(table._keys) < 100
        assert len(table.captured()) == 1
        batch = [("stays", number) for number in range(2, every + 1)]
        assert rows_of(table.add(to_columns(batch, RECORD)))[0][1][2] == size
    else:
        assert len(table._keys) == 1001
