"""Spark Structured Streaming, local[N], one `availableNow` run over the files.

Results leave in update mode, the last batch's value of a key counts: in append mode the windows of the last seconds
never come out, since at the end of the input no later record moves the watermark.
"""

from __future__ import annotations

import os
import sys
import time

STARTED = time.perf_counter()
os.environ["PYSPARK_PYTHON"] = sys.executable

import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

import pandas as pd  # noqa: E402
import pyspark  # noqa: E402
from pyspark.sql import DataFrame, SparkSession  # noqa: E402
from pyspark.sql import functions as f  # noqa: E402

from tests.bench.peers.protocol import Job, Run, Task, parse_task, serve  # noqa: E402

SCHEMAS = {"word-count": "word STRING", "sensors": "sensor INT, time BIGINT, value DOUBLE"}


def session(workers: int) -> SparkSession:
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": "4g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": str(workers),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "65536",
    }
    builder = SparkSession.builder.master(f"local[{workers}]").appName("bench")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def source(task: Task) -> DataFrame:
    schema = SCHEMAS.get(task.workload, SCHEMAS["sensors"])
    folder = Path(tempfile.mkdtemp(dir=task.output))  # a stream reads a folder: links to the files
    for path in map(Path, task.plain_paths):
        (folder / path.name).hardlink_to(path)
    return SPARK.readStream.schema(schema).format(task.kind).load(str(folder))


def run(task: Task, result: DataFrame, mode: str = "update") -> Run:
    def save(batch: DataFrame, number: int) -> None:
        batch.write.mode("overwrite").parquet(str(task.output / f"batch-{number:04}"))

    with tempfile.TemporaryDirectory() as checkpoints:
        writer = result.writeStream.outputMode(mode).foreachBatch(save).trigger(availableNow=True)
        started = time.perf_counter()
        writer.option("checkpointLocation", checkpoints).start().awaitTermination()
        seconds = time.perf_counter() - started
    return Run(seconds, tidy=lambda: keep_last(task))


def keep_last(task: Task) -> None:
    """Of several batches the last value of each key; they are all there at once where there was one batch."""
    batches = sorted(task.output.glob("batch-*"))
    filled = [batch for batch in batches if pd.read_parquet(batch).shape[0]]
    for batch in batches:
        if batch not in filled:
            for path in batch.iterdir():
                path.unlink()
    if len(filled) > 1:
        frame = pd.concat([pd.read_parquet(batch) for batch in filled])
        for batch in filled:
            for path in batch.iterdir():
                path.unlink()
        keys = [name for name in ("word", "sensor", "start") if name in frame.columns]
        frame.drop_duplicates(keys, keep="last").to_parquet(task.output / "result.parquet")


def word_count(task: Task) -> Run:
    return run(task, source(task).groupBy("word").count())


def windowed(task: Task, *window: str) -> Run:
    timed = source(task).withColumn("ts", f.timestamp_millis("time")).withWatermark("ts", "5 seconds")
    groups = timed.groupBy("sensor", f.window("ts", *window).alias("w"))
    means = groups.agg(f.avg("value").alias("mean"), f.count("*").alias("count"))
    return run(task, means.select("sensor", f.unix_millis("w.start").alias("start"), "mean", "count"))


def to_fahrenheit(celsius: pd.Series) -> pd.Series:
    return celsius * 9 / 5 + 32


def python_map(task: Task) -> Run:
    convert = f.pandas_udf(to_fahrenheit, "double")
    value = source(task).select(convert("value").alias("value"))
    total = value.agg(
        f.count("*").alias("count"), f.sum("value").alias("total"), f.min("value").alias("least"),
        f.max("value").alias("most"),
    )  # fmt: skip
    return run(task, total, "complete")


JOBS: dict[str, Job] = {
    "word-count": word_count,
    "tumbling": lambda task: windowed(task, "5 seconds"),
    "sliding": lambda task: windowed(task, "5 seconds", "1 second"),
    "python-map": python_map,
}

if __name__ == "__main__":
    SPARK = session(parse_task().workers)
    serve(JOBS, version=pyspark.__version__, started=STARTED, warm_up=True)
