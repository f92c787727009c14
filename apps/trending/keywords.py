"""Where the keywords come from: edits of pages, or the words of a text."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from streamcore import (
    Columns,
    Context,
    DataStream,
    ProcessFunction,
    Schema,
    StreamEnvironment,
    ValueState,
    bounded_out_of_orderness,
    col,
    seconds,
)
from streamcore.apps.conventions import is_topics, messages, patient
from streamcore.connectors.base import Source
from streamcore.connectors.json_source import JsonLinesSource
from streamcore.connectors.text_source import TextSource

WORD = re.compile("[a-z]+")
LINE_MS = 1000
"""A line of text stands for a second."""

PAGE = Schema.of(channel=str, page=str, time=int)


class Edit(NamedTuple):
    """What is read of a line of JSON; its other fields don't matter."""

    time: datetime.datetime
    channel: str
    page: str
    namespace: str = ""


class EditMessage(NamedTuple):
    """What is read of a message; its time in milliseconds is the message's own."""

    time: int
    channel: str
    page: str
    namespace: str = ""


class Word(NamedTuple):
    """A word of a text."""

    word: str
    time: int


class Words(ProcessFunction[str, Word]):
    """The words of numbered lines: `[a-z]+` of the lower-cased text. Keyed by one key, for the lines' numbers."""

    def open(self, ctx: Context[Word]) -> None:
        self._line = ctx.state(ValueState("line", 0))

    def process(self, record: str, ctx: Context[Word]) -> None:
        line = self._line.get()
        self._line.set(line + 1)
        for word in WORD.findall(record.lower()):
            ctx.emit(Word(word, line * LINE_MS))


def keywords(
    env: StreamEnvironment, path: str, namespace: str, out_of_order: float
) -> tuple[DataStream[Any], tuple[str, ...], DataStream[Any]]:
    """The stream of keywords in a file or in topics, which has event time in its field `time`; the fields that are the
    keyword; and what could not be read.

    Args:
        path: files with one edit a line (`.jsonl`, `.json`, perhaps with `.gz`), text files, or topics with edits.
        namespace: of the pages that count, such as "Main" for articles; "" for all. Of text it means nothing.
        out_of_order: by how many seconds of event time an edit may come after a later one.
    """
    watermarks = bounded_out_of_orderness("time", seconds(out_of_order)).with_bad_times("side_output", min_time=None)
    if is_edits(path):
        source: Source[Any] = JsonLinesSource(path, Edit, on_error="side_output")
        if is_topics(path):
            source = messages(path, EditMessage, timestamp="time")
        edits: DataStream[Any] = env.source(source, name="edits", watermarks=patient(watermarks, path))
        malformed = edits.bad_records()
        if namespace:
            edits = edits.filter_batch(col("namespace") == namespace)
        with_time: DataStream[Any] = edits.map_batch(pages, returns=PAGE)
        return with_time.name("pages"), ("channel", "page"), malformed
    lines = env.source(TextSource(path, on_error="side_output"), name="lines")
    words = lines.key_by(_same).process(Words(), returns=Word).name("words").uid("words").parallelism(1)
    return words.assign_watermarks(watermarks).parallelism(1), ("word",), lines.bad_records()


def is_edits(path: str) -> bool:
    """Whether the files have edits, by their name; topics do."""
    return is_topics(path) or Path(path.removesuffix(".gz")).suffix in (".jsonl", ".json")


def pages(edits: Columns) -> Columns:
    """Edits with their time in milliseconds."""
    times = edits["time"]
    if not isinstance(times, np.ndarray):
        times = times.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    return Columns(PAGE, {"channel": edits["channel"], "page": edits["page"], "time": times})


def _same(line: str) -> int:
    """One key for all: lines are numbered in order."""
    return 0
