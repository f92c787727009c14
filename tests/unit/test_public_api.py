"""The public names are the documented ones, and every one says what it is."""

from __future__ import annotations

import inspect

import pytest

import streamcore

DOCUMENTED = [
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


def test_the_public_names_are_the_documented_ones():
    assert streamcore.__all__ == DOCUMENTED
    assert streamcore.__all__ == sorted(streamcore.__all__)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_public_name_has_a_docstring_of_its_own(name):
    thing = getattr(streamcore, name)
    text = vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
    assert text
    assert not text.startswith(f"{name}("), "the docstring is the one that dataclass makes"


METHODS = [
    (cls, name)
    for cls in (getattr(streamcore, name) for name in DOCUMENTED)
    if isinstance(cls, type)
    for name, value in vars(cls).items()
    if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, (property, staticmethod)))
]


@pytest.mark.parametrize(("cls", "name"), METHODS, ids=[f"{cls.__name__}.{name}" for cls, name in METHODS])
def test_every_public_method_has_a_docstring(cls, name):
    assert inspect.getdoc(getattr(cls, name)), f"{cls.__name__}.{name} has no docstring"


def test_the_package_itself_says_what_it_is():
    assert "stream" in streamcore.__doc__
