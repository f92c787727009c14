"""The right result of every workload, by polars (the EWMA by a numba loop), and the comparison with an engine's.

All windows are [start, start + size), aligned to 0, over all records: nothing is late. The answers are kept beside
the data, since they cost as much as a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numba
import numpy as np
import polars as pl

from tests.bench.data import SENSORS, Inputs
from tests.bench.workload import Workload

ALPHA = 0.1
ALERT_DISTANCE = 3.0
_RELATIVE = 1e-9


def expected(workload: Workload, inputs: Inputs) -> pl.DataFrame:
    """The right result, sorted by the workload's key; made once."""
    path = inputs.folder / f"expected-{workload.id}.parquet"
    if not path.exists():
        ANSWERS[workload.id](scan(inputs.paths(workload.data_set, "parquet"))).write_parquet(path)
    return _in_order(pl.read_parquet(path), workload)


def scan(paths: Sequence[Path]) -> pl.LazyFrame:
    """The records of CSV files with a header, or of Parquet files."""
    return pl.scan_parquet(paths) if paths[0].suffix == ".parquet" else pl.scan_csv(paths)


def difference(workload: Workload, inputs: Inputs, output: Path) -> str:
    """What is wrong with the result in `output`, in words; empty when it is right."""
    wanted, found = expected(workload, inputs), read_result(workload, output)
    if found is None:
        return "no result"
    if len(found) != len(wanted):
        return f"{len(found)} rows instead of {len(wanted)}"
    found = _in_order(found, workload)
    for name in workload.result:
        if wanted[name].dtype.is_float():
            same = np.allclose(found[name].cast(pl.Float64), wanted[name], rtol=_RELATIVE, atol=0)
        else:
            same = bool((found[name].cast(wanted[name].dtype) == wanted[name]).all())
        if not same:
            return f"column {name} differs"
    return ""


def read_result(workload: Workload, output: Path) -> pl.DataFrame | None:
    """The result that an engine has written: all Parquet or all CSV files under a folder."""
    if parquet := sorted(output.rglob("*.parquet")):
        frame = pl.concat([pl.read_parquet(path).select(workload.result) for path in parquet])
    elif files := [path for path in sorted(output.rglob("*.csv")) if path.stat().st_size]:
        frame = pl.concat([pl.read_csv(path, has_header=False, new_columns=workload.result) for path in files])
    else:
        return None
    return frame


def _in_order(frame: pl.DataFrame, workload: Workload) -> pl.DataFrame:
    return frame.sort(workload.key) if workload.key else frame


def word_count(words: pl.LazyFrame) -> pl.DataFrame:
    """word, count."""
    return words.group_by("word").agg(count=pl.len()).collect(engine="streaming")


def tumbling(sensors: pl.LazyFrame) -> pl.DataFrame:
    """sensor, start, mean, count of windows of 5 s."""
    start = pl.col("time") // 5_000 * 5_000
    groups = sensors.group_by("sensor", start.alias("start"))
    return groups.agg(mean=pl.col("value").mean(), count=pl.len()).collect(engine="streaming")


def sliding(sensors: pl.LazyFrame) -> pl.DataFrame:
    """sensor, start, mean, count of windows of 5 s, one every second: sums of seconds, then each in five windows."""
    second = pl.col("time") // 1_000 * 1_000
    panes = sensors.group_by("sensor", second.alias("second")).agg(sum=pl.col("value").sum(), count=pl.len())
    shifted = panes.with_columns(start=pl.concat_list([pl.col("second") - 1_000 * back for back in range(5)]))
    groups = shifted.explode("start").group_by("sensor", "start").agg(pl.col("sum", "count").sum())
    result = groups.select("sensor", "start", mean=pl.col("sum") / pl.col("count"), count="count")
    return result.collect(engine="streaming")


def ewma(sensors: pl.LazyFrame) -> pl.DataFrame:
    """sensor, number of alerts, sum of the means after each record, in the order of the files."""
    columns = sensors.select("sensor", "value").collect()
    alerts, totals = _ewma(columns["sensor"].to_numpy(), columns["value"].to_numpy(), SENSORS)
    result = pl.DataFrame({"sensor": np.arange(SENSORS), "alerts": alerts, "total": totals})
    return result.filter(pl.col("sensor").is_in(columns["sensor"].unique().implode()))


@numba.njit(cache=True)
def _ewma(sensors: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    means, seen = np.zeros(count), np.zeros(count, np.bool_)
    alerts, totals = np.zeros(count, np.int64), np.zeros(count)
    for i in range(len(sensors)):
        sensor, value = sensors[i], values[i]
        means[sensor] = ALPHA * value + (1 - ALPHA) * means[sensor] if seen[sensor] else value
        seen[sensor] = True
        alerts[sensor] += abs(value - means[sensor]) > ALERT_DISTANCE
        totals[sensor] += means[sensor]
    return alerts, totals


def trending(words: pl.LazyFrame) -> pl.DataFrame:
    """start, word, count of the ten words that are most frequent in each 10 s; the first in the alphabet on a tie."""
    start = pl.col("time") // 10_000 * 10_000
    counts = words.group_by(start.alias("start"), "word").agg(count=pl.len()).collect(engine="streaming")
    ranked = counts.sort(["start", "count", "word"], descending=[False, True, False])
    return ranked.group_by("start", maintain_order=True).head(10)


def python_map(sensors: pl.LazyFrame) -> pl.DataFrame:
    """count, sum, least and most of the values in Fahrenheit."""
    value = pl.col("value") * 9 / 5 + 32
    result = sensors.select(count=pl.len(), total=value.sum(), least=value.min(), most=value.max())
    return result.collect(engine="streaming")


ANSWERS: dict[str, Callable[[pl.LazyFrame], pl.DataFrame]] = {
    "word-count": word_count,
    "tumbling": tumbling,
    "sliding": sliding,
    "ewma": ewma,
    "trending": trending,
    "python-map": python_map,
}
