"""The benchmark's data is what its page says, and its right results are right: both against plain Python."""

from __future__ import annotations

import collections
import csv
import dataclasses

import polars as pl
import pyarrow.parquet as pq
import pytest

from tests.bench import data, expected
from tests.bench.workload import WORKLOADS

ROWS = 60_000
BY_ID = {workload.id: workload for workload in WORKLOADS}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return data.make(ROWS, tmp_path_factory.mktemp("bench-data"))


def lines(paths):
    for path in paths:
        with path.open(newline="") as file:
            yield from list(csv.reader(file))


@pytest.fixture(scope="module")
def sensors(inputs):
    return [(int(s), int(t), float(v)) for s, t, v in lines(inputs.paths("sensors", "csv", header=False))]


@pytest.fixture(scope="module")
def words(inputs):
    return [(int(time), word) for time, word in lines(inputs.paths("timed-words", "csv", header=False))]


def answer(inputs, workload):
    """The right result as a dictionary from the key's values to the others."""
    frame = expected.expected(BY_ID[workload], inputs)
    key = len(BY_ID[workload].key)
    return {row[:key]: row[key:] for row in frame.select(BY_ID[workload].result).iter_rows()}


@pytest.mark.parametrize("data_set", data.DATA_SETS)
def test_all_forms_of_a_data_set_hold_the_same_records(inputs, data_set):
    whole = list(lines(inputs.paths(data_set, "csv", header=False)))
    assert len(whole) == ROWS
    headed = list(lines(inputs.paths(data_set, "csv")))
    assert headed[1:] == whole
    parquet = pl.read_parquet(inputs.paths(data_set, "parquet"))
    assert parquet.columns == headed[0]
    typed = [tuple(map(type(one), text)) for one, text in zip(parquet.row(0), zip(*whole, strict=True), strict=True)]
    assert list(zip(*typed, strict=True)) == parquet.rows()
    assert pq.ParquetFile(inputs.paths(data_set, "parquet")[0]).num_row_groups == 10
    halves = list(lines(inputs.paths(data_set, "csv", files=2, header=False)))
    assert collections.Counter(map(tuple, halves)) == collections.Counter(map(tuple, whole))
    assert pl.read_parquet(inputs.paths(data_set, "parquet", files=2)).height == ROWS


def test_a_sensor_is_in_one_gateway_and_keeps_its_order(inputs, sensors):
    for part, path in enumerate(inputs.paths("sensors", "csv", files=2, header=False)):
        gateway = [(int(s), int(t), float(v)) for s, t, v in lines([path])]
        assert gateway == [row for row in sensors if row[0] % 2 == part]


def test_event_time_is_out_of_order_by_less_than_its_bound(sensors, words):
    for times, bound in (([row[1] for row in sensors], 5_000), ([row[0] for row in words], 1_000)):
        newest, behind = times[0], 0
        for time in times:
            newest = max(newest, time)
            behind = max(behind, newest - time)
        assert bound / 2 < behind < bound
        assert (max(times) - data.START_MS) // 1_000 == ROWS // data.ROWS_PER_SECOND - 1


def test_words_have_a_long_tail():
    counts = collections.Counter(data.timed_words(200_000)["word"].to_pylist()).most_common()
    assert len(counts) > 20_000
    assert 1.9 < counts[0][1] / counts[1][1] < 2.4  # 2 to the 1.1


def test_the_same_seed_makes_the_same_data():
    assert data.sensors(1_000).equals(data.sensors(1_000))
    assert data.timed_words(1_000).equals(data.timed_words(1_000))


def test_word_counts(inputs, words):
    assert answer(inputs, "word-count") == {
        (word,): (count,) for word, count in collections.Counter(word for _, word in words).items()
    }


@pytest.mark.parametrize(("workload", "every"), [("tumbling", 5_000), ("sliding", 1_000)])
def test_windows(inputs, sensors, workload, every):
    groups = collections.defaultdict(list)
    for sensor, time, value in sensors:
        newest = time // every * every
        for start in range(newest, time - 5_000, -every):
            groups[sensor, start].append(value)
    found = answer(inputs, workload)
    assert found.keys() == groups.keys()
    for key, values in groups.items():
        assert found[key] == (pytest.approx(sum(values) / len(values), rel=1e-12), len(values))


def test_ewma(inputs, sensors):
    means, alerts, totals = {}, collections.Counter(), collections.Counter()
    for sensor, _, value in sensors:
        means[sensor] = 0.1 * value + 0.9 * means[sensor] if sensor in means else value
        alerts[sensor] += abs(value - means[sensor]) > 3.0
        totals[sensor] += means[sensor]
    found = answer(inputs, "ewma")
    assert {sensor: count for (sensor,), (count, _) in found.items()} == dict(alerts)
    assert {sensor: total for (sensor,), (_, total) in found.items()} == pytest.approx(dict(totals), rel=1e-12)


def test_trending(inputs, words):
    counts = collections.defaultdict(collections.Counter)
    for time, word in words:
        counts[time // 10_000 * 10_000][word] += 1
    wanted = {}
    for start, counter in counts.items():
        for word, count in sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:10]:
            wanted[start, word] = (count,)
    assert answer(inputs, "trending") == wanted


def test_python_map(inputs, sensors):
    values = [value * 9 / 5 + 32 for _, _, value in sensors]
    wanted = (len(values), sum(values), min(values), max(values))
    assert answer(inputs, "python-map")[()] == pytest.approx(wanted, rel=1e-12)


def as_written(inputs, workload, folder, change=lambda frame: frame):
    folder.mkdir()
    change(expected.expected(workload, inputs)).write_csv(folder / "part.csv", include_header=False)
    return expected.difference(workload, inputs, folder)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.id)
def test_a_right_result_is_found_right_and_a_wrong_one_is_not(inputs, workload, tmp_path):
    assert as_written(inputs, workload, tmp_path / "right") == ""
    mixed = as_written(inputs, workload, tmp_path / "mixed", lambda frame: frame.sample(fraction=1, shuffle=True))
    assert mixed == ""
    assert "rows instead of" in as_written(inputs, workload, tmp_path / "less", lambda frame: pl.concat([frame, frame]))
    number = workload.result[-1]
    wrong = as_written(inputs, workload, tmp_path / "wrong", lambda f: f.with_columns(pl.col(number) * 1.001 + 1))
    assert wrong == f"column {number} differs"


def test_no_result_is_no_right_result(inputs, tmp_path):
    assert expected.difference(BY_ID["word-count"], inputs, tmp_path) == "no result"


def test_a_float_may_differ_in_its_last_digits(inputs, tmp_path):
    tumbling = dataclasses.replace(BY_ID["tumbling"])
    assert as_written(inputs, tumbling, tmp_path / "a", lambda f: f.with_columns(pl.col("mean") * (1 + 1e-12))) == ""
    far = as_written(inputs, tumbling, tmp_path / "b", lambda f: f.with_columns(pl.col("mean") * (1 + 1e-7)))
    assert far == "column mean differs"
