"""map, filter, flat_map, map_batch and filter_batch, run in this process against plain Python."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import pytest

from streamcore import Columns, Schema, StreamEnvironment
from streamcore.errors import StreamcoreError, TopologyError

VALUES = list(range(-20, 30))


@dataclass(frozen=True)
class Reading:
    sensor: str
    celsius: float
    note: str | None = None


@dataclass(frozen=True)
class Fahrenheit:
    sensor: str
    degrees: float


READINGS = [Reading(f"s{i % 3}", i / 2, None if i % 5 else f"n{i}") for i in range(40)]


@pytest.fixture(params=[1, 3])
def env(request):
    return StreamEnvironment(parallelism=request.param, batch_size=7)


def test_from_values_gives_each_value_once(env):
    assert sorted(env.from_values(VALUES).execute_and_collect()) == VALUES


def test_from_values_takes_a_function_and_an_empty_list(env):
    assert sorted(env.from_values(lambda: iter(VALUES)).execute_and_collect()) == VALUES
    empty = StreamEnvironment().from_values([]).map(lambda x: 1 / 0)
    assert empty.execute_and_collect() == []


def test_map(env):
    assert sorted(env.from_values(VALUES).map(lambda x: x * x + 1).execute_and_collect()) == sorted(
        x * x + 1 for x in VALUES
    )


def test_map_may_give_none_and_falsy_values(env):
    results = env.from_values([0, 1, 2]).map(lambda x: None if x else 0).execute_and_collect()
    assert sorted(results, key=repr) == [0, None, None]


def test_filter_takes_any_truth_value(env):
    kept = env.from_values(VALUES).filter(lambda x: x % 3).execute_and_collect()
    assert sorted(kept) == [x for x in VALUES if x % 3]


def test_flat_map_over_lists_and_generators(env):
    def repeat(x):
        for i in range(x % 4):
            yield (x, i)

    expected = sorted((x, i) for x in VALUES for i in range(x % 4))
    assert sorted(env.from_values(VALUES).flat_map(repeat).execute_and_collect()) == expected


def test_order_is_kept_along_one_chain():
    env = StreamEnvironment(batch_size=3)
    results = env.from_values(VALUES).map(lambda x: x + 1).filter(lambda x: x % 2).execute_and_collect()
    assert results == [x + 1 for x in VALUES if (x + 1) % 2]


def test_one_stream_can_be_read_twice(env):
    values = env.from_values(VALUES)
    both = values.map(lambda x: ("a", x)).union(values.map(lambda x: ("b", x)))
    assert sorted(both.execute_and_collect()) == sorted((tag, x) for x in VALUES for tag in "ab")


def test_typed_records_stay_objects_of_their_class(env):
    results = env.from_values(READINGS, Reading).filter(lambda r: r.celsius > 5).execute_and_collect()
    assert sorted(results, key=lambda r: r.celsius) == [r for r in READINGS if r.celsius > 5]
    assert {type(r) for r in results} == {Reading}


def test_map_takes_its_type_from_the_annotation(env):
    def convert(reading: Reading) -> Fahrenheit:
        return Fahrenheit(reading.sensor, reading.celsius * 1.8 + 32)

    stream = env.from_values(READINGS, Reading).map(convert)
    assert [field.name for field in stream.schema.fields] == ["sensor", "degrees"]
    assert sorted(stream.execute_and_collect(), key=repr) == sorted(map(convert, READINGS), key=repr)


def test_map_takes_its_type_from_returns(env):
    stream = env.from_values([1, 2, 3]).map(lambda x: Fahrenheit("s", float(x)), returns=Fahrenheit)
    doubled = stream.map_batch(lambda c: c.with_columns(degrees=c["degrees"] * 2))
    assert sorted(r.degrees for r in doubled.execute_and_collect()) == [2.0, 4.0, 6.0]
    assert all(
        isinstance(r, Fahrenheit)
        for r in StreamEnvironment()
        .from_values([1])
        .map(lambda x: Fahrenheit("s", float(x)), returns=Fahrenheit)
        .execute_and_collect()
    )


def test_map_batch_over_numbers_and_text(env):
    def shout(columns: Columns) -> Columns:
        return columns.with_columns(sensor=pc.utf8_upper(columns["sensor"]), celsius=-columns["celsius"])

    results = env.from_values(READINGS, Reading).map_batch(shout).execute_and_collect()
    expected = [Reading(r.sensor.upper(), -r.celsius, r.note) for r in READINGS]
    assert sorted(results, key=repr) == sorted(expected, key=repr)


def test_map_batch_on_an_optional_field_whatever_the_batch_holds():
    """Whether a batch happens to hold a None must not change the stream's type."""
    env = StreamEnvironment(batch_size=2)
    rows = [Reading("s", 1.0, note) for note in ("a", "b", None, "c", "d", None)]
    stream = env.from_values(rows, Reading).map_batch(lambda c: c.with_columns(note=pc.utf8_upper(c["note"])))
    assert [r.note for r in stream.execute_and_collect()] == ["A", "B", None, "C", "D", None]


def test_map_batch_to_another_type(env):
    wanted = Schema.of(sensor=str, degrees=float)
    stream = env.from_values(READINGS, Reading).map_batch(
        lambda c: Columns(wanted, {"sensor": c["sensor"], "degrees": c["celsius"] * 1.8 + 32}), returns=wanted
    )
    results = sorted((r.sensor, r.degrees) for r in stream.execute_and_collect())
    assert results == sorted((r.sensor, r.celsius * 1.8 + 32) for r in READINGS)


def test_filter_batch(env):
    stream = env.from_values(READINGS, Reading).filter_batch(lambda c: (c["celsius"] > 3) & (c["celsius"] < 9))
    assert sorted(stream.execute_and_collect(), key=repr) == sorted(
        (r for r in READINGS if 3 < r.celsius < 9), key=repr
    )


def test_columns_and_rows_alternate(env):
    stream = (
        env.from_values(READINGS, Reading)
        .filter_batch(lambda c: c["celsius"] >= 1)
        .filter(lambda r: r.sensor != "s1")
        .map_batch(lambda c: c.with_columns(celsius=c["celsius"] + 1))
        .map(lambda r: (r.sensor, r.celsius))
    )
    expected = [(r.sensor, r.celsius + 1) for r in READINGS if r.celsius >= 1 and r.sensor != "s1"]
    assert sorted(stream.execute_and_collect()) == sorted(expected)


def test_columns_as_values(env):
    columns = Columns.of(n=np.arange(30))
    results = env.from_values(columns).filter_batch(lambda c: c["n"] % 2 == 0).map(lambda r: r.n)
    assert sorted(results.execute_and_collect()) == list(range(0, 30, 2))


def test_map_batch_of_another_type_than_it_says_is_an_error(env):
    stream = env.from_values(READINGS, Reading).map_batch(lambda c: c.select("sensor"))
    with pytest.raises(TopologyError, match=r"map_batch.*returned \(sensor: string\)"):
        stream.execute_and_collect()


def test_map_batch_that_returns_no_columns_is_an_error(env):
    with pytest.raises(TopologyError, match="returned list, not Columns"):
        env.from_values(READINGS, Reading).map_batch(lambda c: c.to_rows()).execute_and_collect()


def test_filter_batch_with_a_short_mask_is_an_error(env):
    with pytest.raises(TopologyError, match="mask given to filter_batch has 2 values"):
        env.from_values(READINGS, Reading).filter_batch(lambda c: [True, False]).execute_and_collect()


def test_a_record_that_is_not_of_the_stream_s_type_is_named():
    stream = StreamEnvironment().from_values([Reading("a", 1.0), Reading("b", "warm")], Reading)
    with pytest.raises(StreamcoreError, match=r"Reading\(sensor='b'.*field 'celsius' is 'warm'"):
        stream.map_batch(lambda c: c).execute_and_collect()
