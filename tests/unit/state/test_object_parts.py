"""Objects as Arrow columns and back; what is merged into an empty place is nobody else's."""

from __future__ import annotations

import datetime
import itertools

import numpy as np
import pyarrow as pa
import pytest

from streamcore import Columns, Schema
from streamcore.batch.codec import decode_saved, encode_saved
from streamcore.batch.wire import WireDecoder, WireEncoder
from streamcore.state.accumulators import COUNT, fresh
from streamcore.state.object_parts import ListCodec, ValueCodec, by_entry, last_rows, object_array
from streamcore.state.picks import ByArrival, ByField, Collected, Highest, Pick
from streamcore.state.sketches import Digest, Distinct, HyperLogLog, estimates, quantiles_of, sizes
from streamcore.state.slices import SliceTable

DAY = datetime.date(2020, 5, 1)
TYPES = [
    (pa.int64(), [3, -1]),
    (pa.uint64(), [(1 << 64) - 1]),
    (pa.bool_(), [True, False]),
    (pa.float64(), [1.5, float("inf")]),
    (pa.string(), ["", "ü"]),
    (pa.binary(), [b"", b"\xff"]),
    (pa.timestamp("ns"), [1_588_000_000_000_000_001]),
    (pa.date32(), [18_383]),
    (pa.duration("us"), [5]),
    (pa.time32("s"), [86_399]),
]


@pytest.mark.parametrize(("type_", "values"), TYPES, ids=[str(type_) for type_, _ in TYPES])
def test_lists_sets_and_values_of_every_type_come_back(type_, values):
    lists = object_array([values, None, [], values[:1]])
    column = ListCodec(type_).encode(lists)
    assert column.type == pa.list_(type_)
    assert ListCodec(type_).decode(column).tolist() == [values, [], [], values[:1]]
    assert ListCodec(type_).decode(column.slice(1)).tolist() == [[], [], values[:1]]
    assert ListCodec(type_, set).decode(column).tolist() == [set(values), set(), set(), set(values[:1])]
    singles = ValueCodec(type_).encode(object_array([values[0], None]))
    assert singles.type == type_
    assert ValueCodec(type_).decode(singles).tolist() == [values[0], None]


def test_rows_by_entry():
    entries = np.array([7, 1 << 40, 7, 7, 3, 1 << 40])
    rows, groups = by_entry(entries)
    assert {entry: rows[start:stop].tolist() for entry, start, stop in groups} == {
        7: [0, 2, 3],
        1 << 40: [1, 5],
        3: [4],
    }
    assert [found.tolist() for found in last_rows(entries)] == [[7, 1 << 40, 3], [3, 5, 4]]
    assert [list(found) for found in by_entry(entries[:0])] == [[], []]


RECORD = Schema.of(key=int, x=float, word=str, day=datetime.date)
OBJECTS = [
    Distinct("word", pa.string()),
    Distinct("day", pa.date32()),
    HyperLogLog("word", 12),
    Digest("x"),
    Highest("word", pa.string(), ByField("x", True), 2),
    Collected("word", pa.string(), ByArrival()),
    Pick("word", pa.string(), False, ByField("x", True), "highest"),
]


def records(count, start=0):
    return Columns.of(
        key=np.arange(count) % 3,
        x=np.arange(start, start + count, dtype=float) * 7 % 11,
        word=pa.array([f"w{i % 4}" for i in range(start, start + count)]),
        day=pa.array([DAY] * count),
    )


def table_of(accumulator, *batches):
    table = SliceTable(RECORD.select(["key"]), [accumulator, COUNT])
    for batch in batches:
        table.add(batch, np.zeros(len(batch), np.int64))
    return table


def shown(table):
    rows = table.partials([0]).to_rows()
    return sorted(tuple(sorted(v) if isinstance(v, list) else v for v in row) for row in rows)


def _plain(column):
    return column.tolist() if isinstance(column, np.ndarray) else column.to_pylist()


@pytest.mark.parametrize("accumulator", OBJECTS, ids=lambda a: a.parts[-1].name)
@pytest.mark.parametrize("count", [1, 40, 4000])
def test_saved_and_restored_parts_are_the_same(accumulator, count):
    table = table_of(accumulator, records(count))
    kind, body = encode_saved(table.partials([0]), allow_pickle=False)
    restored = table_of(accumulator)
    restored.restore(decode_saved(kind, body, allow_pickle=False))
    assert shown(restored) == shown(table)
    for each in (table, restored):
        each.add(records(5, start=count), np.zeros(5, np.int64))
    assert shown(restored) == shown(table)


@pytest.mark.parametrize("accumulator", OBJECTS, ids=lambda a: a.parts[-1].name)
def test_partial_results_travel_to_other_processes(accumulator):
    table = table_of(accumulator, records(40))
    sent = table.partials([0])
    received = WireDecoder(table.partial_schema).decode(*WireEncoder(table.partial_schema).encode(sent))
    merged = table_of(accumulator)
    merged.add_partials(received)
    assert shown(merged) == shown(table)


@pytest.mark.parametrize("accumulator", OBJECTS, ids=lambda a: a.parts[-1].name)
@pytest.mark.parametrize("count", [9, 4000])
def test_what_was_merged_does_not_change_with_what_is_added_later(accumulator, count):
    table = table_of(accumulator, records(count))
    merged = fresh(accumulator, 3)
    entries = np.arange(3)
    accumulator.merge(merged, entries, [total[:3] for total in table._totals.arrays[0]])

    def merged_values():
        return [_plain(part.encode(total)) for part, total in zip(accumulator.parts, merged, strict=True)]

    before = merged_values()
    table.add(records(count, start=count), np.zeros(count, np.int64))
    source = shown(table)
    assert merged_values() == before
    accumulator.add(merged, entries, records(3, start=3 * count + 1))
    assert shown(table) == source


def test_a_removed_entry_lets_its_object_go():
    table = table_of(Distinct("word", pa.string()), records(30))
    table.remove([0])
    assert all(value is None for value in table._totals.arrays[0][0])


@pytest.mark.parametrize("parts", [1, 7])
def test_quantiles_of_large_groups_are_close(parts):
    chance = np.random.default_rng(3)
    values = chance.lognormal(0, 2, 200_000)
    accumulator = Digest("x")
    total = fresh(accumulator, 1)
    for chunk in np.array_split(values, 40 * parts):
        part = fresh(accumulator, 1)
        accumulator.add(part, np.zeros(len(chunk), np.int64), Columns.of(x=chunk))
        accumulator.merge(total, np.zeros(1, np.int64), part)
    ordered = np.sort(values)
    for q, error in ((0.5, 0.015), (0.1, 0.006), (0.9, 0.006), (0.99, 0.001), (0.999, 0.0002)):
        rank = np.searchsorted(ordered, quantiles_of(total[0], q)[0]) / len(values)
        assert abs(rank - q) < error
    assert quantiles_of(total[0], 0.0)[0] == ordered[0]
    assert quantiles_of(total[0], 1.0)[0] == ordered[-1]


@pytest.mark.parametrize("size", [20, 5000])
def test_infinities_stand_at_the_ends_and_nan_is_left_out(size):
    values = np.concatenate([np.arange(size, dtype=float), [np.inf, -np.inf] * (size // 10), [np.nan]])
    values = np.random.default_rng(5).permutation(values)
    total = fresh(Digest("x"), 2)
    Digest("x").add(total, np.zeros(len(values), np.int64), Columns.of(x=values))
    Digest("x").add(total, np.ones(1, np.int64), Columns.of(x=np.array([np.nan])))
    for q, wanted in ((0.0, -np.inf), (0.04, -np.inf), (0.96, np.inf), (1.0, np.inf)):
        assert quantiles_of(total[0], q)[0] == wanted
    assert abs(quantiles_of(total[0], 0.5)[0] - (size - 1) / 2) <= 0.02 * size
    assert np.isnan(quantiles_of(total[0], 0.5)[1])


def test_of_equal_places_the_lowest_values_are_the_highest_whenever_they_come():
    accumulator = Highest("word", pa.string(), ByField("x", True), 2)
    total = fresh(accumulator, 1)
    for words in (["d", "c"], ["e"], ["a"], ["b"]):
        batch = Columns.of(x=np.ones(len(words)), word=pa.array(words))
        accumulator.add(total, np.zeros(len(words), np.int64), batch)
    assert total[2][0] == ["a", "b"]


@pytest.mark.parametrize(
    "column",
    [
        np.arange(-5000, 5000),
        np.arange(1 << 63, (1 << 63) + 10_000, dtype=np.uint64),
        np.arange(10_000) / 3,
        pa.array([f"user {i}" for i in range(10_000)]),
        pa.array([i.to_bytes(3, "big") for i in range(10_000)]),
        pa.array([f"user {i}" for i in range(10_000)]).dictionary_encode(),
        pa.array(range(10_000), pa.timestamp("us")),
        pa.array([*range(10_000), None], pa.uint64()),
    ],
    ids=["int", "uint64", "float", "text", "bytes", "dictionary", "times", "nullable"],
)
def test_estimates_are_within_four_standard_errors(column):
    accumulator = HyperLogLog("v", 12)
    total, again = fresh(accumulator, 1), fresh(accumulator, 1)
    batch = Columns.of(v=column)
    for part in (batch, batch.slice(0, 6000), batch.slice(3000, len(batch))):
        accumulator.add(again, np.zeros(len(part), np.int64), part)
        partial = fresh(accumulator, 1)
        accumulator.add(partial, np.zeros(len(part), np.int64), part)
        accumulator.merge(total, np.zeros(1, np.int64), partial)
    for sketches in (total[0], again[0]):
        assert abs(estimates(sketches)[0] / 10_000 - 1) < 4 * 1.04 / 64


def test_empty_text_counts_as_a_value():
    total = fresh(HyperLogLog("v", 12), 1)
    HyperLogLog("v", 12).add(total, np.zeros(3, np.int64), Columns.of(v=pa.array(["", "a", ""])))
    assert estimates(total[0]).tolist() == [2]


def _merged(accumulator, parts):
    total = fresh(accumulator, 1)
    for batch in parts:
        part = fresh(accumulator, 1)
        accumulator.add(part, np.zeros(len(batch), np.int64), batch)
        sent = [p.decode(p.encode(values)) for p, values in zip(accumulator.parts, part, strict=True)]
        accumulator.merge(total, np.zeros(1, np.int64), sent)
    return total


def test_nan_is_one_value_also_of_parts_that_were_sent():
    part = Columns.of(x=np.array([np.nan, 1.0, np.nan]))
    total = _merged(Distinct("x", pa.float64()), [part, part])
    Distinct("x", pa.float64()).add(total, np.zeros(3, np.int64), part)
    assert sizes(total[0]).tolist() == [2]


def test_of_equal_records_nan_is_the_last_in_whatever_order_they_come():
    highest = Highest("x", pa.float64(), ByField("n", False), 3)
    parts = [Columns.of(n=np.array([n]), x=np.array([x])) for n, x in [(1, np.nan), (1, 2.0), (1, 1.0), (7, np.nan)]]
    for order in itertools.permutations(parts):
        assert np.array_equal(_merged(highest, order)[2][0], [np.nan, 1.0, 2.0], equal_nan=True)
