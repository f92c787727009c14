"""The cases on streamcore, by the names that `Parity.java` has for them; a result is a line as Flink's is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from streamcore import (
    MAX_TIME,
    Context,
    DataStream,
    OutputTag,
    Schema,
    StreamEnvironment,
    WindowedStream,
    WindowFunction,
    bounded_out_of_orderness,
    col,
    continuous_trigger,
    count,
    count_distinct,
    count_evictor,
    count_trigger,
    count_windows,
    global_windows,
    max_of,
    milliseconds,
    min_of,
    purging,
    session,
    sliding,
    sum_of,
    time_evictor,
    tumbling,
)
from streamcore.operators.interval_join import interval_join
from streamcore.operators.top_k import top_k
from streamcore.operators.window_join import window_join
from tests.parity.streams import BOUND_MS, Event

EVENT = Schema.of(side=int, key=str, time=int, value=int)
LATE: OutputTag[Any] = OutputTag("late")
SUMMARY = {"n": count(), "total": sum_of("value"), "lowest": min_of("value"), "highest": max_of("value")}
JOINED = ("key", "time", "value", "time_right", "value_right")

Case = Callable[[DataStream[Any]], DataStream[str]]


def run(case: Case, events: list[Event]) -> list[str]:
    """The lines of one case; a watermark after every record, so that what is late doesn't depend on batches."""
    env = StreamEnvironment(batch_size=1, buffer_timeout=0.0)
    strategy = bounded_out_of_orderness("time", milliseconds(BOUND_MS))
    stream = env.from_values(events, EVENT).assign_watermarks(strategy)
    return case(stream).execute_and_collect()


def line(record: Iterable[Any]) -> str:
    return ",".join("" if value is None else str(value) for value in record)


class Summarise(WindowFunction[Any, Any, str]):
    """What the Java program makes of a window's records."""

    def process(self, key: Any, window: Any, records: list[Any], ctx: Context[str]) -> None:
        values = [record.value for record in records]
        bounds = (window.start_ms, window.end_ms) if window.end_ms < MAX_TIME else ()
        extremes = (min(values), max(values)) if values else (None, None)
        ctx.emit(line((key, *bounds, len(values), sum(values), *extremes)))


def on_columns(windowed: WindowedStream[Any, Any]) -> DataStream[str]:
    return windowed.aggregate(**SUMMARY).map(line)


def over_rows(windowed: WindowedStream[Any, Any]) -> DataStream[str]:
    return windowed.process(Summarise())


def windows(kind: Any, compute: Callable[..., DataStream[Any]], lateness_ms: int = 0) -> Case:
    def case(stream: DataStream[Any]) -> DataStream[str]:
        windowed = stream.key_by("key").window(kind).late_to(LATE)
        if lateness_ms:
            windowed = windowed.allowed_lateness(milliseconds(lateness_ms))
        if compute is over_rows:
            results = windowed.process(Summarise())
            return results.union(results.side_output(LATE).map(late_line))
        results = windowed.aggregate(**SUMMARY)
        return results.map(line).union(results.side_output(LATE).map(late_line))

    return case


def late_line(event: Any) -> str:
    return line(("late", event.key, event.time, event.value))


def keyed(stream: DataStream[Any]) -> Any:
    return stream.key_by("key")


def sides(stream: DataStream[Any]) -> list[DataStream[Any]]:
    return [stream.filter(col("side") == side).select("key", "time", "value") for side in (0, 1)]


def interval(**options: Any) -> Case:
    def case(stream: DataStream[Any]) -> DataStream[str]:
        first, second = sides(stream)
        return interval_join(first, second, on="key", lower=milliseconds(-500), upper=milliseconds(700), **options).map(
            line
        )

    return case


def window_joined(kind: Any) -> Case:
    def case(stream: DataStream[Any]) -> DataStream[str]:
        first, second = sides(stream)
        joined = window_join(first, second, on="key", windows=kind)
        return joined.map(lambda row: line(getattr(row, name) for name in JOINED))

    return case


def top_two(stream: DataStream[Any]) -> DataStream[str]:
    counts = keyed(stream).window(tumbling(milliseconds(1000))).aggregate(n=count())
    return top_k(counts, 2, "n").map(line)


SECOND = tumbling(milliseconds(1000))
HOP = sliding(milliseconds(3000), every=milliseconds(1000))
SESSION = session(milliseconds(400))


def both(kind: Any, lateness_ms: int = 0) -> dict[str, Case]:
    return {"columns": windows(kind, on_columns, lateness_ms), "rows": windows(kind, over_rows, lateness_ms)}


def plain(kind: Any) -> dict[str, Case]:
    return {
        "columns": lambda stream: on_columns(keyed(stream).window(kind)),
        "rows": lambda stream: over_rows(keyed(stream).window(kind)),
    }


def rows_of(windowed: Callable[[Any], WindowedStream[Any, Any]]) -> dict[str, Case]:
    return {"rows": lambda stream: over_rows(windowed(keyed(stream)))}


def without_key(stream: DataStream[Any]) -> DataStream[str]:
    return stream.window_all(SECOND).aggregate(**SUMMARY).map(lambda row: line(("", *row)))


def distinct(stream: DataStream[Any]) -> DataStream[str]:
    return keyed(stream).window(SECOND).aggregate(n=count_distinct("value")).map(line)


CASES: dict[str, dict[str, Case]] = {
    "tumbling": both(SECOND),
    "tumbling_offset": both(tumbling(milliseconds(1000), offset=milliseconds(300))),
    "tumbling_lateness": both(SECOND, 1500),
    "sliding": both(HOP),
    "sliding_uneven": both(sliding(milliseconds(2500), every=milliseconds(1000))),
    "sliding_apart": both(sliding(milliseconds(700), every=milliseconds(1000))),
    "sliding_lateness": both(HOP, 1200),
    "session": both(SESSION),
    "session_lateness": both(SESSION, 900),
    "count": plain(count_windows(5)),
    "count_sliding": plain(count_windows(7, every=3)),
    "global_purging": rows_of(lambda keyed: keyed.window(global_windows()).trigger(purging(count_trigger(4)))),
    "count_trigger": rows_of(lambda keyed: keyed.window(SECOND).trigger(count_trigger(3))),
    "continuous_trigger": rows_of(
        lambda keyed: keyed.window(tumbling(milliseconds(3000))).trigger(continuous_trigger(milliseconds(1000)))
    ),
    "count_evictor": rows_of(lambda keyed: keyed.window(SECOND).evictor(count_evictor(2))),
    "time_evictor": rows_of(lambda keyed: keyed.window(SECOND).evictor(time_evictor(milliseconds(300)))),
    "window_all": {"columns": without_key},
    "interval_join": {"columns": interval()},
    "interval_join_exclusive": {"columns": interval(include_lower=False, include_upper=False)},
    "window_join_tumbling": {"columns": window_joined(SECOND)},
    "window_join_sliding": {"columns": window_joined(sliding(milliseconds(2000), every=milliseconds(1000)))},
    "sql_tumble": plain(SECOND),
    "sql_hop": plain(HOP),
    "sql_top_k": {"columns": top_two},
    "sql_interval_join": {"columns": interval()},
    "sql_interval_left_join": {"columns": interval(how="left")},
    "sql_distinct": {"columns": distinct},
}
"""Name of a case → the ways in which streamcore can compute it."""

IN_TIME = ("window_all", "interval", "window_join", "sql")
"""Cases that begin like this get no late records: with two inputs, or Flink's own watermarks in SQL, which of them
Flink takes depends on its threads and its clock."""
