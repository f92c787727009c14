"""Flink SQL in streaming mode through the Table API: everything that runs per record is Flink's own Java.

The word count uses mini-batches, which is the fastest setting; the sink takes the change log as JSON and the last
change of a word counts. Windows are window TVFs with two-phase aggregation; trending is the window top-N.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import json  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402

import pandas as pd  # noqa: E402
from pyflink.table import EnvironmentSettings, TableEnvironment  # noqa: E402

from tests.bench.peers.protocol import Run, Task, serve, write_csv  # noqa: E402

COLUMNS = {
    "word-count": "word STRING",
    "trending": "ms BIGINT, word STRING, ts AS TO_TIMESTAMP_LTZ(ms, 3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND",
}
SENSORS = (
    "sensor INT, ms BIGINT, `value` DOUBLE, ts AS TO_TIMESTAMP_LTZ(ms, 3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND"
)
WINDOWED_RESULT = ("sensor INT, start_at TIMESTAMP(3), mean_value DOUBLE, n BIGINT", "csv")
RESULTS = {
    "word-count": ("word STRING, n BIGINT", "debezium-json"),
    "tumbling": WINDOWED_RESULT,
    "sliding": WINDOWED_RESULT,
    "trending": ("start_at TIMESTAMP(3), word STRING, n BIGINT", "csv"),
}
MEANS = (
    "SELECT sensor, window_start, AVG(`value`), COUNT(*) FROM TABLE({window}) GROUP BY sensor, window_start, window_end"
)
QUERIES = {
    "word-count": "SELECT word, COUNT(*) FROM records GROUP BY word",
    "tumbling": MEANS.format(window="TUMBLE(TABLE records, DESCRIPTOR(ts), INTERVAL '5' SECOND)"),
    "sliding": MEANS.format(window="HOP(TABLE records, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '5' SECOND)"),
    "trending": """
        SELECT window_start, word, n FROM (
            SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY n DESC, word ASC) AS place
            FROM (
                SELECT window_start, window_end, word, COUNT(*) AS n
                FROM TABLE(TUMBLE(TABLE records, DESCRIPTOR(ts), INTERVAL '10' SECOND))
                GROUP BY window_start, window_end, word
            )
        ) WHERE place <= 10""",
}
SETTINGS = {
    "table.local-time-zone": "UTC",
    "pipeline.object-reuse": "true",
    "taskmanager.memory.process.size": "4g",
    "table.exec.source.idle-timeout": "0",
}
MINI_BATCH = {
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "5 s",
    "table.exec.mini-batch.size": "5000000",
    "table.optimizer.agg-phase-strategy": "TWO_PHASE",
}


def environment(task: Task) -> TableEnvironment:
    env = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    settings = SETTINGS | (MINI_BATCH if task.workload == "word-count" else {})
    for name, value in (settings | {"parallelism.default": str(task.workers)}).items():
        env.get_config().set(name, value)
    folder = stage_input(task)
    columns = COLUMNS.get(task.workload, SENSORS)
    env.execute_sql(
        f"CREATE TABLE records ({columns}) WITH "
        f"('connector' = 'filesystem', 'path' = 'file://{folder}', 'format' = '{task.kind}')"
    )
    return env


def stage_input(task: Task) -> Path:
    """A folder of links to the input files: a table's path is one folder, whose files its subtasks share."""
    folder = task.output.parent / f"{task.output.name}-input"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for path in map(Path, task.plain_paths):
        (folder / path.name).hardlink_to(path)
    return folder.resolve()


def query(task: Task) -> Run:
    started = time.perf_counter()
    env = environment(task)
    columns, form = RESULTS[task.workload]
    raw = task.output / "raw"
    env.execute_sql(
        f"CREATE TABLE answers ({columns}) WITH "
        f"('connector' = 'filesystem', 'path' = 'file://{raw.resolve()}', 'format' = '{form}')"
    )
    insert = f"INSERT INTO answers {QUERIES[task.workload]}"
    env.execute_sql(insert).wait()
    return Run(time.perf_counter() - started, tidy=lambda: tidy(task, raw, form))


def tidy(task: Task, raw: Path, form: str) -> None:
    """Times become milliseconds; a change log is folded: its last line about a word has the count."""
    parts = [path for path in sorted(raw.iterdir()) if not path.name.startswith(".")]
    if form == "csv":
        names = [column.split()[0] for column in RESULTS[task.workload][0].split(", ")]
        for number, path in enumerate(parts):
            frame = pd.read_csv(path, header=None, names=names, keep_default_na=False)
            frame["start_at"] = pd.to_datetime(frame["start_at"]).astype("datetime64[ms]").astype("int64")
            frame.to_csv(task.output / f"{number}.csv", header=False, index=False)
        return
    counts: dict[str, int] = {}
    for path in parts:
        for line in path.read_text().splitlines():
            change = json.loads(line)
            if change["op"] == "c":
                counts[change["after"]["word"]] = change["after"]["n"]
    write_csv(task.output / "result.csv", counts.items())


if __name__ == "__main__":
    serve(dict.fromkeys(QUERIES, query), version=version("apache-flink"), started=STARTED, warm_up=True)
