from __future__ import annotations

import gzip

import pytest

from streamcore.batch import to_rows
from streamcore.connectors.base import ReaderContext
from streamcore.connectors.blocks import Blocks, lines_end
from streamcore.connectors.parts import Part
from streamcore.connectors.text_source import TextSource
from streamcore.errors import BadRecordError, ConnectorError, UsageError


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


def write(folder, content, name="x.txt"):
    path = folder / name
    path.write_bytes(content)
    return str(path)


def test_lines(tmp_path):
    assert read(TextSource(write(tmp_path, b"a\n\n b \r\nc\rd"))) == ["a", "", " b ", "c\rd"]
    assert read(TextSource(write(tmp_path, b""))) == []
    assert read(TextSource(write(tmp_path, b"\n"))) == [""]
    assert read(TextSource(write(tmp_path, "é\n".encode("latin-1")), "latin-1")) == ["é"]


@pytest.mark.parametrize("content", [b"a\n\n b \r\nc\rd", b"", b"\n", "é\n字\n".encode(), b"one\ntwo\nthree"])
@pytest.mark.parametrize("block_bytes", [5, 1 << 20])
def test_lines_as_columns_are_the_lines_as_rows(tmp_path, content, block_bytes):
    path = write(tmp_path, content)
    rows = read(TextSource(path, block_bytes=block_bytes))
    assert read(TextSource(path, column="line", block_bytes=block_bytes)) == [(row,) for row in rows]


def test_lines_as_columns_in_another_encoding_and_with_bad_ones(tmp_path):
    assert read(TextSource(write(tmp_path, "é\nb".encode("latin-1")), "latin-1", column="line")) == [("é",), ("b",)]
    bad = []
    source = TextSource(write(tmp_path, b"a\nb\xff\nc\n"), column="line", on_error="side_output")
    assert (read(source, bad=bad), len(bad)) == ([("a",), ("c",)], 1)


def test_lines_that_are_not_in_the_encoding(tmp_path):
    path = write(tmp_path, b"a\nb\xff\nc\n")
    with pytest.raises(BadRecordError, match=r"x\.txt, line 2: not utf-8: 'b\\\\xff'"):
        read(TextSource(path))
    bad = []
    assert read(TextSource(path, on_error="side_output"), bad=bad) == ["a", "c"]
    assert [(b.text, b.position) for b in bad] == [("b\\xff", "line 2")]


def test_encodings_that_cannot_be_cut():
    with pytest.raises(UsageError, match="lines can't be read in utf-16"):
        TextSource("x", "utf-16")
    with pytest.raises(UsageError, match="'utf-99' is unknown"):
        TextSource("x", "utf-99")


def test_blocks_know_their_place(tmp_path):
    path = write(tmp_path, gzip.compress(b"one\ntwo\nthree\nfour"), "x.gz")
    blocks = Blocks(Part(path), lines_end, block_bytes=9)
    found = []
    while (block := blocks.next()) is not None:
        found.append((block.data, block.position, block.line, block.is_tail))
    blocks.close()
    assert found == [(b"one\ntwo\n", 0, 1, False), (b"three\n", 8, 3, False), (b"four", 14, 4, True)]
    rest = Blocks(Part(path), lines_end, 8, 3)
    assert rest.next().data == b"three\n"
    rest.close()


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(ConnectorError, match=r"can't read .*gone: No such file"):
        Blocks(Part(str(tmp_path / "gone")), lines_end)


def test_a_record_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("streamcore.connectors.blocks.MAX_RECORD_BYTES", 1 << 20)
    path = write(tmp_path, b"a\n" + b"x" * (3 << 20))
    with pytest.raises(BadRecordError, match=r"line 2: a record of more than 1 MiB begins here"):
        read(TextSource(path))
