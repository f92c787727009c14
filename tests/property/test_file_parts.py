"""Files cut into parts: whatever the cuts, the records are those that one reader finds, each once and in order."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Schema, to_rows
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.csv_source import CsvSource
from streamcore.connectors.json_source import JsonLinesSource
from streamcore.connectors.parquet_source import ParquetSource
from streamcore.connectors.text_source import TextSource

LIMITS = st.lists(st.integers(1, 7), min_size=1, max_size=8)
BLOCK_BYTES = st.sampled_from([1, 2, 3, 7, 16, 64, 1 << 20])
SPLITS = st.integers(1, 9)
RESTORE_AFTER = st.sets(st.integers(1, 20))
LINE_END = st.sampled_from(["\n", "\r\n"])


def read(source, limits=(1000,), restore_after=()):
    """The records of each split, and the malformed ones with their lines, found with restores in between."""
    parts, bad = [], []
    context = ReaderContext(wake=lambda: None, now=lambda: 7.0, report_bad=bad.append)
    polls = 0
    for split in source.splits():
        reader, rows = source.reader(split, None, context), []
        while not reader.exhausted:
            batch = reader.poll(limits[polls % len(limits)])
            rows.extend(to_rows(batch) if batch is not None else [])
            polls += 1
            if polls in restore_after:
                reader.close()
                (again,) = [other for other in source.splits() if other.id == split.id]
                reader = source.reader(again, json.loads(json.dumps(reader.offset)), context)
        reader.close()
        parts.append(rows)
    return parts, [(record.position, record.reason, record.text) for record in bad]


def check(make, content, splits, block_bytes, limits, restore_after):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x")
        path.write_bytes(content)
        ((expected,), expected_bad) = read(make(str(path)))
        source = make(str(path), splits=splits, block_bytes=block_bytes)
        parts, bad = read(source, limits, restore_after)
        assert len(parts) <= splits
        assert [row for rows in parts for row in rows] == expected
        assert bad == expected_bad
    return parts


@settings(deadline=None, max_examples=300)
@given(
    text=st.text(st.sampled_from('ab,,"\n\n\r1é'), max_size=120),
    header=st.sampled_from(["", "a,b\n", "\n\r\n\na,b\r\n", 'a,"b\n"\n', "a,b"]),
    bom=st.booleans(),
    splits=SPLITS,
    block_bytes=BLOCK_BYTES,
    limits=LIMITS,
    restore_after=RESTORE_AFTER,
)
def test_any_text_as_csv(text, header, bom, splits, block_bytes, limits, restore_after):
    def make(path, **options):
        columns = ["a", "b"] if header else None
        schema = Schema.of(a=str, b=str)
        return CsvSource(path, schema, header=bool(header), columns=columns, on_error="side_output", **options)

    content = ("\ufeff" if bom else "") + header + text
    check(make, content.encode(), splits, block_bytes, limits, restore_after)


@settings(deadline=None, max_examples=300)
@given(
    cells=st.lists(st.sampled_from(["1", "22", "-333", "abc", "", '"3"', '"4\n"', '"""\n\n"', " 7"]), max_size=40),
    line_end=LINE_END,
    ends=st.booleans(),
    splits=SPLITS,
    block_bytes=BLOCK_BYTES,
    limits=LIMITS,
    restore_after=RESTORE_AFTER,
)
def test_csv_with_malformed_numbers(cells, line_end, ends, splits, block_bytes, limits, restore_after):
    def make(path, **options):
        return CsvSource(path, Schema.of(i=int, n=float), header=False, on_error="side_output", **options)

    text = line_end.join(f"{i},{cell}" for i, cell in enumerate(cells)) + (line_end if ends else "")
    check(make, text.encode(), splits, block_bytes, limits, restore_after)


@settings(deadline=None, max_examples=200)
@given(
    lines=st.lists(st.sampled_from(["", "a", "é", "\r", "\xff", "some longer line", "\u2028"]), max_size=40),
    line_end=LINE_END,
    ends=st.booleans(),
    bom=st.booleans(),
    splits=SPLITS,
    block_bytes=BLOCK_BYTES,
    limits=LIMITS,
    restore_after=RESTORE_AFTER,
)
def test_lines_of_text(lines, line_end, ends, bom, splits, block_bytes, limits, restore_after):
    def make(path, **options):
        return TextSource(path, on_error="side_output", **options)

    encoded = [line.encode("latin-1") if line == "\xff" else line.encode() for line in lines]
    content = line_end.encode().join(encoded) + (line_end.encode() if ends else b"")
    check(make, (b"\xef\xbb\xbf" if bom else b"") + content, splits, block_bytes, limits, restore_after)


@settings(deadline=None, max_examples=200)
@given(
    lines=st.lists(st.sampled_from(["1", '"a"', "", " ", '{"b": [1, 2]}', "{", '"\xe9"']), max_size=40),
    line_end=LINE_END,
    ends=st.booleans(),
    splits=SPLITS,
    block_bytes=BLOCK_BYTES,
    limits=LIMITS,
    restore_after=RESTORE_AFTER,
)
def test_json_lines(lines, line_end, ends, splits, block_bytes, limits, restore_after):
    def make(path, **options):
        return JsonLinesSource(path, on_error="side_output", **options)

    content = line_end.join(lines) + (line_end if ends else "")
    check(make, content.encode(), splits, block_bytes, limits, restore_after)


@settings(deadline=None, max_examples=50)
@given(
    groups=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    splits=SPLITS,
    limits=LIMITS,
    restore_after=RESTORE_AFTER,
)
def test_row_groups(groups, splits, limits, restore_after):
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "x.parquet"))
        schema = pa.schema([pa.field("n", pa.int64(), nullable=False)])
        done = 0
        with pq.ParquetWriter(path, schema) as writer:
            for rows in groups:
                writer.write_table(pa.table({"n": range(done, done + rows)}, schema))
                done += rows
        parts, _ = read(ParquetSource(path, splits=splits), limits, restore_after)
    assert len(parts) <= splits
    assert [row.n for rows in parts for row in rows] == list(range(done))
