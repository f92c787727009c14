"""The examples of the pages in docs/ run, one after the other, and print what stands below them."""

import contextlib
import io
import re
from pathlib import Path
from typing import NamedTuple

import pytest

DOCS = Path(__file__).parents[2] / "docs"
WITH_A_SERVICE = {"kafka.md", "kafka-sink.md"}
"""Pages whose examples need one; run by `tests/kafka/test_kafka_docs.py` and `test_kafka_sink_docs.py`."""
EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<printed>.*?)```\n)?", re.DOTALL)


class Example(NamedTuple):
    line: int
    code: str
    printed: str


def examples(page: Path) -> list[Example]:
    text = page.read_text()
    return [
        Example(text.count("\n", 0, found.start("code")) + 1, found["code"], found["printed"] or "")
        for found in EXAMPLE.finditer(text)
    ]


def pages() -> list[Path]:
    return [page for page in sorted(DOCS.glob("*.md")) if page.name not in WITH_A_SERVICE and examples(page)]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_examples_print_what_the_page_says(page):
    names: dict = {}
    for example in examples(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            # padded, so that a traceback has the page's lines
            exec(compile("\n" * (example.line - 1) + example.code, str(page), "exec"), names)
        assert printed.getvalue() == example.printed, f"{page.name}, line {example.line}"


def test_the_guide_of_event_time_has_examples():
    assert DOCS / "event-time.md" in pages()
