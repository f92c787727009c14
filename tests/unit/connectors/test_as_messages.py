"""Records as messages: values, keys and times as plain Python makes them."""

from __future__ import annotations

import datetime
import json

import numpy as np
import pyarrow as pa
import pytest

from streamcore.batch import Columns
from streamcore.connectors.as_messages import AsMessages
from streamcore.errors import BadRecordError, UsageError

ROWS = [
    {"user": 7, "name": "Zoë\n", "score": 1.5, "at": "2026-11-21T13:00:00.250Z"},
    {"user": -1, "name": "", "score": None, "at": "2026-11-21 14:00:00+01:00"},
    {"user": 0, "name": None, "score": 2.0, "at": "2026-11-21 13:00"},
]
TIMES_MS = [1_795_266_000_250, 1_795_266_000_000, 1_795_266_000_000]


def columns():
    return Columns.of(
        user=np.array([row["user"] for row in ROWS]),
        name=pa.array([row["name"] for row in ROWS]),
        score=pa.array([row["score"] for row in ROWS]),
        at=pa.array([row["at"] for row in ROWS]),
    )


@pytest.mark.parametrize("batch", [ROWS, columns()], ids=["rows", "columns"])
def test_values_keys_and_times(batch):
    messages = AsMessages("user", "at")(batch)
    assert [json.loads(value) for _, value, _ in messages] == ROWS
    assert [key for key, _, _ in messages] == [b"7", b"-1", b"0"]
    assert [time for _, _, time in messages] == TIMES_MS
    assert [key for key, _, _ in AsMessages("name")(batch)] == ["Zoë\n".encode(), b"", None]
    assert [key for key, _, _ in AsMessages("score")(batch)] == [b"1.5", None, b"2.0"]
    assert {(key, time) for key, _, time in AsMessages()(batch)} == {(None, None)}


def test_times_that_are_numbers():
    batch = Columns.of(t=np.array([828_124_615, -1]))
    for unit, times in (("s", [828_124_615_000, -1000]), ("ms", [828_124_615, -1]), ("us", [828_125, 0])):
        assert AsMessages(time="t", unit=unit).times(batch).tolist() == times
    assert AsMessages(time="t", unit="s").times([{"t": 1.25}, {"t": 2}]).tolist() == [1250, 2000]
    assert AsMessages(time="t", unit="s").times([{"t": 1}, {"t": "1970-01-01T00:00:02Z"}]).tolist() == [1000, 2000]
    moments = pa.array([datetime.datetime(1970, 1, 1, 0, 0, 3)], pa.timestamp("us"))  # noqa: DTZ001 - without a zone
    assert AsMessages(time="t").times(Columns.of(t=moments)).tolist() == [3000]


def test_what_cannot_be_a_message():
    for value in (None, "yesterday", True, [1]):
        with pytest.raises(BadRecordError, match="the time 't' of a record can't be read"):
            AsMessages(time="t")([{"t": 5}, {"t": value}])
    with pytest.raises(UsageError, match="a record has no field 'key'") as error:
        AsMessages("key")([{"key": 1}, {"a": 1, "b": 2}])
    assert error.value.hint == "its fields are: a, b"
    with pytest.raises(UsageError, match="a record has no field 'key'"):
        AsMessages("key")([5])
    with pytest.raises(UsageError, match="a record has no field 'key'"):
        AsMessages("key")(columns())
