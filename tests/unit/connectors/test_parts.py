"""Cutting files into parts; `tests/property/test_file_parts.py` reads them under any cuts."""

from __future__ import annotations

import gzip

import polars as pl
import pyarrow.parquet as pq
import pytest

from streamcore.batch import Schema, to_rows
from streamcore.connectors.base import ReaderContext, Split
from streamcore.connectors.csv_source import CsvSource
from streamcore.connectors.json_source import JsonLinesSource
from streamcore.connectors.parquet_source import ParquetSource
from streamcore.connectors.text_source import TextSource
from streamcore.errors import BadRecordError, ConnectorError, IncompatibleSnapshotError, UsageError
from streamcore.runtime.operators.source import SourceOperator

NUMBER = Schema.of(n=int)


def read_split(source, split, offset=None):
    reader = source.reader(split, offset, ReaderContext(lambda: None, lambda: 0.0, lambda bad: None))
    rows = []
    while not reader.exhausted:
        rows.extend(to_rows(reader.poll(100) or []))
    reader.close()
    return rows


def write(folder, content, name="x"):
    path = folder / name
    path.write_bytes(content)
    return str(path)


def numbers(count, begin=0):
    return "".join(f"{i}\n" for i in range(begin, begin + count)).encode()


MAKERS = {
    "text": TextSource,
    "json": JsonLinesSource,
    "csv": lambda path, **options: CsvSource(path, NUMBER, header=False, **options),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_parts_are_about_equal_and_have_their_bytes_in_their_ids(tmp_path, make):
    path = write(tmp_path, numbers(1000, 1000))
    splits = make(path, splits=4).splits()
    assert [split.id for split in splits] == [f"{path}#{i}-{i + 1250}" for i in (0, 1250, 2500, 3750)]
    found = [[int(getattr(row, "n", row)) for row in read_split(make(path), split)] for split in splits]
    assert found == [list(range(i, i + 250)) for i in (1000, 1250, 1500, 1750)]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("content", [gzip.compress(numbers(100)), b"", b"1\n", b"1" * 20])
def test_a_file_that_makes_one_part_is_as_if_it_were_never_cut(tmp_path, make, content):
    path = write(tmp_path, content)
    assert make(path, splits=4).splits() == make(path).splits() == [Split(path)]


def test_an_offset_of_a_whole_file_is_what_it_was_before_there_were_parts(tmp_path):
    path = write(tmp_path, b"1\n2\n3\n4\n")
    assert read_split(TextSource(path), Split(path), [2, 1, 2]) == ["3", "4"]
    assert read_split(CsvSource(path, NUMBER, header=False), Split(path), [2, 1, 2]) == [(3,), (4,)]


def test_csv_is_not_cut_inside_quotes_nor_in_its_header(tmp_path):
    header = b'"a long\nname of a column",b\n'
    path = write(tmp_path, header + b'"' + b"x\n" * 50 + b'",1\ny,2\n"' + b"z\n" * 50 + b'",3\n')
    source = CsvSource(path, Schema.of(text=str, b=int), rename={"a long\nname of a column": "text"}, splits=5)
    assert [read_split(source, split) for split in source.splits()] == [
        [("x\n" * 50, 1), ("y", 2)],
        [("z\n" * 50, 3)],
    ]


def test_the_line_of_a_malformed_record_is_that_in_the_file(tmp_path):
    path = write(tmp_path, b"n\n" + numbers(500) + b"x\n")
    source = CsvSource(path, NUMBER, splits=3, block_bytes=100)
    first, *_, last = source.splits()
    assert len(read_split(source, first)) > 100
    with pytest.raises(BadRecordError, match="line 502: column 'n' is 'x'"):
        read_split(source, last)


def test_the_line_of_a_record_without_end_is_that_in_the_file(tmp_path, monkeypatch):
    path = write(tmp_path, b"a\n" * 10 + b"x" * 30)
    source = TextSource(path, splits=2, block_bytes=4)
    monkeypatch.setattr("streamcore.connectors.blocks.MAX_RECORD_BYTES", 9)
    with pytest.raises(BadRecordError, match="line 11: a record of more than"):
        read_split(source, Split("part", [path, 10, 50]))


def test_a_file_that_has_shrunk_is_not_taken_for_a_shorter_part(tmp_path):
    path = write(tmp_path, numbers(100))
    source = TextSource(path, splits=2)
    last = source.splits()[-1]
    write(tmp_path, numbers(90))
    with pytest.raises(ConnectorError, match=r"has 260 bytes now, 290 when it was cut into parts"):
        read_split(source, last)


@pytest.mark.parametrize("splits", [0, -1])
def test_less_than_one_part(tmp_path, splits):
    with pytest.raises(UsageError, match=f"splits={splits} can't be"):
        TextSource(write(tmp_path, b""), splits=splits)


def test_a_file_that_cannot_be_cut_because_it_cannot_be_read(tmp_path):
    path = write(tmp_path, b"not gzip", "x.gz")
    with pytest.raises(ConnectorError, match="is damaged or not gzip"):
        CsvSource(path, NUMBER, splits=2).reader(Split(path), None, None)
    source = TextSource(path, splits=2)
    with pytest.raises(ConnectorError, match=r"can't read .*gone"):
        source.edges(str(tmp_path / "gone"))


def test_parts_of_parquet_are_whole_row_groups(tmp_path):
    path = str(tmp_path / "x.parquet")
    pl.DataFrame({"n": range(1000)}).write_parquet(path, row_group_size=150)
    splits = ParquetSource(path, splits=3).splits()
    assert [split.id for split in splits] == [f"{path}#0-2", f"{path}#2-4", f"{path}#4-7"]
    found = [[row.n for row in read_split(ParquetSource(path), split)] for split in splits]
    assert found == [list(range(300)), list(range(300, 600)), list(range(600, 1000))]
    assert len(ParquetSource(path, splits=100).splits()) == 7
    pl.DataFrame({"n": range(10)}).write_parquet(path)
    with pytest.raises(ConnectorError, match="has 1 row groups now, 4 or more when it was cut"):
        read_split(ParquetSource(path), splits[1])
    assert ParquetSource(path, splits=3).splits() == [Split(path)]
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert read_split(ParquetSource(path, splits=3), Split(path)) == []


def refuse(source, offsets):
    """What a restore from these offsets says."""
    splits = {split.id: split for split in source.splits()}
    SourceOperator(source, tuple(splits.values()))._refuse_lost(offsets, splits)


@pytest.mark.parametrize(("then", "now"), [(2, 3), (1, 2), (2, 1)])
@pytest.mark.parametrize("exhausted", [True, False])
def test_a_snapshot_is_not_continued_in_parts_that_are_cut_elsewhere(tmp_path, then, now, exhausted):
    """Not even if all parts of the file were done: those of now would all be read again."""
    path = write(tmp_path, numbers(100))
    offsets = {split.id: ([0, 0, 1], exhausted) for split in TextSource(path, splits=then).splits()}
    refuse(TextSource(path, splits=then), offsets)
    with pytest.raises(IncompatibleSnapshotError, match="had read" if exhausted else "was still reading") as caught:
        refuse(TextSource(path, splits=now), offsets)
    assert f"{path}{'' if then == 1 else '#0-'}" in caught.value.message
    assert "use the same splits= and file" in caught.value.hint


def test_a_file_that_has_grown_is_not_continued_in_other_parts(tmp_path):
    path = write(tmp_path, numbers(100))
    source = TextSource(path, splits=2)
    offsets = {split.id: ([0, 0, 1], False) for split in source.splits()}
    write(tmp_path, numbers(110))
    with pytest.raises(IncompatibleSnapshotError, match="was still reading"):
        refuse(source, offsets)


def test_a_file_that_was_read_and_is_gone_is_no_loss(tmp_path):
    first, second = write(tmp_path, numbers(10), "a"), write(tmp_path, numbers(10), "b")
    offsets = {
        split.id: ([20, 0, 11], split.id.startswith(first)) for split in TextSource([first, second], splits=2).splits()
    }
    refuse(TextSource([second], splits=2), offsets)
    with pytest.raises(IncompatibleSnapshotError, match="was still reading") as caught:
        refuse(TextSource([first], splits=2), offsets)
    assert caught.value.hint == "bring the input back, or start without --restore"
