from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamcore.batch import Columns, Schema, to_rows
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.parquet_source import ParquetSource
from streamcore.errors import BadRecordError, ConnectorError, TopologyError

CONTEXT = ReaderContext(wake=lambda: None, now=lambda: 0.0, report_bad=lambda bad: None)


class Row(NamedTuple):
    n: int
    name: str | None


def read(source, limit=1000, restart_every=None):
    rows = []
    for split in source.splits():
        reader = source.reader(split, None, CONTEXT)
        polls = 0
        while not reader.exhausted:
            batch = reader.poll(limit)
            assert batch is None or 0 < len(batch) <= limit
            rows.extend(to_rows(batch or []))
            polls += 1
            if restart_every and polls % restart_every == 0 and not reader.exhausted:
                reader.close()
                reader = source.reader(split, reader.offset, CONTEXT)
        reader.close()
    return rows


@pytest.fixture
def path(tmp_path):
    frame = pl.DataFrame({"n": range(1000), "name": [None if i % 3 else f"x{i}" for i in range(1000)], "z": 1.5})
    frame.write_parquet(tmp_path / "x.parquet", row_group_size=300)
    return str(tmp_path / "x.parquet")


@pytest.mark.parametrize("limit", [1, 7, 300, 5000])
@pytest.mark.parametrize("restart_every", [None, 1, 3])
def test_the_same_as_polars(path, limit, restart_every, monkeypatch):
    monkeypatch.setattr("streamcore.connectors.parquet_source._READ_ROWS", 128)
    assert read(ParquetSource(path), limit, restart_every) == pl.read_parquet(path).rows()


def test_schemas(path):
    source = ParquetSource(path)
    assert [(f.name, f.nullable) for f in source.schema.fields] == [("n", False), ("name", True), ("z", False)]
    assert ParquetSource(path, columns=["z", "n"]).schema.names == ("z", "n")
    assert read(ParquetSource(path, Row))[:2] == [Row(0, "x0"), Row(1, None)]
    assert read(ParquetSource(path, Row, columns=["n"]))[:2] == [(0,), (1,)]
    reader = source.reader(source.splits()[0], None, CONTEXT)
    batch = reader.poll(10)
    assert isinstance(batch, Columns)
    assert isinstance(batch["n"], np.ndarray)
    assert read(ParquetSource(path, Schema.of(n="f4")))[:2] == [(0.0,), (1.0,)]


def test_numbers_with_nulls_are_nullable_in_all_files(tmp_path):
    pq.write_table(pa.table({"n": [1, 2]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": [None, 3]}), tmp_path / "b.parquet")
    assert read(ParquetSource(tmp_path)) == [(1,), (2,), (None,), (3,)]
    with pytest.raises(BadRecordError, match=r"b\.parquet, row group 0, row 0: column 'n' has no value"):
        read(ParquetSource(tmp_path, Schema.of(n=int)))


def test_dictionaries_and_empty_files(tmp_path):
    pq.write_table(pa.table({"s": pa.array(["a", "b", "a"]).dictionary_encode()}), tmp_path / "a.parquet")
    assert read(ParquetSource(tmp_path)) == [("a",), ("b",), ("a",)]
    pq.write_table(pa.table({"s": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert read(ParquetSource(tmp_path)) == []


def test_wrong_columns(path):
    with pytest.raises(ConnectorError, match=r"x\.parquet has no column 'no'\n  hint: its columns are: n, name, z"):
        ParquetSource(path, columns=["n", "no"])
    with pytest.raises(ConnectorError, match=r"x\.parquet has no column 'no'\n  hint: its columns are: n, name, z"):
        read(ParquetSource(path, Schema.of(no=int)))
    with pytest.raises(BadRecordError, match=r"row group 0, from row 0: column 'name' is .*string.*, not int64"):
        read(ParquetSource(path, Schema.of(name=int)))
    with pytest.raises(TopologyError, match="no columns"):
        ParquetSource(path, int)


def test_files_that_are_no_parquet(path, tmp_path):
    content = open(path, "rb").read()  # noqa: PTH123, SIM115
    cut = tmp_path / "cut.parquet"
    for damaged in (content[: len(content) // 2], b"a,b\n1,2\n" * 10, b""):
        cut.write_bytes(damaged)
        with pytest.raises(ConnectorError, match=r"cut\.parquet is not a complete Parquet file"):
            ParquetSource(cut)
    cut.write_bytes(b"\xff" * 900 + content[900:])
    with pytest.raises(ConnectorError, match=r"cut\.parquet, row group 0: the file is damaged"):
        read(ParquetSource(cut, Row))


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()])
def test_text_that_is_dictionary_encoded_in_the_file_stays_so(tmp_path, type_):
    rng = np.random.default_rng(1)
    few = [None if i % 50 == 0 else f"word {i}" for i in rng.integers(0, 300, 50_000)]
    many = [f"a text of its own {i}" for i in range(50_000)]
    table = pa.table({"few": pa.array(few, type_), "many": pa.array(many, type_)})
    path = str(tmp_path / "x.parquet")
    # dictionaries of `many` overflow at once
    pq.write_table(table, path, row_group_size=20_000, dictionary_pagesize_limit=10_000)
    source = ParquetSource(path, Schema.of(few=str | None, many=str))
    (split,) = source.splits()
    reader = source.reader(split, None, CONTEXT)
    batches = []
    while not reader.exhausted:
        batches.append(reader.poll(7000))
    reader.close()
    batches = [batch for batch in batches if batch is not None]
    assert all(pa.types.is_dictionary(batch.encoded("few").type) for batch in batches)
    assert all(batch.encoded("many").type == pa.string() for batch in batches)
    assert [value for batch in batches for value in batch["few"].to_pylist()] == few
    assert [value for batch in batches for value in batch["many"].to_pylist()] == many
    first, second = batches[0].encoded("few").dictionary, batches[1].encoded("few").dictionary
    assert first.buffers()[-1].address == second.buffers()[-1].address  # one dictionary for the row group


def test_dictionary_encoded_text_of_another_type_is_converted(tmp_path):
    path = str(tmp_path / "x.parquet")
    words = ["a", "b"] * 1000
    pq.write_table(pa.table({"n": range(2000), "name": pa.array(words, pa.large_string())}), path)
    assert read(ParquetSource(path, Row)) == list(zip(range(2000), words, strict=True))
    coded = pa.table({"n": pa.array([7, 8] * 1000).dictionary_encode(), "name": pa.array(words).dictionary_encode()})
    pq.write_table(coded, path)
    assert read(ParquetSource(path, Row)) == list(zip([7, 8] * 1000, words, strict=True))


def test_dictionary_encoded_text_without_a_value_where_it_must_have_one(tmp_path):
    path = str(tmp_path / "x.parquet")
    pq.write_table(pa.table({"name": ["a"] * 3000 + [None]}), path)
    with pytest.raises(BadRecordError, match=r"row 3000: column 'name' has no value"):
        read(ParquetSource(path, Schema.of(name=str)))
