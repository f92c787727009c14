"""word_count against `re` and a Counter."""

import gzip
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Columns, Schema, StreamEnvironment
from streamcore.apps.word_count.topology import APP, SHIPPED, build
from streamcore.apps.word_count.words import words
from streamcore.connectors.file_sink import read_jsonl

MOBY_DICK = Path(__file__).parents[4] / "shared" / "data" / "text" / "moby_dick_pg2701.txt.gz"
LINES = Schema.of(line=str)
text = st.text(st.sampled_from("abzABZ '-.\t0éßÉİKſ字🙂\u0307{@`[") | st.characters(codec="utf-8"), max_size=30)


def found_in(lines, start=0):
    column = pa.array(lines, pa.string())[start:]
    return words(Columns(LINES, {"line": column}))["word"].to_pylist()


def plain(lines):
    return [word for line in lines for word in re.findall("[a-z]+", line.lower())]


@settings(deadline=None)
@given(st.lists(text, max_size=6), st.integers(0, 3))
def test_words_are_what_a_regular_expression_finds(lines, start):
    assert found_in(lines, start) == plain(lines[start:])


def test_every_character_is_a_letter_or_ends_a_word_as_in_python():
    with_letters = [code for code in range(128, 0x110000) if re.search("[a-z]", chr(code).lower())]
    assert with_letters == [0x130, 0x212A]  # those that the kernel knows
    lines = [f"a{chr(code)}b" for code in [*range(0x3000), 0xFF21, 0x1F600]]
    assert found_in(lines) == plain(lines)


def counts_of(output, name="counts"):
    return [(line["word"], line["count"]) for line in read_jsonl(f"{output}/{name}")]


@pytest.mark.parametrize("path", [SHIPPED, MOBY_DICK], ids=["shakespeare", "moby_dick"])
def test_the_words_of_a_book(tmp_path, path):
    if not path.exists():
        pytest.skip(f"{path.name} is not at hand")
    expected = Counter(re.findall("[a-z]+", gzip.decompress(path.read_bytes()).decode().lower()))
    env = StreamEnvironment("wc", parallelism=2)
    build(env, input=str(path), output=str(tmp_path))
    env.execute()
    counts = counts_of(tmp_path)
    assert len(counts) == len(expected)
    assert dict(counts) == expected
    if path == SHIPPED:
        assert (expected.total(), len(expected), expected["the"]) == (974_049, 24_407, 30_140)


def test_running_counts_go_up_by_one(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("The end. The END?\nOf the\n")
    env = StreamEnvironment("wc", parallelism=2)
    build(env, input=str(book), output=str(tmp_path / "out"), running=True)
    result = env.execute()
    running = sorted(counts_of(tmp_path / "out", "running"))
    assert running == [("end", 1), ("end", 2), ("of", 1), ("the", 1), ("the", 2), ("the", 3)]
    assert sorted(counts_of(tmp_path / "out")) == [("end", 2), ("of", 1), ("the", 3)]
    text = APP.describe_result(result, {"output": str(tmp_path / "out")})
    assert "6 words, 3 different ones, 1 of them once" in text
    assert text.splitlines()[1].split()[:2] == ["the", "3"]


def test_a_text_without_words(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("1 2 3\n")
    env = StreamEnvironment("wc")
    build(env, input=str(book), output=str(tmp_path / "out"))
    assert "no words" in APP.describe_result(env.execute(), {"output": str(tmp_path / "out")})


def test_words_are_added_up_before_they_are_exchanged():
    env = StreamEnvironment("wc", parallelism=2)
    build(env)
    assert "partial reduce" in env.describe()
