"""The main job: learns to predict ratings as they come, on a loop of two long-running operators.

Output, as JSON lines or messages: `rmse` (`{"ratings", "rmse", "recent_rmse"}`, a line each `report_every` ratings and
one at the end), `users` and `items` (`{"id", "ratings", "bias", "vector"}`).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamcore import App, Columns, Context, JobResult, Loop, ProcessFunction, StreamEnvironment, ValueState
from streamcore.apps.conventions import is_topics, messages, place, where_results_are, write
from streamcore.apps.online_mf.report import report
from streamcore.connectors.base import Source
from streamcore.connectors.csv_source import CsvSource
from streamcore.connectors.parquet_source import ParquetSource
from streamcore.operators.online_mf import (
    ERRORS,
    Hyperparameters,
    ItemVectors,
    UserVectors,
    rating_schema,
    update_schema,
    visit_schema,
)

SHIPPED = Path(__file__).parent / "data" / "ratings.csv.gz"
COLUMNS = {"userId": "user", "movieId": "item"}


class Rating(msgspec.Struct, rename={"user": "userId", "item": "movieId"}):
    """A rating as a message: `{"userId", "movieId", "rating", ...}`."""

    user: np.int64
    item: np.int64
    rating: np.float32


class Progress(ProcessFunction[Any, dict[str, float]]):
    """Progressive RMSE: every rating's error counts once, as it was before the rating was learned."""

    def __init__(self, report_every: int) -> None:
        self._report_every = report_every

    def open(self, ctx: Context[dict[str, float]]) -> None:
        # (ratings, squared error) in all, and at the last report
        self._sums = ctx.state(ValueState("sums", (0, 0.0, 0, 0.0)))

    def process(self, record: Any, ctx: Context[dict[str, float]]) -> None:
        count, squared, last_count, last_squared = self._sums.get()
        count, squared = count + record.count, squared + record.squared
        if count - last_count >= self._report_every:
            ctx.emit(_line(count, squared, last_count, last_squared))
            last_count, last_squared = count, squared
        self._sums.set((count, squared, last_count, last_squared))

    def finish(self, ctx: Context[dict[str, float]]) -> None:
        count, squared, last_count, last_squared = self._sums.get()
        if count > last_count:
            ctx.emit(_line(count, squared, last_count, last_squared))


def _line(count: int, squared: float, last_count: int, last_squared: float) -> dict[str, float]:
    recent = math.sqrt((squared - last_squared) / (count - last_count))
    return {"ratings": count, "rmse": math.sqrt(squared / count), "recent_rmse": recent}


def _same(record: Any) -> int:
    """One key for all: the curve is of all ratings together."""
    return 0


def ratings_source(path: str) -> Source[object]:
    """The ratings in a CSV file (columns userId, movieId, rating; gzip as it is), a Parquet file, or topics."""
    if is_topics(path):
        return messages(path, Rating, on_error="fail")
    if path.endswith(".parquet"):
        return ParquetSource(path, rating_schema())
    return CsvSource(path, rating_schema(), rename=COLUMNS)


def build(
    env: StreamEnvironment,
    *,
    input: str = str(SHIPPED),  # noqa: A002 - the name of the setting in every app
    source: str = "",
    output: str = "out/online_mf",
    sink: str = "",
    k: int = 10,
    step: float = 0.05,
    l2: float = 0.05,
    mean: float = 3.6,
    window: int = 32,
    report_every: int = 10_000,
) -> None:
    """Builds the topology."""
    parameters = Hyperparameters(k, step, l2, mean, window=window)
    learn(env, ratings_source(place(source, input)), parameters, place(sink, output), report_every)


def learn(
    env: StreamEnvironment, source: Source[object], parameters: Hyperparameters, output: str, report_every: int
) -> None:
    """The loop itself, over any source of ratings, with results in folders or topics; `parameters.lanes` is set to the
    environment's parallelism."""
    parameters = Hyperparameters(
        parameters.k,
        parameters.step,
        parameters.l2,
        parameters.mean,
        parameters.scale,
        parameters.window,
        env.parallelism,
    )
    users, items = UserVectors(parameters), ItemVectors(parameters)
    ratings = env.source(source, name="ratings")
    loop: Loop[Columns] = env.loop(update_schema(parameters.k))
    with loop:
        visits = (
            ratings.connect(loop.feedback)
            .key_by("user", "user")
            .process(users, returns=visit_schema(parameters.k), tags=[users.factors])
            .uid("users")
            .parallelism(env.parallelism)
        )
        errors = (
            visits.key_by("item")
            .process(items, returns=ERRORS, tags=[items.updates, items.factors])
            .uid("items")
            .parallelism(env.parallelism)
        )
        loop.close(errors.side_output(items.updates))
    curve = errors.key_by(_same).process(Progress(report_every)).uid("progress").parallelism(1)
    write(curve, output, "rmse")
    write(visits.side_output(users.factors), output, "users")
    write(errors.side_output(items.factors), output, "items")


def _report(result: JobResult, **settings: object) -> str:
    if settings["sink"]:
        return where_results_are(str(settings["sink"]))
    shipped = settings["input"] == str(SHIPPED) and not settings["source"]
    return report(str(settings["output"]), shipped=shipped)


APP = App("online_mf", build, "learns to predict movie ratings as they come, on a stream loop", report=_report)
