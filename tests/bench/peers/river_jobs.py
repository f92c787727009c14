"""river's BiasedMF, which learns from one rating after the other, for comparison with the online MF loop."""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import csv  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402

from river import reco  # noqa: E402

from tests.bench.peers.protocol import Run, Task, serve, write_csv  # noqa: E402


def online_mf(task: Task) -> Run:
    """Predicts, then learns, each rating; the result is the RMSE of the predictions. Reading is not counted."""
    with Path(task.first).open(newline="") as file:
        ratings = [(int(user), int(item), float(rating)) for user, item, rating in csv.reader(file)]
    model, squared = reco.BiasedMF(n_factors=10), 0.0
    started = time.perf_counter()
    for user, item, rating in ratings:
        squared += (model.predict_one(user, item) - rating) ** 2
        model.learn_one(user, item, rating)
    seconds = time.perf_counter() - started
    write_csv(task.output / "result.csv", [((squared / len(ratings)) ** 0.5,)])
    return Run(seconds)


if __name__ == "__main__":
    serve({"online-mf": online_mf}, version=version("river"), started=STARTED)
