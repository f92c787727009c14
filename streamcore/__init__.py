"""streamcore: stateful stream processing in plain Python, with loops and exactly-once snapshots.

Everything a user needs is here; the packages below are the engine. See `README.md` for a first topology.
"""

from streamcore.api.app import App
from streamcore.api.connected import ConnectedStreams
from streamcore.api.environment import StreamEnvironment
from streamcore.api.keyed import KeyedStream
from streamcore.api.loop import Loop
from streamcore.api.stream import DataStream
from streamcore.batch import Columns, Field, Schema, Vector
from streamcore.errors import StreamcoreError
from streamcore.job.config import Checkpointing
from streamcore.job.restart import ExponentialDelay, FailureRate, FixedDelay, NoRestart
from streamcore.job.status import JobResult
from streamcore.kernels.compile import kernel
from streamcore.runtime.functions import (
    BatchFunction,
    CoBatchFunction,
    Context,
    CoProcessFunction,
    OutputTag,
    ProcessFunction,
)
from streamcore.state.columnar import ColumnarTable
from streamcore.state.descriptors import ColumnarState, ListState, MapState, ReducingState, TableState, ValueState
from streamcore.time import milliseconds, minutes, seconds

__all__ = [
    "App",
    "BatchFunction",
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
    "FailureRate",
    "Field",
    "FixedDelay",
    "JobResult",
    "KeyedStream",
    "ListState",
    "Loop",
    "MapState",
    "NoRestart",
    "OutputTag",
    "ProcessFunction",
    "ReducingState",
    "Schema",
    "StreamEnvironment",
    "StreamcoreError",
    "TableState",
    "ValueState",
    "Vector",
    "kernel",
    "milliseconds",
    "minutes",
    "seconds",
]
