"""Which engine runs which workload, on which input, on how many records, and how its process is started."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.bench.environments import java_class_path, python_of

MILLION = 1_000_000
ALL = ("word-count", "tumbling", "sliding", "ewma", "trending", "python-map")
WINDOWS = ("tumbling", "sliding")
JVM = {"JVM_ARGS": "-Xmx4g"}  # several JVMs are warm at the same time


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine and its script.

    Attributes:
        name: what the table says.
        workloads: their ids, each with the most records that end in reasonable time (None: all).
        module: the Python module of its process; "" for the Java job.
        environment: a folder of `environments`; "" is the harness's own Python.
        kinds: the inputs it can read: csv, parquet.
        in_two_files: workloads whose input comes in two files: where a file has but one reader, or where the order
            of each key's records counts. The others get one file.
        workers: how many threads or processes it is given.
        note: what the table says of all its rows.
    """

    name: str
    workloads: Mapping[str, int | None]
    module: str = ""
    environment: str = ""
    kinds: tuple[str, ...] = ("csv",)
    in_two_files: tuple[str, ...] = ALL
    workers: int = 2
    variables: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def files(self, workload: str) -> int:
        """In how many files it gets its input."""
        return 2 if workload in self.in_two_files else 1

    def command(self) -> list[str]:
        """The start of the command line.

        Raises:
            NotInstallableError: the engine can't be had here.
        """
        if not self.module:
            return ["java", "-Xmx4g", "-cp", java_class_path(), "bench.Main"]
        return [str(python_of(self.environment)), "-m", f"tests.bench.{self.module}"]


STREAMCORE = "streamcore"
POLARS = "polars (limit)"
ENGINES = (
    Engine(STREAMCORE, dict.fromkeys(ALL), "streamcore_jobs", kinds=("csv", "parquet"), in_two_files=("ewma",)),
    Engine(
        POLARS, dict.fromkeys(ALL), "peers.polars_jobs", kinds=("csv", "parquet"), in_two_files=(),
        variables={"POLARS_MAX_THREADS": "2"}, note="batch",
    ),
    Engine("Flink DataStream in Java", {"word-count": None, "tumbling": None, "sliding": None, "ewma": None}),
    Engine("Flink SQL", dict.fromkeys(("word-count", *WINDOWS, "trending")), "peers.flink_sql", "flink", variables=JVM),
    Engine("PyFlink", {"ewma": MILLION // 2, "python-map": MILLION}, "peers.pyflink_jobs", "flink", variables=JVM),
    Engine(
        "PyFlink on pandas", {"python-map": MILLION}, "peers.pyflink_jobs", "flink", variables={"UDF": "pandas", **JVM},
    ),
    Engine("Spark", dict.fromkeys(("word-count", *WINDOWS, "python-map")), "peers.spark_jobs", "pyspark"),
    Engine(
        "Pathway", {"word-count": None, "tumbling": MILLION, "sliding": MILLION // 5, "python-map": 2 * MILLION},
        "peers.pathway_jobs", "pathway", in_two_files=(), variables={"PATHWAY_THREADS": "2"},
    ),
    Engine(
        "Bytewax",
        {"word-count": 2 * MILLION, "tumbling": MILLION // 5, "sliding": MILLION // 5, "ewma": 2 * MILLION,
         "python-map": 2 * MILLION},
        "peers.bytewax_jobs", "bytewax", in_two_files=(), workers=1,
    ),
    Engine(
        "polars map_elements", {"python-map": None}, "peers.polars_jobs", in_two_files=(),
        variables={"POLARS_MAX_THREADS": "2", "PER_ELEMENT": "1"}, note="batch",
    ),
    Engine(
        "Python loop", {"word-count": 2 * MILLION, "ewma": 2 * MILLION, "python-map": 2 * MILLION},
        "peers.python_jobs", in_two_files=(), workers=1, note="csv module, no engine",
    ),
)  # fmt: skip


def entries(engine: Engine, workload: str) -> Iterator[Engine]:
    """The engine once for each kind of input that it reads, if it runs the workload at all."""
    if workload in engine.workloads:
        for kind in engine.kinds:
            yield dataclasses.replace(engine, kinds=(kind,))
