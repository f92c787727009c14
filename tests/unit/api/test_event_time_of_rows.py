"""Typed streams that travel as rows at first have event time in their fields all the same."""

import pytest

from streamcore import Schema, StreamEnvironment, count, monotonous, seconds, tumbling
from streamcore.connectors.iterable_source import IterableSource

ROWS = [("a", 1), ("b", 2), ("a", 999), ("a", 1000)]
SCHEMA = Schema.of(word=str, time=int)


def by_source(env):
    return env.source(IterableSource(ROWS, SCHEMA), watermarks=monotonous("time"))


def by_operator(env):
    return env.from_values(ROWS, SCHEMA).assign_watermarks(monotonous("time"))


@pytest.mark.parametrize("words", [by_source, by_operator])
def test_windows_over_python_values(words):
    counts = words(StreamEnvironment()).key_by("word").window(tumbling(seconds(1))).aggregate(count())
    found = sorted((r.window_start, r.word, r.count) for r in counts.execute_and_collect())
    assert found == [(0, "a", 2), (0, "b", 1), (1000, "a", 1)]
