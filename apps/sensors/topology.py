"""Two kinds of sensors, as a chain and as a dataflow.

    chain:   Celsius ── CtoF ── Filter ── Avg of 10 ── storage

    dag:     Celsius ── CtoF ─┬─ Filter ─┬─ Avg (partial sum and count, combined) ── storage
             Kelvin  ── KtoF ─┘          └─ repeats dropped ─┬─ Avg of 10, per window, per sliding window ── storage
                                                             └─ EWMA and band ─┬─ storage
                                                                               └─ alerts

Output, as JSON lines or messages; temperatures in degrees Fahrenheit, times in milliseconds since 1970:

- `alerts/`: `{"sensor", "time", "fahrenheit", "expected", "spread"}`: readings further from what was expected than
  `deviations` times the spread of the readings before
- `readings/`: `{"sensor", "time", "fahrenheit", "ewma", "expected", "spread"}`
- `means/`: `{"sensor", "mean", "count"}` over all good readings, repeats too
- `by_count/`: `{"sensor", "mean"}` of ten readings each
- `tumbling/`, `sliding/`: `{"sensor", "window_start", "window_end", "mean", "count"}`
- `rejected/`: `{"sensor", "time", "fahrenheit"}`, what the filter took out; `malformed/`: what could not be read
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamcore import (
    App,
    DataStream,
    Expression,
    JobResult,
    StreamEnvironment,
    UsageError,
    col,
    count,
    mean,
    milliseconds,
    seconds,
    sliding,
    tumbling,
)
from streamcore.apps.conventions import MALFORMED, check_setting, place, where_results_are, write
from streamcore.apps.sensors.by_count import mean_of_each
from streamcore.apps.sensors.readings import read_labels, readings
from streamcore.apps.sensors.report import report
from streamcore.operators.deduplicate import deduplicate
from streamcore.operators.ewma import ewma
from streamcore.operators.partial_aggregate import combined, partial_aggregate

DATA = Path(__file__).parent / "data"
SHIPPED = DATA / "celsius.csv.gz"
SHIPPED_KELVIN = DATA / "kelvin.csv.gz"
SHIPPED_LABELS = DATA / "labels.csv.gz"

_PARTS = {"total": ("fahrenheit", "sum"), "count": ("fahrenheit", "count")}
_DECIMALS = 6


def build(
    env: StreamEnvironment,
    *,
    input: str = str(SHIPPED),  # noqa: A002 - the name of the setting in every app
    source: str = "",
    kelvin: str | None = None,
    output: str = "out/sensors",
    sink: str = "",
    form: str = "dag",
    unit: str = "celsius",
    lowest: float = -130.0,
    highest: float = 300.0,
    per: int = 10,
    window_s: float = 86_400.0,
    every_s: float = 21_600.0,
    half_life_s: float = 7 * 86_400.0,
    deviations: float = 3.0,
    out_of_order_s: float = 3600.0,
    labels: str = str(SHIPPED_LABELS),
) -> None:
    """Builds the topology; `kelvin` is the shipped readings if what is read is. It may be an address of topics too."""
    if form not in ("chain", "dag"):
        raise UsageError(f"sensors: there is no form {form!r}", hint="form is chain or dag")
    check_setting("deviations", deviations, 0)
    check_setting("highest", highest, lowest)
    if labels:
        read_labels(labels)  # a file that can't be used is better known before the run than after it
    is_good = (col("fahrenheit") >= lowest) & (col("fahrenheit") <= highest)  # false of what is no number
    read_from, write_to = place(source, input), place(sink, output)
    first, malformed = readings(env, read_from, unit, out_of_order_s, "readings")
    if form == "chain":
        kept = first.filter(is_good).uid("filter").parallelism(1)
        write(mean_of_each(kept, per), write_to, "by_count", key="sensor")
        write(malformed, write_to, MALFORMED)
        return
    kelvin = str(SHIPPED_KELVIN) if kelvin is None and read_from == str(SHIPPED) else kelvin
    if kelvin:
        second, malformed_too = readings(env, kelvin, "kelvin", out_of_order_s, "kelvin-readings")
        first = first.union(second).uid("union").parallelism(1)
        malformed = malformed.union(malformed_too).uid("malformed")
    good = first.filter(is_good).uid("filter").parallelism(1)
    write(malformed, write_to, MALFORMED)
    write(first.filter(~is_good).uid("rejected"), write_to, "rejected", key="sensor")
    write(_overall_means(good), write_to, "means", key="sensor")
    # one reading at a time; by sensor alone, so that its readings stay in order
    once = deduplicate(good, "sensor", within=milliseconds(1)).uid("deduplicate")
    _averages(once, write_to, per, window_s, every_s)
    _watch(once, write_to, half_life_s, deviations)


def _overall_means(good: DataStream[Any]) -> DataStream[Any]:
    """The mean of each sensor, as sums and counts of parts of the stream that are then combined."""
    parts = partial_aggregate(good, "sensor", **_PARTS).uid("partial")
    sums = parts.key_by("sensor").aggregate(**combined(_PARTS)).uid("combine")
    return sums.select("sensor", "count", mean=(col("total") / col("count")).round(_DECIMALS)).uid("mean")


def _averages(once: DataStream[Any], write_to: str, per: int, window_s: float, every_s: float) -> None:
    """Means per so many readings, per window, and per window that slides."""
    write(mean_of_each(once, per), write_to, "by_count", key="sensor")
    for name, windows in (
        ("tumbling", tumbling(seconds(window_s))),
        ("sliding", sliding(seconds(window_s), every=seconds(every_s))),
    ):
        means = once.key_by("sensor").window(windows).aggregate(mean("fahrenheit"), count()).uid(name)
        rounded = {"mean": col("mean_fahrenheit").round(_DECIMALS)}
        write(means.select("sensor", "window_start", "window_end", "count", **rounded), write_to, name, key="sensor")


def _watch(once: DataStream[Any], write_to: str, half_life_s: float, deviations: float) -> None:
    """The moving average and its band; what lies outside is an alert."""
    watched = ewma(once, "sensor", "fahrenheit", half_life=half_life_s).uid("ewma")
    write(watched, write_to, "readings", key="sensor")
    distance: Expression = (col("fahrenheit") - col("expected")).abs()
    outside = watched.filter(distance > deviations * col("spread"))  # false as long as the spread isn't known
    alerts = outside.select("sensor", "time", "fahrenheit", "expected", "spread").uid("alerts")
    write(alerts, write_to, "alerts", key="sensor")


def _report(result: JobResult, **settings: Any) -> str:
    if settings["sink"]:
        return where_results_are(settings["sink"])
    is_shipped = settings["input"] == str(SHIPPED) and not settings["source"]
    labels = settings["labels"] if is_shipped or settings["labels"] != str(SHIPPED_LABELS) else ""
    return report(settings["output"], settings["form"], labels, settings["deviations"])


APP = App("sensors", build, "temperatures of two kinds: averages, windows, alerts, and a picture", report=_report)
