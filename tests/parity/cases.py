"""The cases on streamcore, by the names that `Parity.java` has for them; a result is a line as Flink's is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from streamcore import (
    MAX_TIME,
    Aggregate,
    Context,
    DataStream,
    OutputTag,
    ProcessFunction,
    Schema,
    StreamEnvironment,
    ValueState,
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
    event_time_trigger,
    first_of,
    global_windows,
    last_of,
    max_of,
    mean,
    milliseconds,
    min_of,
    purging,
    session,
    sliding,
    std_of,
    sum_of,
    time_evictor,
    tumbling,
    var_of,
)
from streamcore.operators.interval_join import interval_join
from streamcore.operators.temporal_join import temporal_join
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


class Timers(ProcessFunction[Any, str]):
    """An event timer at the end of each record's second says what has come; a 0 takes the next second's away."""

    def open(self, ctx: Context[str]) -> None:
        self._sum = ctx.state(ValueState("sum", default=0))

    def process(self, record: Any, ctx: Context[str]) -> None:
        self._sum.set(self._sum.get() + record.value)
        end = record.time - record.time % 1000 + 999
        ctx.register_event_timer(end)
        if record.value == 0:
            ctx.cancel_event_timer(end + 1000)
        if ctx.watermark is not None and record.time <= ctx.watermark:
            ctx.emit(line((ctx.key, "late", record.time)))

    def on_event_timer(self, time_ms: int, ctx: Context[str]) -> None:
        ctx.emit(line((ctx.key, time_ms, self._sum.get())))


class Pairs(WindowFunction[Any, Any, str]):
    """The pairs of records of the two sides."""

    def process(self, key: Any, window: Any, records: list[Any], ctx: Context[str]) -> None:
        sides = [[record for record in records if record.side == side] for side in (0, 1)]
        for first, second in itertools.product(*sides):
            ctx.emit(line((key, *first[2:], *second[2:])))


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


def window_joined(kind: Any, names: tuple[str, ...] = JOINED, **options: Any) -> Case:
    def case(stream: DataStream[Any]) -> DataStream[str]:
        first, second = sides(stream)
        joined = window_join(first, second, on="key", windows=kind, **options)
        return joined.map(lambda row: line(getattr(row, name) for name in names))

    return case


def as_of(**options: Any) -> Case:
    def case(stream: DataStream[Any]) -> DataStream[str]:
        return temporal_join(*sides(stream), on="key", **options).map(line)

    return case


def late_too(results: DataStream[Any], lines: DataStream[str]) -> DataStream[str]:
    return lines.union(results.side_output(LATE).map(late_line))


def fired(kind: Any, lateness_ms: int = 1500, *, trigger: Any = None, evictor: Any = None) -> dict[str, Case]:
    """Windows over rows with late records, by another trigger or with an evictor."""

    def case(stream: DataStream[Any]) -> DataStream[str]:
        windowed = keyed(stream).window(kind).late_to(LATE).allowed_lateness(milliseconds(lateness_ms))
        windowed = windowed.trigger(trigger) if trigger is not None else windowed
        windowed = windowed.evictor(evictor) if evictor is not None else windowed
        results = windowed.process(Summarise())
        return late_too(results, results)

    return {"rows": case}


def reduced(kind: Any) -> Case:
    """The latest time and the sum of each window."""

    def added(first: Any, second: Any) -> Any:
        return first._replace(time=max(first.time, second.time), value=first.value + second.value)

    def case(stream: DataStream[Any]) -> DataStream[str]:
        windowed = keyed(stream).window(kind).late_to(LATE).allowed_lateness(milliseconds(1500))
        results = windowed.reduce(added)
        return late_too(results, results.map(lambda row: line((*row[:3], row.time, row.value))))

    return case


def of_all(kind: Any, lateness_ms: int) -> dict[str, Case]:
    def columns(stream: DataStream[Any]) -> DataStream[str]:
        windowed = stream.window_all(kind).late_to(LATE).allowed_lateness(milliseconds(lateness_ms))
        results = windowed.aggregate(**SUMMARY)
        return late_too(results, results.map(lambda row: line(("", *row))))

    def rows(stream: DataStream[Any]) -> DataStream[str]:
        windowed = stream.window_all(kind).late_to(LATE).allowed_lateness(milliseconds(lateness_ms))
        results = windowed.process(Summarise())
        return late_too(results, results.map(lambda text: text.removeprefix("None")))

    return {"columns": columns, "rows": rows}


def aggregated(kind: Any, **aggregates: Aggregate) -> dict[str, Case]:
    def columns(stream: DataStream[Any]) -> DataStream[str]:
        return keyed(stream).window(kind).aggregate(**aggregates).map(rounded)

    def rows(stream: DataStream[Any]) -> DataStream[str]:
        return keyed(stream).window(kind).trigger(event_time_trigger()).aggregate(**aggregates).map(rounded)

    return {"columns": columns, "rows": rows}


def rounded(record: Any) -> str:
    """As the Java program writes numbers; NaN is SQL's NULL."""
    texts = ["" if value != value else f"{value:.9f}" if isinstance(value, float) else value for value in record]
    return line(texts)


def two_levels(stream: DataStream[Any]) -> DataStream[str]:
    sums = keyed(stream).window(SECOND).aggregate(s=sum_of("value"))
    return sums.window_all(tumbling(milliseconds(5000))).aggregate(total=sum_of("s"), n=count()).map(line)


def top_two(stream: DataStream[Any]) -> DataStream[str]:
    counts = keyed(stream).window(tumbling(milliseconds(1000))).aggregate(n=count())
    return top_k(counts, 2, "n").map(line)


SECOND = tumbling(milliseconds(1000))
HOP = sliding(milliseconds(3000), every=milliseconds(1000))
SESSION = session(milliseconds(400))
THREE = tumbling(milliseconds(3000))


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
    "session_early": fired(SESSION, 0, trigger=continuous_trigger(milliseconds(300))),
    "session_early_lateness": fired(SESSION, 900, trigger=continuous_trigger(milliseconds(300))),
    "session_count_trigger": fired(SESSION, 900, trigger=count_trigger(2)),
    "session_purging": fired(SESSION, 900, trigger=purging(event_time_trigger())),
    "session_evictor": fired(SESSION, 900, evictor=time_evictor(milliseconds(100))),
    "count_trigger_lateness": fired(SECOND, trigger=count_trigger(2)),
    "continuous_trigger_lateness": fired(HOP, trigger=continuous_trigger(milliseconds(700))),
    "purging_lateness": fired(SECOND, trigger=purging(event_time_trigger())),
    "purging_continuous_lateness": fired(THREE, trigger=purging(continuous_trigger(milliseconds(700)))),
    "count_evictor_after": fired(THREE, trigger=count_trigger(2), evictor=count_evictor(3, after=True)),
    "time_evictor_after": fired(THREE, trigger=count_trigger(2), evictor=time_evictor(milliseconds(300), after=True)),
    "evictor_purging": fired(SECOND, trigger=purging(event_time_trigger()), evictor=count_evictor(2)),
    "global_evictor": rows_of(
        lambda keyed: keyed.window(global_windows()).trigger(count_trigger(3)).evictor(time_evictor(milliseconds(600)))
    ),
    "reduce_lateness": {"rows": reduced(HOP)},
    "reduce_session_lateness": {"rows": reduced(SESSION)},
    "all_lateness": of_all(SECOND, 1500),
    "all_session_lateness": of_all(session(milliseconds(40)), 1500),
    "event_timers": {"rows": lambda stream: keyed(stream).process(Timers())},
    "window_all": {"columns": without_key},
    "interval_join": {"columns": interval()},
    "interval_join_exclusive": {"columns": interval(include_lower=False, include_upper=False)},
    "window_join_tumbling": {"columns": window_joined(SECOND)},
    "window_join_sliding": {"columns": window_joined(sliding(milliseconds(2000), every=milliseconds(1000)))},
    "window_join_session": {"rows": lambda stream: keyed(stream).window(SESSION).process(Pairs())},
    "window_join_left": {"columns": window_joined(tumbling(milliseconds(500)), how="left")},
    "window_join_full": {"columns": window_joined(tumbling(milliseconds(500)), how="full")},
    "sql_tumble": plain(SECOND),
    "sql_hop": plain(HOP),
    "sql_top_k": {"columns": top_two},
    "sql_interval_join": {"columns": interval()},
    "sql_interval_left_join": {"columns": interval(how="left")},
    "sql_interval_full_join": {"columns": interval(how="full")},
    "sql_window_left_join": {"columns": window_joined(SECOND, how="left")},
    "sql_window_semi_join": {"columns": window_joined(SECOND, JOINED[:3], how="semi")},
    "sql_window_anti_join": {"columns": window_joined(SECOND, JOINED[:3], how="anti")},
    "sql_temporal_join": {"columns": as_of()},
    "sql_temporal_left_join": {"columns": as_of(how="left")},
    "sql_distinct": aggregated(SECOND, n=count_distinct("value")),
    "sql_hop_distinct": aggregated(HOP, n=count_distinct("value")),
    "sql_moments": aggregated(
        SECOND, mean=mean("value"), var=var_of("value", ddof=0), std=std_of("value", ddof=0), sample=std_of("value")
    ),
    "sql_first": aggregated(SECOND, v=first_of("value")),
    "sql_last": aggregated(SECOND, v=last_of("value")),
    "sql_session": plain(SESSION),
    "sql_two_levels": {"columns": two_levels},
}
"""Name of a case → the ways in which streamcore can compute it."""

IN_TIME = ("window_all", "interval", "window_join", "sql")
"""Cases that begin like this get no late records: with two inputs, or Flink's own watermarks in SQL, which of them
Flink takes depends on its threads and its clock."""
