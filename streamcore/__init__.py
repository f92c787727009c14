"""streamcore: stateful stream processing in plain Python, with loops and exactly-once snapshots.

Everything a user needs is here; the packages below are the engine. See `README.md` for a first topology.
"""

from streamcore.api.app import App
from streamcore.api.connected import ConnectedStreams
from streamcore.api.environment import StreamEnvironment
from streamcore.api.keyed import KeyedStream
from streamcore.api.loop import Loop
from streamcore.api.stream import DataStream
from streamcore.api.windowed import WindowedStream
from streamcore.batch import Columns, Field, Schema, Vector
from streamcore.batch.conditions import when
from streamcore.batch.expressions import Expression, col, lit
from streamcore.errors import StreamcoreError
from streamcore.job.config import Checkpointing
from streamcore.job.restart import ExponentialDelay, FailureRate, FixedDelay, NoRestart
from streamcore.job.status import JobResult
from streamcore.kernels.compile import kernel
from streamcore.runtime.aggregates import Aggregate, count, max_of, mean, min_of, sum_of
from streamcore.runtime.async_function import AsyncFunction, Retry
from streamcore.runtime.broadcast import BroadcastBatchFunction, BroadcastContext, BroadcastFunction
from streamcore.runtime.event_time import WatermarkStrategy, bounded_out_of_orderness, monotonous
from streamcore.runtime.functions import (
    BatchFunction,
    CoBatchFunction,
    Context,
    CoProcessFunction,
    OutputTag,
    ProcessFunction,
)
from streamcore.runtime.windows import Windows, sliding, tumbling
from streamcore.state.columnar import ColumnarTable
from streamcore.state.descriptors import ColumnarState, ListState, MapState, ReducingState, TableState, ValueState
from streamcore.time import MAX_TIME, milliseconds, minutes, seconds

__all__ = [
    "Aggregate",
    "App",
    "AsyncFunction",
    "BatchFunction",
    "BroadcastBatchFunction",
    "BroadcastContext",
    "BroadcastFunction",
    "Checkpointing",
    "CoBatchFunction",
    "CoProcessFunction",
    "ColumnarState",
    "ColumnarTable",
    "Columns",
    "ConnectedStreams",
    "Context",
    "DataStream",
    "ExponentialDelay",
    "Expression",
    "FailureRate",
    "Field",
    "FixedDelay",
    "JobResult",
    "KeyedStream",
    "ListState",
    "Loop",
    "MAX_TIME",
    "MapState",
    "NoRestart",
    "OutputTag",
    "ProcessFunction",
    "ReducingState",
    "Retry",
    "Schema",
    "StreamEnvironment",
    "StreamcoreError",
    "TableState",
    "ValueState",
    "Vector",
    "WatermarkStrategy",
    "WindowedStream",
    "Windows",
    "bounded_out_of_orderness",
    "col",
    "count",
    "kernel",
    "lit",
    "max_of",
    "mean",
    "milliseconds",
    "min_of",
    "minutes",
    "monotonous",
    "seconds",
    "sliding",
    "sum_of",
    "tumbling",
    "when",
]
