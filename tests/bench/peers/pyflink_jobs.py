"""PyFlink: functions in Python, in Python worker processes beside the JVM.

- `ewma`: a KeyedProcessFunction of the DataStream API (process mode; bundles and the state cache raised).
- `python-map`: a Table API UDF, per row, or on pandas series with UDF=pandas.
"""

from __future__ import annotations

import os
import sys
import time

STARTED = time.perf_counter()

from collections.abc import Iterator  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from pyflink.common import Configuration, Row, RowKind, Types, WatermarkStrategy  # noqa: E402
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment  # noqa: E402
from pyflink.datastream.connectors.file_system import FileSource, StreamFormat  # noqa: E402
from pyflink.datastream.state import ValueStateDescriptor  # noqa: E402
from pyflink.table import DataTypes, EnvironmentSettings, StreamTableEnvironment, Table, TableEnvironment  # noqa: E402
from pyflink.table.udf import udf  # noqa: E402

from tests.bench.peers.protocol import Run, Task, serve, write_csv  # noqa: E402

SETTINGS = {
    "python.executable": sys.executable,
    "python.client.executable": sys.executable,
    "python.fn-execution.bundle.size": "100000",
    "python.fn-execution.bundle.time": "1000",
    "python.fn-execution.arrow.batch.size": "50000",
    "python.state.cache-size": "10000",
    "pipeline.object-reuse": "true",
    "taskmanager.memory.process.size": "4g",
    "taskmanager.memory.managed.size": "1g",
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "5 s",
    "table.exec.mini-batch.size": "5000000",
}


class Ewma(KeyedProcessFunction):
    def open(self, runtime_context: RuntimeContext) -> None:
        self.mean = runtime_context.get_state(ValueStateDescriptor("mean", Types.DOUBLE()))

    def process_element(self, value: tuple[int, float], ctx: Any) -> Iterator[Row]:
        before = self.mean.value()
        mean = value[1] if before is None else 0.1 * value[1] + 0.9 * before
        self.mean.update(mean)
        yield Row(value[0], int(abs(value[1] - mean) > 3.0), mean)


SMOOTHED = Types.ROW_NAMED(["sensor", "alert", "mean"], [Types.INT(), Types.INT(), Types.DOUBLE()])


def parse(line: str) -> tuple[int, float]:
    sensor, _, value = line.split(",")
    return int(sensor), float(value)


def ewma(task: Task) -> Run:
    started = time.perf_counter()
    env = StreamExecutionEnvironment.get_execution_environment(configuration(task))
    source = FileSource.for_record_stream_format(StreamFormat.text_line_format(), *task.plain_paths).build()
    lines = env.from_source(source, WatermarkStrategy.no_watermarks(), "lines")
    readings = lines.map(parse, Types.TUPLE([Types.INT(), Types.DOUBLE()]))
    smoothed = readings.key_by(lambda reading: reading[0], Types.INT()).process(Ewma(), SMOOTHED)
    tables = StreamTableEnvironment.create(env)
    tables.create_temporary_view("smoothed", smoothed)
    totals = tables.sql_query("SELECT sensor, SUM(alert), SUM(`mean`) FROM smoothed GROUP BY sensor")
    save(task, totals)
    return Run(time.perf_counter() - started)


def save(task: Task, totals: Table) -> None:
    """The last value of each key; few leave Java, since aggregates are updated once a mini-batch."""
    latest: dict[Any, tuple[Any, ...]] = {}
    with totals.execute().collect() as rows:
        for row in rows:
            if row.get_row_kind() in (RowKind.INSERT, RowKind.UPDATE_AFTER):
                latest[row[0] if task.workload == "ewma" else None] = tuple(row)
    write_csv(task.output / "result.csv", latest.values())


def configuration(task: Task) -> Configuration:
    config = Configuration()
    for name, value in (SETTINGS | {"parallelism.default": str(task.workers)}).items():
        config.set_string(name, value)
    return config


def python_map(task: Task) -> Run:
    started = time.perf_counter()
    settings = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration(task)).build()
    env = TableEnvironment.create(settings)
    kind = "pandas" if os.environ.get("UDF") == "pandas" else "general"
    env.create_temporary_function(
        "to_fahrenheit", udf(lambda celsius: celsius * 9 / 5 + 32, result_type=DataTypes.DOUBLE(), func_type=kind)
    )
    folder = stage_input(task)
    env.execute_sql(
        "CREATE TABLE records (sensor INT, ms BIGINT, `value` DOUBLE) WITH "
        f"('connector' = 'filesystem', 'path' = 'file://{folder}', 'format' = 'csv')"
    )
    total = env.sql_query(
        "SELECT COUNT(*), SUM(x), MIN(x), MAX(x) FROM (SELECT to_fahrenheit(`value`) AS x FROM records)"
    )
    save(task, total)
    return Run(time.perf_counter() - started)


def stage_input(task: Task) -> Path:
    """A folder of links to the input files: a table's path is one folder, whose files its subtasks share."""
    folder = task.output.parent / f"{task.output.name}-input"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for path in map(Path, task.plain_paths):
        (folder / path.name).hardlink_to(path)
    return folder.resolve()


if __name__ == "__main__":
    jobs = {"ewma": ewma, "python-map": python_map}
    serve(jobs, version=version("apache-flink"), started=STARTED, warm_up=True)
