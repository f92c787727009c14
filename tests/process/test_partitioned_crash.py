"""A job that writes Parquet by time and key is killed; whoever reads what is there sees every record once."""

import datetime
from pathlib import Path

import duckdb
import partitioned_job
import polars as pl
from process_harness import until

RECORDS = 6000
JOB = Path(partitioned_job.__file__)


def read(output):
    """(n, date, country) of every committed record; DuckDB reads while the job writes."""
    if not any(output.rglob("*.parquet")):
        return []
    files = duckdb.read_parquet(f"{output}/**/*.parquet", hive_partitioning=True)
    return sorted(files.select("n", "date", "country").fetchall())


def expected(numbers):
    start = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)
    return [(n, (start + datetime.timedelta(minutes=n)).date(), partitioned_job.COUNTRIES[n * n % 5]) for n in numbers]


def test_a_kill_loses_and_doubles_nothing(runs):
    run = runs.start("partitioned", "--workers", "2", target=JOB, records=RECORDS, rate=4000)
    seen = until(lambda: read(runs.output), "committed records")
    run.kill()
    committed = read(runs.output)
    assert len(seen) <= len(committed) < RECORDS
    assert committed == expected([n for n, _, _ in committed])
    runs.start("partitioned", restore="latest", target=JOB, records=RECORDS, rate=1e6).expect(0)
    assert read(runs.output) == expected(range(RECORDS))
    frame = pl.scan_parquet(f"{runs.output}/**/*.parquet", hive_partitioning=True)
    assert frame.select(pl.col("n").sum()).collect().item() == sum(range(RECORDS))
    assert not list(runs.output.glob(".inprogress/*")), "unfinished output was left behind"
