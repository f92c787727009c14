from __future__ import annotations

import dataclasses
import datetime
import gzip
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from streamcore.batch import Columns, Schema, Vector, to_rows
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.csv_source import CsvSource
from streamcore.errors import BadRecordError, ConnectorError, TopologyError, UsageError


class Rating(NamedTuple):
    user: int
    stars: float


@dataclasses.dataclass
class Note:
    user: int
    text: str
    extra: str | None = None
    count: int | None = None


def read(source, limit=1000, offset=None, bad=None):
    """All rows of all splits, one split after another."""
    rows = []
    report = (lambda record: None) if bad is None else bad.append
    for split in source.splits():
        reader = source.reader(split, offset, ReaderContext(wake=lambda: None, now=lambda: 0.0, report_bad=report))
        while not reader.exhausted:
            rows.extend(to_rows(reader.poll(limit) or []))
        reader.close()
    return rows


def write(folder, content, name="x.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_columns_are_found_by_name_and_are_numpy(tmp_path):
    path = write(tmp_path, "stars,other,user\n4.5,x,1\n3,y,2\n")
    source = CsvSource(path, Rating)
    reader = source.reader(source.splits()[0], None, ReaderContext(lambda: None, lambda: 0.0, lambda bad: None))
    batch = reader.poll(10)
    assert isinstance(batch, Columns)
    assert batch["user"].dtype == np.int64
    assert batch.to_rows() == [Rating(1, 4.5), Rating(2, 3.0)]
    assert all(isinstance(row, Rating) for row in batch.to_rows())


def test_rename_and_columns_and_position(tmp_path):
    path = write(tmp_path, "userId,rating\n1,2\n")
    assert read(CsvSource(path, Rating, rename={"userId": "user", "rating": "stars"})) == [(1, 2.0)]
    assert read(CsvSource(path, Rating, columns=["user", "stars"])) == [(1, 2.0)]
    bare = write(tmp_path, "1;2;9\n", "bare.csv")
    assert read(CsvSource(bare, Rating, header=False, delimiter=";", columns=["stars", "x", "user"])) == [(9, 1.0)]
    bare = write(tmp_path, "1\t2\n", "bare.tsv")
    assert read(CsvSource(bare, Rating, header=False, delimiter="\t")) == [(1, 2.0)]


def test_a_missing_column_names_the_file_and_the_columns_there_are(tmp_path):
    path = write(tmp_path, "userId,stars\n1,2\n")
    with pytest.raises(ConnectorError, match=r"x\.csv has no column 'user'\n.*userId, stars"):
        read(CsvSource(path, Rating))


def test_a_wanted_column_that_is_there_twice_is_refused(tmp_path):
    path = write(tmp_path, "user,user,stars\n1,2,3\n")
    with pytest.raises(ConnectorError, match="two columns named 'user'"):
        read(CsvSource(path, Rating))


@pytest.mark.parametrize(
    "content",
    [
        "user,stars\n1,2\n3,4\n",
        "user,stars\n1,2\n3,4",
        "user,stars\r\n1,2\r\n3,4\r\n",
        "\n\nuser,stars\n\n1,2\n\n\n3,4\n\n",
        "\ufeffuser,stars\n1,2\n3,4\n",
        '"user","stars"\n"1","2"\n"3",4\n',
        "user,stars\r1,2\r3,4\r",
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 5, 1 << 20])
def test_shapes_of_the_same_file(tmp_path, content, block_bytes):
    path = write(tmp_path, content)
    assert read(CsvSource(path, Rating, block_bytes=block_bytes)) == [(1, 2.0), (3, 4.0)]


@pytest.mark.parametrize("content", ["", "user,stars\n", "user,stars", "\ufeff", "\n\n", "\ufeffuser,stars\r\n\r\n"])
def test_files_without_records(tmp_path, content):
    assert read(CsvSource(write(tmp_path, content), Rating)) == []


def test_empty_values(tmp_path):
    path = write(tmp_path, 'user,text,extra,count\n1,,,\n2,"","",5\n3,x,y,6\n')
    assert read(CsvSource(path, Note)) == [Note(1, "", None, None), Note(2, "", "", 5), Note(3, "x", "y", 6)]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"x,2", "column 'user' is 'x', not int64"),
        (b"99999999999999999999,2", "column 'user' is '99999999999999999999', not int64"),
        (b"1.5,2", "column 'user' is '1.5', not int64"),
        (b",2", "column 'user' is empty"),
        (b'"",2', "column 'user' is empty"),
        (b"1,2,3", "3 fields instead of 2"),
        (b"1", "1 fields instead of 2"),
        (b"1,two", "column 'stars' is 'two', not double"),
        (b"1,\xff", r"column 'stars' is '\\xff', not double"),
    ],
)
@pytest.mark.parametrize("ends", [b"", b"\n"])
@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_malformed_records(tmp_path, record, reason, ends, block_bytes):
    path = write(tmp_path, b"user,stars\n5,6\n\n" + record + b"\n7,8" + ends)
    with pytest.raises(BadRecordError) as caught:
        read(CsvSource(path, Rating, block_bytes=block_bytes))
    shown = record.decode("utf-8", "backslashreplace")
    assert caught.value.message == f"{path}, line 4: {reason}: {shown!r}"
    assert "on_error" in caught.value.hint
    bad = []
    assert read(CsvSource(path, Rating, on_error="side_output", block_bytes=block_bytes), bad=bad) == [(5, 6), (7, 8)]
    assert [(b.text, b.reason, b.split, b.position) for b in bad] == [(shown, reason, path, "line 4")]
    assert read(CsvSource(path, Rating, on_error="skip", block_bytes=block_bytes), limit=1) == [(5, 6), (7, 8)]


def test_text_that_is_not_utf8_and_a_quote_that_is_never_closed(tmp_path):
    path = write(tmp_path, b'user,text,extra,count\n1,\xff,a,1\n2,b,c,""\n3,"d,e,4\n5,f,g,6\n')
    bad = []
    assert read(CsvSource(path, Note, on_error="side_output"), bad=bad) == []
    assert [(b.position, b.reason) for b in bad] == [
        ("line 2", r"column 'text' is '\\xff', not UTF-8"),
        ("line 3", f"a field is not as the schema has it, {CsvSource(path, Note).schema}"),
        ("line 4", "a quote is never closed"),
    ]
    assert bad[2].text == '3,"d,e,4\n5,f,g,6\n'


def test_long_text_is_shortened(tmp_path):
    path = write(tmp_path, "user,stars\n" + "x" * 5000 + ",1\n")
    with pytest.raises(BadRecordError) as caught:
        read(CsvSource(path, Rating))
    assert len(caught.value.message) < 500


def test_small_numbers_dates_and_booleans(tmp_path):
    path = write(
        tmp_path,
        "a,b,c,d\n127,true,2020-01-02,2020-01-02 03:04:05\n128,true,2020-01-02,2020-01-02\n"
        "1,maybe,2020-01-02,2020-01-02\n1,0,2020-13-02,2020-01-02\n1,1,2020-01-02,soon\n,1,2020-01-02,2020-01-02\n",
    )
    schema = Schema.of(a="i1", b=bool, c=datetime.date, d=datetime.datetime)
    bad = []
    rows = read(CsvSource(path, schema, on_error="side_output"), bad=bad)
    assert rows == [(127, True, datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3, 4, 5))]  # noqa: DTZ001
    assert [b.reason for b in bad] == [
        "column 'a' is '128', not int8",
        "column 'b' is 'maybe', not bool",
        "column 'c' is '2020-13-02', not date32[day]",
        "column 'd' is 'soon', not timestamp[us]",
        "column 'a' is empty",
    ]


ODD = [
    "+1",
    "-1",
    " 1",
    "1 ",
    "\t1",
    "01",
    "0x1f",
    "-0x1",
    "1e3",
    "1E400",
    ".5",
    "5.",
    "+1.5",
    "nan",
    "NaN",
    "-inf",
    "Infinity",
    "infinite",
    "1_0",
    "1,0",
    "١",
    "--1",
    "-",
    ".",
    "e5",
    "NA",
    "null",
    "True",
    "128",
    "-129",
    "65536",
]


@pytest.mark.parametrize("type_", ["i1", "i8", "u2", "u8", "f4", "f8", "?"])
def test_a_value_is_good_or_malformed_whatever_is_in_its_block(tmp_path, type_):
    """In a block without malformed records pyarrow alone decides, in others the record-by-record search does."""
    for odd in ODD:
        alone = write(tmp_path, f'1\n"{odd}"\n', "alone.csv")
        mixed = write(tmp_path, f'1\nzzz\n"{odd}"\n', "mixed.csv")
        results = [
            repr(read(CsvSource(path, Schema.of(v=type_), header=False, on_error="skip"))) for path in (alone, mixed)
        ]
        assert results[0] == results[1], odd
        try:
            types = {"1": pa.from_numpy_dtype(np.dtype(type_))}
            pacsv.read_csv(alone, convert_options=pacsv.ConvertOptions(column_types=types, null_values=[]))
            expected = 2
        except pa.ArrowInvalid:
            expected = 1
        assert results[0].count("Record") == expected, odd


def test_gzip_is_found_by_its_first_bytes_too_and_damage_is_named(tmp_path):
    content = gzip.compress(b"user,stars\n" + b"".join(b"%d,%d\n" % (i, i * 7919 % 10007) for i in range(20000)))
    for name in ("x.csv.gz", "unnamed"):
        assert len(read(CsvSource(write(tmp_path, content, name), Rating))) == 20000
    cut = write(tmp_path, content[: len(content) // 2], "cut.csv.gz")
    with pytest.raises(ConnectorError, match=r"cut\.csv\.gz is truncated after byte \d+ of its decompressed content"):
        read(CsvSource(cut, Rating))
    broken = write(tmp_path, content[:2000] + b"\0" * 50 + content[2050:], "broken.csv.gz")
    with pytest.raises(ConnectorError, match=r"broken\.csv\.gz is damaged or not gzip"):
        read(CsvSource(broken, Rating))
    plain = write(tmp_path, b"user,stars\n", "plain.gz")
    with pytest.raises(ConnectorError, match=r"plain\.gz is damaged or not gzip"):
        read(CsvSource(plain, Rating))


def test_the_same_as_polars_over_several_files(tmp_path):
    rng = np.random.default_rng(3)
    frames = []
    for name in ("b.csv", "a.csv"):
        frame = pl.DataFrame({"user": rng.integers(0, 99, 5000), "stars": rng.random(5000)})
        frame.write_csv(tmp_path / name)
        frames.insert(0, frame)
    source = CsvSource(str(tmp_path / "*.csv"), Rating, block_bytes=4096)
    assert [split.id for split in source.splits()] == [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    assert read(source, limit=777) == [row for frame in frames for row in frame.rows()]


def test_a_file_that_became_shorter(tmp_path):
    path = write(tmp_path, "user,stars\n1,2\n")
    with pytest.raises(ConnectorError, match="has 15 bytes, but was read up to byte 100"):
        read(CsvSource(path, Rating), offset=[100, 0, 7])


def test_a_header_that_is_not_utf8(tmp_path):
    with pytest.raises(ConnectorError, match="header is not UTF-8"):
        read(CsvSource(write(tmp_path, b"us\xe9r,stars\n1,2\n"), Rating))


def test_wrong_options():
    with pytest.raises(UsageError, match="on_error='ignore' is unknown"):
        CsvSource("x", Rating, on_error="ignore")
    with pytest.raises(UsageError, match="delimiter"):
        CsvSource("x", Rating, delimiter=", ")
    with pytest.raises(UsageError, match="rename= names no field of the schema: uid"):
        CsvSource("x", Rating, rename={"userId": "uid"})
    with pytest.raises(TopologyError, match="no columns"):
        CsvSource("x", int)
    with pytest.raises(TopologyError, match="can't be read from CSV"):
        CsvSource("x", Schema.of(v=Vector(3)))
    assert CsvSource("x", pa.schema([("a", pa.int32())])).schema.names == ("a",)
