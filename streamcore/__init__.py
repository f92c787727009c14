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
from streamcore.batch.record_forms import formerly
from streamcore.errors import StreamcoreError, TopologyError, UsageError
from streamcore.job.client import JobClient, connect
from streamcore.job.config import Checkpointing
from streamcore.job.restart import ExponentialDelay, FailureRate, FixedDelay, NoRestart
from streamcore.job.status import JobResult
from streamcore.kernels.compile import kernel
from streamcore.runtime.aggregates import Aggregate, count, count_of, max_of, mean, min_of, std_of, sum_of, var_of
from streamcore.runtime.assigners import Window, WindowAssigner
from streamcore.runtime.async_function import AsyncFunction, Retry
from streamcore.runtime.broadcast import BroadcastBatchFunction, BroadcastContext, BroadcastFunction
from streamcore.runtime.evictors import Evictor, TimedRecord, count_evictor, time_evictor
from streamcore.runtime.functions import (
    BatchFunction,
    CoBatchFunction,
    Context,
    CoProcessFunction,
    OutputTag,
    ProcessFunction,
)
from streamcore.runtime.record_aggregates import collect, first_of, last_of, max_by, min_by, top_values
from streamcore.runtime.sketch_aggregates import approx_count_distinct, count_distinct, median, quantile, quantiles
from streamcore.runtime.triggers import (
    Trigger,
    TriggerContext,
    TriggerResult,
    continuous_trigger,
    count_trigger,
    event_time_trigger,
    processing_time_trigger,
    purging,
)
from streamcore.runtime.watermark_strategy import (
    WatermarkGenerator,
    WatermarkStrategy,
    bounded_out_of_orderness,
    custom_watermarks,
    monotonous,
)
from streamcore.runtime.window_functions import KeyResult, WindowContext, WindowFunction, WindowResult
from streamcore.runtime.window_kinds import (
    CountWindows,
    GlobalWindows,
    SessionWindows,
    count_windows,
    global_windows,
    session,
)
from streamcore.runtime.windows import Windows, sliding, tumbling
from streamcore.snapshots import Snapshot, SnapshotBuilder
from streamcore.state.backends import RocksDB
from streamcore.state.columnar import ColumnarTable
from streamcore.state.descriptors import ColumnarState, ListState, MapState, ReducingState, TableState, ValueState
from streamcore.time import MAX_TIME, days, hours, milliseconds, minutes, seconds

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
    "CountWindows",
    "DataStream",
    "Evictor",
    "ExponentialDelay",
    "Expression",
    "FailureRate",
    "Field",
    "FixedDelay",
    "GlobalWindows",
    "JobClient",
    "JobResult",
    "KeyResult",
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
    "RocksDB",
    "Schema",
    "SessionWindows",
    "Snapshot",
    "SnapshotBuilder",
    "StreamEnvironment",
    "StreamcoreError",
    "TableState",
    "TimedRecord",
    "TopologyError",
    "Trigger",
    "TriggerContext",
    "TriggerResult",
    "UsageError",
    "ValueState",
    "Vector",
    "WatermarkGenerator",
    "WatermarkStrategy",
    "Window",
    "WindowAssigner",
    "WindowContext",
    "WindowFunction",
    "WindowResult",
    "WindowedStream",
    "Windows",
    "approx_count_distinct",
    "bounded_out_of_orderness",
    "col",
    "collect",
    "connect",
    "continuous_trigger",
    "count",
    "count_distinct",
    "count_evictor",
    "count_of",
    "count_trigger",
    "count_windows",
    "custom_watermarks",
    "days",
    "event_time_trigger",
    "first_of",
    "formerly",
    "global_windows",
    "hours",
    "kernel",
    "last_of",
    "lit",
    "max_by",
    "max_of",
    "mean",
    "median",
    "milliseconds",
    "min_by",
    "min_of",
    "minutes",
    "monotonous",
    "processing_time_trigger",
    "purging",
    "quantile",
    "quantiles",
    "seconds",
    "session",
    "sliding",
    "std_of",
    "sum_of",
    "time_evictor",
    "top_values",
    "tumbling",
    "var_of",
    "when",
]
