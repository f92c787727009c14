"""The workloads that are compared between engines: what goes in, and the form of the result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Workload:
    """One question put to all engines.

    Attributes:
        id: what the engines' scripts are told.
        title: what the table says.
        data_set: one of `data.DATA_SETS`.
        result: the columns of the result; engines write them as CSV without header, in this order, or as Parquet.
        key: the columns of the result that tell its rows apart.
    """

    id: str
    title: str
    data_set: str
    result: tuple[str, ...]
    key: tuple[str, ...]


WINDOWED = ("sensor", "start", "mean", "count")

WORKLOADS = (
    Workload("word-count", "W1 word count", "words", ("word", "count"), ("word",)),
    Workload("tumbling", "W2 tumbling 5 s", "sensors", WINDOWED, ("sensor", "start")),
    Workload("sliding", "W2 sliding 5 s / 1 s", "sensors", WINDOWED, ("sensor", "start")),
    Workload("ewma", "W3 EWMA per key + alert", "sensors", ("sensor", "alerts", "total"), ("sensor",)),
    Workload("trending", "W4 top 10 words per 10 s", "timed-words", ("start", "word", "count"), ("start", "word")),
    Workload("python-map", "W5 Python function per record", "sensors", ("count", "total", "least", "most"), ()),
)
