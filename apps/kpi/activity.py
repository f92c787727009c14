"""What users do, as streams of one form: edits of Wikipedia, or Wikispeedia games."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from streamcore import Columns, DataStream, Schema, StreamEnvironment, bounded_out_of_orderness, col, lit, seconds
from streamcore.connectors.csv_source import CsvSource
from streamcore.connectors.json_source import JsonLinesSource
from streamcore.operators.periods import Period
from streamcore.operators.session_funnel import Step

HOUR_S, DAY_S = 3600.0, 86_400.0

EDIT = Schema.of(
    time=int, user=int, channel=str, namespace=str, country=str, is_robot=bool, is_anonymous=bool, added=int
)
GAME = Schema.of(user=int, timestamp=int, path=str, target=str, channel=str)


@dataclass(frozen=True)
class Activity:
    """A stream with the fields `time` (milliseconds), `user` (int), `channel` (text) and others.

    Attributes:
        malformed: what could not be read.
        key: the fields by which events and unique users are counted in the most detail.
        steps: of the funnel, which has to be taken in `within_s` seconds; users are counted by the period of the first.
    """

    stream: DataStream[Any]
    malformed: DataStream[Any]
    key: tuple[str, ...]
    steps: tuple[Step, ...]
    within_s: float
    cohort: Period


class Edit(NamedTuple):
    """What is read of a line of JSON; its other fields don't matter."""

    time: datetime.datetime
    channel: str
    namespace: str
    user: int
    country: str | None
    isAnonymous: bool  # noqa: N815 - the names in the file
    isRobot: bool  # noqa: N815
    added: int


def activity(env: StreamEnvironment, path: str, out_of_order: float) -> Activity:
    """The activity in files of edits (`.jsonl`, `.json`, perhaps with `.gz`) or of games (any other name).

    Args:
        out_of_order: by how many seconds of event time a record may come after a later one without being late.
    """
    watermarks = bounded_out_of_orderness("time", seconds(out_of_order)).with_bad_times("side_output", min_time=None)
    if Path(path.removesuffix(".gz")).suffix in (".jsonl", ".json"):
        source = JsonLinesSource(path, Edit, on_error="side_output")
        edits: DataStream[Any] = env.source(source, name="edits", watermarks=watermarks)
        stream: DataStream[Any] = edits.map_batch(_edits, returns=EDIT).name("edits in columns")
        return Activity(
            stream,
            edits.bad_records(),
            ("channel", "namespace", "country", "is_robot", "is_anonymous"),
            (
                Step("awareness", lit(1) == 1),
                Step("activation", col("namespace") == "Main"),
                Step("conversion", (col("namespace") == "Main") & (col("added") >= 100)),
                Step("retention", lit(1) == 1, after=HOUR_S),
            ),
            DAY_S,
            "day",
        )
    columns = {"player": "user", "type": "channel"}
    table = CsvSource(path, GAME, delimiter="\t", rename=columns, on_error="side_output")
    games: DataStream[Any] = env.source(table, name="games")
    pages = col("path").str.length() - col("path").str.replace(";", "").str.length() + 1
    played = games.select("user", "channel", "target", time=col("timestamp") * 1000, pages=pages.cast(int))
    timed = played.assign_watermarks(watermarks)
    return Activity(
        timed,
        games.bad_records().union(timed.bad_records()),
        ("channel", "target"),
        (
            Step("awareness", lit(1) == 1),
            Step("activation", col("pages") >= 3),
            Step("conversion", col("pages") >= 10),
            Step("retention", lit(1) == 1, after=DAY_S),
        ),
        30 * DAY_S,
        "month",
    )


def _edits(edits: Columns) -> Columns:
    """Edits with their time in milliseconds, and "" for no country."""
    return Columns(
        EDIT,
        {
            "time": edits["time"].cast(pa.timestamp("ms"), safe=False).cast(pa.int64()),
            "user": edits["user"],
            "channel": edits.encoded("channel"),
            "namespace": edits.encoded("namespace"),
            "country": pc.fill_null(edits["country"], ""),
            "is_robot": edits["isRobot"],
            "is_anonymous": edits["isAnonymous"],
            "added": edits["added"],
        },
    )
