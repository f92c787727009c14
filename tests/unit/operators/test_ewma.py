"""ewma against a plain loop over each key."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Schema, StreamEnvironment, minutes
from streamcore.operators.ewma import EwmaError, ewma

READING = Schema.of(sensor=str, room=int, time=np.int64, celsius=float)
values = st.floats(-50, 50) | st.just(math.nan)
readings = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1), st.integers(0, 10**7), values), max_size=40)


def plain(rows, weight_of):
    """(ewma, expected, spread) of each row; `weight_of(milliseconds since the last)`."""
    state, out = {}, []
    for sensor, room, time, x in rows:
        known = state.get((sensor, room))
        expected = known["mean"] if known else math.nan
        spread = math.sqrt(known["variance"]) if known and known["first"] <= 0.5 else math.nan
        if not math.isnan(x):
            if known is None:
                known = state[sensor, room] = {"mean": x, "variance": 0.0, "first": 1.0, "time": time}
            else:
                weight = weight_of(max(0, time - known["time"]))
                deviation = x - known["mean"]
                known["mean"] = weight * x + (1 - weight) * known["mean"]
                known["variance"] = weight * deviation**2 + (1 - weight) * known["variance"]
                known["first"] *= 1 - weight
                known["time"] = max(time, known["time"])
        out.append((known["mean"] if known else math.nan, expected, spread))
    return out


@settings(max_examples=30, deadline=None)
@given(readings, st.integers(1, 7), st.sampled_from([{"alpha": 0.3}, {"half_life": minutes(30)}]))
def test_every_record_gets_what_a_plain_loop_gives(rows, batch_size, weight):
    stream = StreamEnvironment(batch_size=batch_size).from_values(rows, READING)
    found = ewma(stream, ("sensor", "room"), "celsius", **weight).execute_and_collect()
    expected = plain(rows, lambda ms: weight.get("alpha", 1 - 0.5 ** (ms / 1_800_000)))
    assert [record[:3] for record in found] == [row[:3] for row in rows]
    for record, row in zip(found, expected, strict=True):
        np.testing.assert_allclose(record[4:], row, rtol=1e-9, atol=1e-9)


def test_after_one_half_life_half_of_what_was_is_left():
    stream = StreamEnvironment().from_values([("a", 0, 0, 0.0), ("a", 0, 60_000, 10.0)], READING)
    found = ewma(stream, "sensor", "celsius", half_life=minutes(1)).execute_and_collect()
    assert found[1].ewma == pytest.approx(5.0)
    assert math.isnan(found[1].spread)  # until then the spread is that of nothing


def test_keys_keep_their_own_average_over_several_subtasks():
    rows = [(name, 0, n, float(n)) for n in range(50) for name in "abcdefgh"]
    stream = StreamEnvironment(parallelism=3, batch_size=9).from_values(rows, READING)
    found = ewma(stream, "sensor", "celsius", alpha=0.5).execute_and_collect()
    last = {record.sensor: record.ewma for record in sorted(found, key=lambda record: record.time)}
    assert last == pytest.approx(dict.fromkeys("abcdefgh", plain(rows[::8], lambda _: 0.5)[-1][0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"value": "celsius"}, "either alpha or half_life"),
        ({"value": "celsius", "alpha": 0.1, "half_life": 3.0}, "either alpha or half_life"),
        ({"value": "celsius", "alpha": 0.0}, "alpha is 0.0"),
        ({"value": "celsius", "half_life": 0.0}, "half-life is 0.0"),
        ({"value": "kelvin", "alpha": 0.1}, "'kelvin' must be a plain number"),
        ({"value": "sensor", "alpha": 0.1}, "'sensor' must be a plain number"),
        ({"value": "celsius", "half_life": 1.0, "time": "celsius"}, "whole milliseconds"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(EwmaError, match=message):
        ewma(StreamEnvironment().from_values([], READING), "sensor", **arguments)


def test_a_stream_without_type_and_a_field_of_that_name_are_refused():
    with pytest.raises(EwmaError, match="typed stream"):
        ewma(StreamEnvironment().from_values([1]), "sensor", "celsius", alpha=0.1)
    taken = StreamEnvironment().from_values([], Schema.of(sensor=str, celsius=float, spread=float))
    with pytest.raises(EwmaError, match="'spread'"):
        ewma(taken, "sensor", "celsius", alpha=0.1)
