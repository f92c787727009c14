"""The mean of every so many readings of a sensor."""

from __future__ import annotations

from typing import Any

from streamcore import DataStream, col, count_windows, max_of, mean, min_of


def mean_of_each(stream: DataStream[Any], per: int) -> DataStream[Any]:
    """`sensor`, the times of the first and the last of `per` readings, and their `mean`; what is left at the end
    gives none."""
    tens = stream.key_by("sensor").window(count_windows(per))
    means = tens.aggregate(mean("fahrenheit"), start=min_of("time"), end=max_of("time")).uid("by-count")
    return means.select("sensor", "start", "end", mean=col("mean_fahrenheit").round(6)).uid("by-count-rounded")
