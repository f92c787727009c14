from __future__ import annotations

import gzip
import json

import polars as pl
import pytest

from streamcore.batch import to_rows
from streamcore.connectors import data_file
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.data_file import open_data_file
from streamcore.errors import ConnectorError, UsageError


def rows_of(source):
    (split,) = source.splits()
    reader = source.reader(split, None, ReaderContext(lambda: None, lambda: 0.0, pytest.fail))
    rows = []
    while not reader.exhausted:
        rows += [row._asdict() if hasattr(row, "_asdict") else row for row in to_rows(reader.poll(1000) or [])]
    reader.close()
    return rows


CSV = 'user,rating,at,ok,note\n1,4.0,2013-01-01 00:00:00,true,"a ""b"",\nc"\n2,3.5,2013-01-01T06:00:00Z,false,\n'
ROWS = [
    {"user": 1, "rating": 4.0, "at": "2013-01-01 00:00:00", "ok": True, "note": 'a "b",\nc'},
    {"user": 2, "rating": 3.5, "at": "2013-01-01T06:00:00Z", "ok": False, "note": ""},
]


def test_csv_has_numbers_where_it_can_and_times_as_they_are_written(tmp_path):
    (tmp_path / "a.csv").write_text(CSV)
    (tmp_path / "bom.csv").write_text("\ufeff" + CSV)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    (tmp_path / "a.tsv").write_text("user\trating\n1\t4.0\n2\t\n")
    for name in ("a.csv", "bom.csv", "a.csv.gz"):
        assert rows_of(open_data_file(str(tmp_path / name))) == ROWS
    assert rows_of(open_data_file(str(tmp_path / "a.tsv"))) == [
        {"user": 1, "rating": 4.0},
        {"user": 2, "rating": None},
    ]


def test_csv_without_a_header(tmp_path):
    (tmp_path / "a.csv").write_text("1,x\n2,y\n")
    assert rows_of(open_data_file(str(tmp_path / "a.csv"), ["n", "name"])) == [
        {"n": 1, "name": "x"},
        {"n": 2, "name": "y"},
    ]


def test_a_value_that_is_missing_further_down(tmp_path, monkeypatch):
    monkeypatch.setattr(data_file, "_HEAD_BYTES", 1000)
    (tmp_path / "b.csv").write_text("n,m\n" + "1,2\n" * 500 + "1,\n")
    assert rows_of(open_data_file(str(tmp_path / "b.csv")))[-1] == {"n": 1, "m": None}


def test_json_lines_and_parquet(tmp_path):
    expected = [{"a": 1, "b": {"c": [1]}}, {"a": None}]
    text = "".join(json.dumps(row) + "\n" for row in expected)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.json").write_text(text)
    assert rows_of(open_data_file(str(tmp_path / "a.jsonl.gz"))) == expected
    assert rows_of(open_data_file(str(tmp_path / "a.json"))) == expected
    pl.DataFrame({"a": [1, 2], "b": ["x", None]}).write_parquet(tmp_path / "a.parquet")
    assert rows_of(open_data_file(str(tmp_path / "a.parquet"))) == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]


def test_what_cannot_be_opened(tmp_path):
    for name in ("a.csv", "b.csv", "a.xls", "a.parquet.gz", "empty.csv", "a.json"):
        (tmp_path / name).write_text("" if name == "empty.csv" else "a\n1\n")
    with pytest.raises(ConnectorError, match=r"no file '.*gone\.csv'"):
        open_data_file(str(tmp_path / "gone.csv"))
    with pytest.raises(UsageError, match="stands for 2 files; one is wanted"):
        open_data_file(str(tmp_path / "[ab].csv"))
    for name in ("a.xls", "a.parquet.gz"):
        with pytest.raises(UsageError, match="doesn't say what is in it"):
            open_data_file(str(tmp_path / name))
    with pytest.raises(ConnectorError, match=r"empty\.csv is empty"):
        open_data_file(str(tmp_path / "empty.csv"))
    with pytest.raises(UsageError, match="is no CSV file: its columns have names"):
        open_data_file(str(tmp_path / "a.json"), ["a"])
    (tmp_path / "broken.csv.gz").write_bytes(gzip.compress(CSV.encode())[:30])
    with pytest.raises(ConnectorError, match=r"broken\.csv\.gz can't be read as CSV"):
        open_data_file(str(tmp_path / "broken.csv.gz"))
