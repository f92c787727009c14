"""What becomes of malformed input, through a whole topology."""

from dataclasses import dataclass

import pytest

from streamcore import StreamEnvironment
from streamcore.connectors.csv_source import CsvSource
from streamcore.connectors.json_source import JsonLinesSource
from streamcore.errors import BadRecordError, ConnectorError


@dataclass
class Reading:
    sensor: int
    celsius: float


@pytest.fixture
def readings(tmp_path):
    path = tmp_path / "readings.csv"
    path.write_text("sensor,celsius\n1,20.5\n2,warm\n3,21.5\n")
    return str(path)


def test_by_default_the_job_fails_and_names_file_line_and_text(readings):
    env = StreamEnvironment()
    stream = env.source(CsvSource(readings, Reading))
    with pytest.raises(BadRecordError) as caught:
        stream.execute_and_collect()
    for part in (readings, "line 3", "celsius", "warm", "operator 'CsvSource' (test_bad_records.py:"):
        assert part in str(caught.value)


def test_skipped_records_are_counted(readings):
    env = StreamEnvironment()
    stream = env.source(CsvSource(readings, Reading, on_error="skip"))
    assert stream.execute_and_collect() == [Reading(1, 20.5), Reading(3, 21.5)]


def test_the_side_output_has_what_was_wrong(readings):
    env = StreamEnvironment()
    source = env.source(CsvSource(readings, Reading, on_error="side_output"))
    (bad,) = source.bad_records().execute_and_collect()
    assert (bad.text, bad.split) == ("2,warm", readings)
    assert "3" in bad.position
    assert "celsius" in bad.reason


def test_json_of_another_shape(tmp_path):
    path = tmp_path / "readings.jsonl"
    path.write_text('{"sensor": 1, "celsius": 20.5}\n{"sensor": "one", "celsius": 1}\n')
    with pytest.raises(BadRecordError, match=r"line 2[\s\S]*sensor"):
        StreamEnvironment().source(JsonLinesSource(str(path), Reading)).execute_and_collect()


def test_a_missing_file_is_named_before_anything_runs(tmp_path):
    with pytest.raises(ConnectorError, match=r"nowhere\.csv"):
        StreamEnvironment().source(CsvSource(str(tmp_path / "nowhere.csv"), Reading)).execute_and_collect()


def test_a_missing_column_is_named_with_those_there_are(tmp_path):
    path = tmp_path / "readings.csv"
    path.write_text("sensor,fahrenheit\n1,70\n")
    with pytest.raises(ConnectorError, match=r"'celsius'[\s\S]*sensor, fahrenheit"):
        StreamEnvironment().source(CsvSource(str(path), Reading)).execute_and_collect()
