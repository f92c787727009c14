"""File sources against Python's own csv and json modules, under any poll limits and any restore point."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Schema, to_rows
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.csv_records import CsvRecords
from streamcore.connectors.csv_source import CsvSource
from streamcore.connectors.json_source import JsonLinesSource
from streamcore.connectors.text_source import TextSource

LIMITS = st.lists(st.integers(1, 7), min_size=1, max_size=8)
BLOCK_BYTES = st.sampled_from([1, 2, 3, 7, 16, 64, 1 << 20])
CELL = st.text(st.sampled_from('ab,"\n\r é\u2028;x1'), max_size=6)


class Poller:
    """Reads a source's only split, and starts over from the offset whenever it is told to."""

    def __init__(self, source):
        self.source = source
        (self.split,) = source.splits()
        self.bad = []
        self.context = ReaderContext(wake=lambda: None, now=lambda: 7.0, report_bad=self.bad.append)

    def read(self, limits, restore_after, offset=None):
        reader = self.source.reader(self.split, offset, self.context)
        rows = []
        polls = 0
        while not reader.exhausted:
            limit = limits[polls % len(limits)]
            batch = reader.poll(limit)
            assert batch is None or len(batch) <= limit
            assert batch or reader.exhausted or reader.wake_at is not None
            rows.extend(to_rows(batch) if batch is not None else [])
            polls += 1
            if polls in restore_after:
                reader.close()
                saved = json.loads(json.dumps(reader.offset))
                reader = self.source.reader(self.split, saved, self.context)
        reader.close()
        return rows


def written(folder, name, content, zipped):
    path = Path(folder, name + (".gz" if zipped else ""))
    path.write_bytes(gzip.compress(content) if zipped else content)
    return str(path)


def as_csv(rows, line_end, quoting):
    out = io.StringIO(newline="")
    # with "\n" as its line end, the csv module leaves a "\r" bare, and would itself read two records then
    quoting = csv.QUOTE_ALL if any("\r" in cell for row in rows for cell in row) else quoting
    csv.writer(out, lineterminator=line_end, quoting=quoting).writerows(rows)
    return out.getvalue()


@settings(deadline=None, max_examples=300)
@given(
    rows=st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=12),
    line_end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    ends=st.booleans(),
    bom=st.booleans(),
    zipped=st.booleans(),
    limits=LIMITS,
    restore_after=st.sets(st.integers(1, 12)),
    block_bytes=BLOCK_BYTES,
)
def test_csv_is_what_the_csv_module_reads(
    rows, line_end, quoting, ends, bom, zipped, limits, restore_after, block_bytes
):
    text = as_csv([["a", "b\n,", "c"], *rows], line_end, quoting)
    text = text if ends else text.removesuffix(line_end)
    expected = [tuple(row) for row in csv.reader(io.StringIO(text, newline=""))][1:]
    schema = Schema.of(**dict.fromkeys(["a", "b", "c"], str))
    content = text.encode("utf-8-sig" if bom else "utf-8")
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, "x.csv", content, zipped)
        source = CsvSource(path, schema, rename={"b\n,": "b"}, block_bytes=block_bytes)
        assert Poller(source).read(limits, restore_after) == expected


@settings(deadline=None, max_examples=300)
@given(
    text=st.text(st.sampled_from('ab,"\n\r1'), max_size=60),
    block_bytes=BLOCK_BYTES,
    limits=LIMITS,
    restore_after=st.sets(st.integers(1, 12)),
)
def test_any_text_as_csv_gives_the_same_good_and_bad_records(text, block_bytes, limits, restore_after):
    """Also text that no writer would make: quotes in the middle of fields, lone returns, wrong widths."""
    reader = csv.reader(io.StringIO(text, newline=""))
    expected = [tuple(row) for row in reader if row]
    # a quote that is never closed: the csv module takes what follows as the field, the source as malformed
    if CsvRecords(",").spans(text.encode())[1] < len(text):
        expected.pop()
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, "x.csv", text.encode(), False)
        schema = Schema.of(a=str, b=str)
        source = CsvSource(path, schema, header=False, on_error="side_output", block_bytes=block_bytes)
        poller = Poller(source)
        assert poller.read(limits, restore_after) == [row for row in expected if len(row) == 2]
        wrong_width = [bad for bad in poller.bad if "fields instead of 2" in bad.reason]
        assert len(wrong_width) == sum(len(row) != 2 for row in expected)


@settings(deadline=None, max_examples=200)
@given(
    cells=st.lists(
        st.sampled_from(["1", "-5", " 7 ", "abc", "", "999999999999", "2.5", "0x1F", "+3", "\t4"]), max_size=30
    ),
    block_bytes=BLOCK_BYTES,
    limits=LIMITS,
    restore_after=st.sets(st.integers(1, 20)),
)
def test_malformed_numbers_are_reported_once_each(cells, block_bytes, limits, restore_after):
    good = {"1": 1, "-5": -5, " 7 ": 7, "0x1F": 31, "\t4": 4}
    text = "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, "x.csv", text.encode(), False)
        schema = Schema.of(i="i4", n="i4")
        source = CsvSource(path, schema, header=False, on_error="side_output", block_bytes=block_bytes)
        poller = Poller(source)
        rows = poller.read(limits, restore_after)
    assert rows == [(i, good[cell]) for i, cell in enumerate(cells) if cell in good]
    bad = [i for i, cell in enumerate(cells) if cell not in good]
    assert [record.position for record in poller.bad] == [f"line {i + 1}" for i in bad]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(
    values=st.lists(VALUES | st.just("<blank>") | st.just("<bad>"), max_size=15),
    line_end=st.sampled_from(["\n", "\r\n"]),
    ends=st.booleans(),
    zipped=st.booleans(),
    limits=LIMITS,
    restore_after=st.sets(st.integers(1, 12)),
    block_bytes=BLOCK_BYTES,
)
def test_json_lines_are_what_the_json_module_reads(values, line_end, ends, zipped, limits, restore_after, block_bytes):
    special = {"<blank>": " ", "<bad>": '{"a": 1} {'}
    lines = [special[v] if v in ("<blank>", "<bad>") else json.dumps(v, ensure_ascii=False) for v in values]
    text = line_end.join(lines) + (line_end if ends else "")
    content = text.encode("utf-8", "surrogatepass")
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, "x.jsonl", content, zipped)
        source = JsonLinesSource(path, on_error="side_output", block_bytes=block_bytes)
        poller = Poller(source)
        rows = poller.read(limits, restore_after)
    assert rows == [json.loads(line) for v, line in zip(values, lines, strict=True) if v not in ("<blank>", "<bad>")]
    assert [bad.position for bad in poller.bad] == [f"line {i + 1}" for i, v in enumerate(values) if v == "<bad>"]


@settings(deadline=None, max_examples=200)
@given(
    lines=st.lists(st.text(st.sampled_from("ab é\u2028\x0b\t"), max_size=5), max_size=15),
    line_end=st.sampled_from(["\n", "\r\n"]),
    ends=st.booleans(),
    zipped=st.booleans(),
    limits=LIMITS,
    restore_after=st.sets(st.integers(1, 12)),
    block_bytes=BLOCK_BYTES,
)
def test_text_is_what_open_reads(lines, line_end, ends, zipped, limits, restore_after, block_bytes):
    content = (line_end.join(lines) + (line_end if ends else "")).encode()
    expected = [line.removesuffix("\n") for line in io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")]
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, "x.txt", content, zipped)
        assert Poller(TextSource(path, block_bytes=block_bytes)).read(limits, restore_after) == expected


@settings(deadline=None, max_examples=200)
@given(
    cells=st.lists(st.sampled_from(["1", "22", "abc", "", '"3\n"', '"4"']), max_size=25),
    sizes=st.tuples(BLOCK_BYTES, BLOCK_BYTES),
    polls=st.integers(0, 10),
    limit=st.integers(1, 5),
)
def test_an_offset_means_the_same_under_another_block_size(cells, sizes, polls, limit):
    good = {"1": 1, "22": 22, '"4"': 4}
    text = "".join(f"{cell},x\n" for cell in cells)
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, "x.csv", text.encode(), False)
        schema = Schema.of(n=int, x=str)
        first, second = (
            Poller(CsvSource(path, schema, header=False, on_error="skip", block_bytes=size)) for size in sizes
        )
        reader = first.source.reader(first.split, None, first.context)
        rows = [row for _ in range(polls) for row in to_rows(reader.poll(limit) or [])]
        reader.close()
        rows += second.read([limit], set(), reader.offset)
    assert [row[0] for row in rows] == [good[cell] for cell in cells if cell in good]
    assert len(first.bad) + len(second.bad) == sum(cell not in good for cell in cells)
