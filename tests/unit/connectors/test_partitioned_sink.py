from __future__ import annotations

import datetime
import errno
import json
import os
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from streamcore import StreamEnvironment
from streamcore.batch import Columns
from streamcore.connectors.base import JobStart, SinkContext
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.connectors.partitioned_sink import HIDDEN, ParquetSink
from streamcore.errors import ConnectorError, UsageError

HOUR_MS = 3_600_000
START_MS = 1_795_219_200_000  # 2026-11-21 00:00 UTC
COUNTRIES = ["CH", "DE", "a b/c", None]


class Order(NamedTuple):
    time: int
    country: str | None
    amount: float


def orders(start, stop):
    return [Order(START_MS + i * HOUR_MS // 4, COUNTRIES[i % 4], i / 2) for i in range(start, stop)]


def opened(tmp_path, *, subtask=0, parallelism=1, epoch=1, **options):
    sink = ParquetSink(tmp_path / "out", **({"by": ["country"], "time": "time", "every": "hour"} | options))
    sink.prepare_job(JobStart(restored=True))
    return sink.writer(SinkContext(subtask, parallelism, epoch))


def visible(tmp_path):
    root = tmp_path / "out"
    return sorted(str(p.relative_to(root)) for p in root.rglob("*.parquet"))


def hidden(tmp_path):
    return sorted(path.name for path in (tmp_path / "out" / HIDDEN).iterdir())


def glob(tmp_path):
    return str(tmp_path / "out" / "**" / "*.parquet")


def expected_rows(rows):
    """(date, hour, country, time, amount) of each row, by Python's own calendar."""
    moments = [datetime.datetime.fromtimestamp(row.time / 1000, datetime.UTC) for row in rows]
    return sorted(
        ((m.date(), m.hour, row.country or "", row.time, row.amount) for m, row in zip(moments, rows, strict=True))
    )


def read_with(reader, tmp_path):
    if reader == "duckdb":
        files = duckdb.read_parquet(glob(tmp_path), hive_partitioning=True)
        columns = "date, cast(hour as int), coalesce(country, ''), time, amount"
        return sorted(files.project(columns).fetchall())
    if reader == "polars":
        frame = pl.scan_parquet(glob(tmp_path), hive_partitioning=True).with_columns(pl.col("country").fill_null(""))
        return sorted(frame.select("date", "hour", "country", "time", "amount").collect().rows())
    table = ds.dataset(tmp_path / "out", format="parquet", partitioning="hive").to_table()
    return sorted(
        (datetime.date.fromisoformat(r["date"]), r["hour"], r["country"] or "", r["time"], r["amount"])
        for r in table.to_pylist()
    )


@pytest.mark.parametrize("reader", ["duckdb", "polars", "arrow"])
def test_readers_see_committed_records_while_the_job_runs(tmp_path, reader):
    w = opened(tmp_path)
    w.write(orders(0, 100))
    handles = w.prepare()
    assert handles == json.loads(json.dumps(handles))
    w.commit(handles)
    w.write(orders(100, 150))
    prepared = w.prepare()  # one checkpoint isn't complete yet
    w.write(orders(150, 160))  # and this is still being written
    assert len(hidden(tmp_path)) > 50
    assert read_with(reader, tmp_path) == expected_rows(orders(0, 100))
    w.commit(prepared)
    assert read_with(reader, tmp_path) == expected_rows(orders(0, 150))
    w.close()


def test_folders_are_pruned_and_have_the_fields_that_files_lack(tmp_path):
    w = opened(tmp_path)
    w.write(orders(0, 96))
    w.commit(w.prepare())
    assert visible(tmp_path)[0] == "date=2026-11-21/hour=00/country=CH/part-0-1-1.parquet"
    assert any("country=a%20b%2Fc" in path for path in visible(tmp_path))
    assert pq.read_schema(tmp_path / "out" / visible(tmp_path)[0]).names == ["time", "amount"]
    files = duckdb.read_parquet(glob(tmp_path), hive_partitioning=True)
    assert files.filter("country = 'DE' and hour = '13'").count("*").fetchall() == [(1,)]


def test_parts_are_moved_once(tmp_path):
    w = opened(tmp_path, every="day", by=[])
    assert w.prepare() == []
    w.write([])
    w.write(orders(0, 10))
    handles = w.prepare()
    assert [set(handle) for handle in handles] == [{"hidden", "folder", "size"}]
    w.commit(handles)
    w.commit(handles)
    assert visible(tmp_path) == ["date=2026-11-21/part-0-1-0.parquet"]
    assert hidden(tmp_path) == []
    w.write(orders(10, 20))
    (lost,) = w.prepare()
    path = tmp_path / "out" / HIDDEN / lost["hidden"]
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ConnectorError, match=f"was changed: {len(content)} bytes of it were prepared"):
        w.commit([lost])
    path.unlink()
    with pytest.raises(ConnectorError, match=r"output was lost: neither .*date=2026-11-21/part-0-1-1\.parquet nor"):
        w.commit([lost])


def test_the_leftovers_of_the_own_share_are_deleted(tmp_path):
    prepared = []
    for subtask in range(3):
        w = opened(tmp_path, subtask=subtask, parallelism=3, every="day")
        w.write(orders(subtask, subtask + 1))
        prepared += w.prepare()
        w.write(orders(0, 8))
        w.close()
    later = opened(tmp_path, epoch=9, every="day")
    later.write(orders(0, 1))
    w = opened(tmp_path, parallelism=2, epoch=2, every="day")
    w.abort_leftovers(prepared[:1])
    left = [name for name in hidden(tmp_path) if not name.startswith("part-1-1-")]
    assert left == ["part-0-1-0.parquet.inprogress", "part-0-9-0.parquet.inprogress"]
    assert len(hidden(tmp_path)) == 2 + 5  # those of subtask 1 are another's share
    w.commit(prepared[:1])
    assert visible(tmp_path) == ["date=2026-11-21/country=CH/part-0-1-0.parquet"]
    later.close()


def test_what_an_earlier_run_left(tmp_path):
    w = opened(tmp_path, every="day")
    w.write(orders(0, 2))
    w.commit(w.prepare())
    w.write(orders(2, 3))
    w.close()
    out = tmp_path / "out"
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConnectorError, match=r"has the output of an earlier run \(2 parts, such as part-0-1-"):
        ParquetSink(out, time="time").prepare_job(JobStart(restored=False))
    append = ParquetSink(out, by="country", time="time", if_exists="append")
    append.prepare_job(JobStart(restored=False))
    w = append.writer(SinkContext(0, 1, 1))
    w.abort_leftovers([])
    w.write(orders(4, 6))
    w.commit(w.prepare())
    day = "date=2026-11-21"
    # the second run's parts have names of their own
    assert [path for path in visible(tmp_path) if path.startswith(f"{day}/country=CH")] == [
        f"{day}/country=CH/part-0-1-0.parquet",
        f"{day}/country=CH/part-0-1-1.parquet",
    ]
    assert pl.scan_parquet(glob(tmp_path)).select(pl.len()).collect().item() == 4
    ParquetSink(out, time="time", if_exists="replace").prepare_job(JobStart(restored=False))
    assert visible(tmp_path) == []
    assert hidden(tmp_path) == []
    assert (out / "notes.txt").exists()


def test_few_files_are_open_at_a_time(tmp_path):
    w = opened(tmp_path, by=["key"], time=None, most_open=3)
    for _ in range(3):
        w.write(Columns.of(key=np.arange(10), n=np.arange(10)))
        assert sum(is_below(tmp_path, descriptor) for descriptor in Path("/proc/self/fd").iterdir()) == 3
    w.commit(w.prepare())
    assert len(visible(tmp_path)) == 30
    # the ones written to last stay open
    w.write(Columns.of(key=np.array([1, 2, 3]), n=np.arange(3)))
    w.write(Columns.of(key=np.array([1]), n=np.arange(1)))
    w.write(Columns.of(key=np.array([4]), n=np.arange(1)))
    w.write(Columns.of(key=np.array([1]), n=np.arange(1)))
    assert sorted(handle["folder"] for handle in w.prepare()) == ["key=1", "key=2", "key=3", "key=4"]


def is_below(tmp_path, descriptor):
    try:
        return descriptor.readlink().is_relative_to(tmp_path)
    except OSError:
        return False


def test_files_roll_and_buffers_are_bounded(tmp_path):
    w = opened(tmp_path, by=["key"], time=None, roll_bytes=1000, buffer_bytes=0)
    for _ in range(4):
        w.write(Columns.of(key=np.arange(2), n=np.arange(2)))
        w.write(Columns.of(key=np.zeros(1000, np.int64), n=np.random.default_rng(1).integers(0, 10**9, 1000)))
    w.commit(w.prepare())
    sizes = [(tmp_path / "out" / path).stat().st_size for path in visible(tmp_path)]
    assert sum("key=0" in path for path in visible(tmp_path)) == 4
    assert sum("key=1" in path for path in visible(tmp_path)) == 1
    assert max(sizes) < 20_000
    counts = pl.scan_parquet(glob(tmp_path), hive_partitioning=True).group_by("key").len().collect()
    assert sorted(counts.rows()) == [(0, 4004), (1, 4)]


@pytest.mark.parametrize("compression", ["zstd", "snappy", "lz4", "gzip", "none"])
def test_compression(tmp_path, compression):
    w = opened(tmp_path, by=["key"], time=None, compression=compression)
    w.write(Columns.of(key=np.zeros(10, bool), n=np.arange(10)))
    w.commit(w.prepare())
    column = pq.ParquetFile(tmp_path / "out" / visible(tmp_path)[0]).metadata.row_group(0).column(0)
    assert column.compression == {"none": "UNCOMPRESSED"}.get(compression, compression.upper())


def test_another_schema_begins_another_file(tmp_path):
    w = opened(tmp_path, by=["key"], time=None)
    w.write(Columns.of(key=np.zeros(1, int), n=np.arange(1)))
    w.write(Columns.of(key=np.zeros(1, int), n=np.arange(1), more=pa.array(["x"])))
    w.commit(w.prepare())
    assert [pq.read_schema(tmp_path / "out" / path).names for path in visible(tmp_path)] == [["n"], ["n", "more"]]


def test_what_cannot_be_written(tmp_path, monkeypatch):
    w = opened(tmp_path)
    with pytest.raises(ConnectorError, match="parquet needs columns or typed rows, not rows of dict"):
        w.write([{"time": 1, "country": "CH"}])
    with pytest.raises(ConnectorError, match="can't partition by 'country': there is no such column"):
        w.write(Columns.of(time=np.arange(2)))
    w.write(orders(0, 1))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConnectorError, match=f"the disk of {tmp_path / 'out'} is full"):
        w.prepare()
    w.close()


def test_wrong_options(tmp_path):
    with pytest.raises(UsageError, match="compression='rar' is unknown"):
        ParquetSink(tmp_path, by="a", compression="rar")
    with pytest.raises(UsageError, match="if_exists='keep' is unknown"):
        ParquetSink(tmp_path, by="a", if_exists="keep")
    with pytest.raises(UsageError, match="most_open=0 can't be"):
        ParquetSink(tmp_path, by="a", most_open=0)


def test_a_job_writes_them(tmp_path):
    env = StreamEnvironment("orders", parallelism=2)
    env.source(GeneratorSource(orders, count=500, schema=Order)).sink(
        ParquetSink(tmp_path / "out", by="country", time="time", every="hour")
    )
    env.execute()
    for reader in ("duckdb", "polars", "arrow"):
        assert read_with(reader, tmp_path) == expected_rows(orders(0, 500))
