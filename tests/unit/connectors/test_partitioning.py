"""Which folder a record belongs to, compared with plain Python."""

from __future__ import annotations

import datetime
from collections import defaultdict
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Columns, schema_of, to_columns
from streamcore.connectors.partitioning import NO_VALUE, Partitioning
from streamcore.errors import BadRecordError, ConnectorError, UsageError

HOUR_MS = 3_600_000


class Row(NamedTuple):
    time: int
    country: str | None
    level: int
    ok: bool
    n: int


ROWS = st.lists(
    st.builds(
        Row,
        st.integers(-(10**12), 4 * 10**12),
        st.sampled_from([None, "", "CH", "a b/c=d", "Zürich", ".."]),
        st.integers(-2, 2),
        st.booleans(),
        st.integers(0, 1000),
    ),
    min_size=1,
    max_size=40,
)


def folder_of(row, every):
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(milliseconds=row.time)
    levels = {
        "month": [f"month={moment:%Y-%m}"],
        "day": [f"date={moment:%Y-%m-%d}"],
        "hour": [f"date={moment:%Y-%m-%d}", f"hour={moment:%H}"],
    }[every]
    return [*levels, f"country={row.country or NO_VALUE}", f"level={row.level}", f"ok={str(row.ok).lower()}"]


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from(["month", "day", "hour"]), st.booleans())
def test_every_record_is_in_its_folder_in_order(rows, every, as_dictionary):
    columns = to_columns(rows, schema_of(Row))
    if as_dictionary:
        columns = Columns(columns.schema, {**columns.arrays, "country": columns["country"].dictionary_encode()})
    expected = defaultdict(list)
    for row in rows:
        expected["/".join(folder_of(row, every))].append((row.time, row.n))
    found = {}
    for folder, records in Partitioning(("country", "level", "ok"), "time", every).split(columns):
        assert records.schema.names == ("time", "n")
        assert all(part not in ("", ".", "..") for part in folder.split("/"))
        found["/".join(map(unquote, folder.split("/")))] = list(
            zip(records["time"].tolist(), records["n"].tolist(), strict=True)
        )
    assert found == expected


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (pa.array([0, None, -1], pa.timestamp("us", "Europe/Zurich")), ["1970-01-01", None, "1969-12-31"]),
        (pa.array([-1, 86_400_000_000_000], pa.timestamp("ns")), ["1969-12-31", "1970-01-02"]),
        (pa.array([None, 86_400_000], pa.int64()), [None, "1970-01-02"]),
    ],
)
def test_times_of_other_types_and_missing_ones(times, expected):
    columns = Columns.of(time=times, n=np.arange(len(times)))
    found = dict.fromkeys(range(len(times)))
    for folder, records in Partitioning(time="time").split(columns):
        for n in records["n"].tolist():
            found[n] = folder
    assert list(found.values()) == [f"date={date or NO_VALUE}" for date in expected]


def test_dates_and_optional_numbers_name_folders():
    columns = Columns.of(
        day=pa.array([datetime.date(2026, 11, 21), None]), size=pa.array([None, 5], pa.int32()), n=np.arange(2)
    )
    folders = {folder for folder, _ in Partitioning(("day", "size")).split(columns)}
    assert folders == {f"day=2026-11-21/size={NO_VALUE}", f"day={NO_VALUE}/size=5"}


def test_columns_that_cannot_be_partitioned_so():
    schema = Columns.of(
        time=np.arange(2), share=np.ones(2), text=pa.array(["a", "b"]), at=pa.array([0, 1], pa.timestamp("ms"))
    ).schema
    Partitioning(("text",), "time", "hour").check(schema)
    Partitioning(time="at").check(schema)
    for partitioning, problem in [
        (Partitioning(("city",)), "can't partition by 'city': there is no such column"),
        (Partitioning(("share",)), "can't partition by 'share', which is double"),
        (Partitioning(("at",)), r"can't partition by 'at', which is timestamp\[ms\]"),
        (Partitioning(time="share"), "can't partition by the time 'share', which is double"),
        (Partitioning(time="text"), "can't partition by the time 'text', which is string"),
    ]:
        with pytest.raises(ConnectorError, match=problem):
            partitioning.check(schema)
    with pytest.raises(ConnectorError, match="the folders have a level 'hour', and so is a column called"):
        Partitioning(time="time", every="hour").check(Columns.of(time=np.arange(2), hour=np.arange(2)).schema)
    with pytest.raises(ConnectorError, match="nothing is left for the files"):
        Partitioning(("n",)).check(Columns.of(n=np.arange(2)).schema)


def test_a_value_that_is_too_long_for_a_folder_is_a_bad_record(tmp_path):
    def folder(value):
        columns = Columns.of(city=pa.array([value]), n=np.arange(1))
        ((folder, _),) = Partitioning(("city",)).split(columns)
        return folder

    longest = "ü" * 41 + "x" * 4  # 5 for `city=`, 6 for each ü
    (tmp_path / folder(longest)).mkdir()
    for value in (longest + "x", "x" * 251):
        with pytest.raises(BadRecordError, match=r"can't have more than 255 bytes, .* 'city' = '[üx]{5}"):
            folder(value)


def test_wrong_options():
    with pytest.raises(UsageError, match="no field to partition by"):
        Partitioning()
    with pytest.raises(UsageError, match="every='week' is unknown"):
        Partitioning(time="time", every="week")
    with pytest.raises(UsageError, match="a field is there twice"):
        Partitioning(("a", "a"))
    for name in ("_a", ".a", "a/b", "a=b", ""):
        with pytest.raises(UsageError, match="a folder can't be named by the field"):
            Partitioning((name,))


def test_levels():
    assert Partitioning(("a", "b"), "time", "hour").levels == ("date", "hour", "a", "b")
    assert Partitioning(("a",)).levels == ("a",)
