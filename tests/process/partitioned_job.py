"""A topology that writes Parquet files by time and key."""

import numpy as np
import pyarrow as pa

from streamcore import Columns, Schema, StreamEnvironment
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.connectors.partitioned_sink import ParquetSink

ORDER = Schema.of(time=int, country=str, n=int)
COUNTRIES = ["CH", "DE", "FR", "AT", "LI"]
START_MS = 1_795_219_200_000  # 2026-11-21 00:00 UTC
MINUTE_MS = 60_000


def orders(start, stop):
    n = np.arange(start, stop)
    countries = pa.array(np.array(COUNTRIES)[n * n % len(COUNTRIES)])
    return Columns(ORDER, {"time": START_MS + n * MINUTE_MS, "country": countries, "n": n})


def partitioned(env: StreamEnvironment, *, output: str, records: int, rate: float) -> None:
    """A minute of event time between two orders."""
    source = env.source(GeneratorSource(orders, count=records, rate=rate, splits=2, schema=ORDER)).uid("source")
    sink = ParquetSink(output, by="country", time="time", every="day", most_open=4, if_exists="replace")
    source.sink(sink).uid("orders")
