from __future__ import annotations

import dataclasses
import errno
import json
import os
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from streamcore.batch import Columns
from streamcore.connectors.base import JobStart, SinkContext
from streamcore.connectors.file_sink import FileSink, read_jsonl
from streamcore.errors import BadRecordError, ConnectorError, UsageError


class Row(NamedTuple):
    n: int
    name: str


@dataclasses.dataclass
class Item:
    n: int
    name: str | None


def writer(sink, subtask=0, parallelism=1, epoch=1):
    return sink.writer(SinkContext(subtask, parallelism, epoch))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_parts_are_hidden_until_committed(tmp_path):
    sink = FileSink(tmp_path / "a" / "out")
    sink.prepare_job(JobStart(restored=False))
    out = tmp_path / "a" / "out"
    w = writer(sink, subtask=3, parallelism=4, epoch=7)
    w.write([])
    assert names(out) == []
    assert w.prepare() == []
    w.write([{"a": 1}])
    w.write([Row(1, "x"), Item(2, None)])
    assert names(out) == [".part-3-7-0.jsonl.inprogress"]
    handles = w.prepare()
    assert handles == json.loads(json.dumps(handles))
    assert handles[0]["size"] == (out / names(out)[0]).stat().st_size
    assert read_jsonl(out) == []
    w.write(["later"])
    w.commit(handles)
    w.commit(handles)
    assert names(out) == [".part-3-7-1.jsonl.inprogress", "part-3-7-0.jsonl"]
    lines = (out / "part-3-7-0.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, {"n": 1, "name": "x"}, {"n": 2, "name": None}]
    assert read_jsonl(out) == [json.loads(line) for line in lines]
    w.close()
    assert names(out) == [".part-3-7-1.jsonl.inprogress", "part-3-7-0.jsonl"]


def test_parts_roll(tmp_path):
    w = writer(FileSink(tmp_path, roll_bytes=10))
    for i in range(3):
        w.write([f"{i} is long enough"])
    handles = w.prepare()
    w.commit(handles)
    assert names(tmp_path) == ["part-0-1-0.jsonl", "part-0-1-1.jsonl", "part-0-1-2.jsonl"]
    assert [value[0] for value in read_jsonl(tmp_path)] == ["0", "1", "2"]


def test_lost_and_changed_parts(tmp_path):
    w = writer(FileSink(tmp_path))
    w.write([1])
    handles = w.prepare()
    hidden = tmp_path / handles[0]["hidden"]
    content = hidden.read_bytes()
    hidden.write_bytes(b"")
    with pytest.raises(ConnectorError, match="was changed: 2 bytes of it were prepared"):
        w.commit(handles)
    hidden.write_bytes(content)
    w.commit(handles)
    (tmp_path / handles[0]["final"]).unlink()
    with pytest.raises(ConnectorError, match=r"output was lost: neither .*part-0-1-0\.jsonl nor"):
        w.commit(handles)


def test_leftovers_of_the_own_share_are_deleted(tmp_path):
    sink = FileSink(tmp_path)
    prepared = []
    for subtask in range(4):
        w = writer(sink, subtask, 4, epoch=1)
        w.write([subtask])
        prepared += w.prepare()
        w.write([subtask])
        w.close()
    later = writer(sink, 0, 2, epoch=9)
    later.write(["of a later attempt"])
    kept = [handle for handle in prepared if handle["hidden"].startswith((".part-0", ".part-2"))]
    w = writer(sink, 0, 2, epoch=2)
    w.abort_leftovers(kept[1:])
    assert names(tmp_path) == sorted(
        [".part-2-1-0.jsonl.inprogress", ".part-0-9-0.jsonl.inprogress"]
        + [f".part-{subtask}-1-{n}.jsonl.inprogress" for subtask in (1, 3) for n in (0, 1)]
    )
    w.commit(kept[1:])
    assert read_jsonl(tmp_path) == [2]
    later.close()


def test_what_an_earlier_run_left(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    w = writer(FileSink(tmp_path))
    w.write([1])
    w.commit(w.prepare())
    w.write([2])
    w.close()
    with pytest.raises(
        ConnectorError, match=r"has the output of an earlier run \(1 parts, such as part-0-1-0\.jsonl\)"
    ):
        FileSink(tmp_path).prepare_job(JobStart(restored=False))
    FileSink(tmp_path).prepare_job(JobStart(restored=True))
    append = FileSink(tmp_path, if_exists="append")
    append.prepare_job(JobStart(restored=False))
    assert len(names(tmp_path)) == 3
    w = writer(append)
    w.abort_leftovers([])
    w.write([3])
    w.commit(w.prepare())
    assert read_jsonl(tmp_path) == [1, 3]
    FileSink(tmp_path, if_exists="replace").prepare_job(JobStart(restored=False))
    assert names(tmp_path) == ["notes.txt"]


def test_directories_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConnectorError, match=r"can't use .*/file for output: File exists"):
        FileSink(tmp_path / "file").prepare_job(JobStart(restored=False))
    with pytest.raises(ConnectorError, match=r"can't use .*/file/sub for output: Not a directory"):
        FileSink(tmp_path / "file" / "sub").prepare_job(JobStart(restored=False))
    with pytest.raises(ConnectorError, match=r"can't use .*/gone for output: No such file"):
        writer(FileSink(tmp_path / "gone"))
    with pytest.raises(ConnectorError, match=r"can't use .*/gone"):
        read_jsonl(tmp_path / "gone")
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(ConnectorError, match="can't write to the directory"):
        FileSink(tmp_path).prepare_job(JobStart(restored=False))


@pytest.mark.parametrize("format_", ["jsonl", "csv", "parquet", "text"])
def test_a_full_disk(tmp_path, monkeypatch, format_):
    w = writer(FileSink(tmp_path, format_))
    w.write([Row(1, "x")])

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConnectorError, match=f"the disk of {tmp_path} is full"):
        w.prepare()
    w.close()


def columns(start, stop):
    return Columns.of(n=np.arange(start, stop), v=np.arange(start, stop) / 4)


@pytest.mark.parametrize("format_", ["csv", "parquet", "jsonl"])
def test_columns_and_typed_rows_as_polars_reads_them(tmp_path, format_):
    w = writer(FileSink(tmp_path, format_))
    for start in range(0, 1000, 100):
        w.write(columns(start, start + 100))
    w.commit(w.prepare())
    w.write([Item(1, 'a "b",\nc'), Item(2, None)])
    w.write([Item(3, "x")])
    w.commit(w.prepare())
    read = {"csv": pl.read_csv, "parquet": pl.read_parquet, "jsonl": pl.read_ndjson}[format_]
    assert read(tmp_path / f"part-0-1-0.{format_}").rows() == [(i, i / 4) for i in range(1000)]
    expected = [(1, 'a "b",\nc'), (2, None), (3, "x")]
    assert read(tmp_path / f"part-0-1-1.{format_}").rows() == expected


def test_another_schema_begins_another_part(tmp_path):
    w = writer(FileSink(tmp_path, "parquet"))
    w.write([Row(1, "x")])
    w.write(columns(0, 2))
    w.commit(w.prepare())
    assert pl.read_parquet(tmp_path / "part-0-1-0.parquet").rows() == [(1, "x")]
    assert pl.read_parquet(tmp_path / "part-0-1-1.parquet").rows() == [(0, 0.0), (1, 0.25)]


def test_parquet_gets_large_row_groups(tmp_path):
    w = writer(FileSink(tmp_path, "parquet"))
    for start in range(0, 300_000, 1000):
        w.write(columns(start, start + 1000))
    w.commit(w.prepare())
    import pyarrow.parquet as pq

    assert pq.ParquetFile(tmp_path / "part-0-1-0.parquet").num_row_groups == 3


def test_text(tmp_path):
    w = writer(FileSink(tmp_path, "text"))
    w.write(["é", 5, (1, 2)])
    w.commit(w.prepare())
    assert (tmp_path / "part-0-1-0.txt").read_text() == "é\n5\n(1, 2)\n"


def test_records_that_have_no_form(tmp_path):
    for format_ in ("csv", "parquet"):
        with pytest.raises(ConnectorError, match=f"{format_} needs columns or typed rows, not rows of dict"):
            writer(FileSink(tmp_path, format_)).write([{"a": 1}])
    with pytest.raises(ConnectorError, match="CSV has no form for the column 'v'"):
        writer(FileSink(tmp_path, "csv")).write(Columns.of(v=np.ones((2, 2))))
    with pytest.raises(BadRecordError, match="can't be written as JSON"):
        writer(FileSink(tmp_path)).write([object()])
    with pytest.raises(BadRecordError, match="field 'n' is 'x', not int64"):
        writer(FileSink(tmp_path, "csv")).write([Row("x", "y")])
    assert names(tmp_path) == []


def test_a_damaged_part(tmp_path):
    (tmp_path / "part-0-1-0.jsonl").write_text('{"a": 1}\n{"a"')
    with pytest.raises(BadRecordError, match=r"part-0-1-0\.jsonl is damaged"):
        read_jsonl(tmp_path)


def test_wrong_options(tmp_path):
    with pytest.raises(UsageError, match="format='xml' is unknown"):
        FileSink(tmp_path, "xml")
    with pytest.raises(UsageError, match="if_exists='keep' is unknown"):
        FileSink(tmp_path, if_exists="keep")
