"""Snapshots made of data: what was put in is read, and jobs go on from it with right results."""

from __future__ import annotations

import uuid
from collections import Counter

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snapshot_jobs as jobs
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import (
    ColumnarState,
    Columns,
    ListState,
    MapState,
    ReducingState,
    Schema,
    Snapshot,
    SnapshotBuilder,
    TableState,
    ValueState,
    Vector,
)
from streamcore.errors import (
    CheckpointError,
    DataError,
    IncompatibleSnapshotError,
    MachineError,
    StateCodecError,
    UsageError,
)

VALUE, LISTS, MAPS = ValueState("value", None), ListState("list"), MapState("map")
keys = st.one_of(st.integers(-(2**40), 2**40), st.text(max_size=8), st.tuples(st.text(max_size=3), st.integers(0, 9)))
values = st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.binary(max_size=5))


def place():
    return f"memory://{uuid.uuid4().hex}"


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(keys, values, max_size=30),
    st.dictionaries(keys, st.lists(values, min_size=1, max_size=3), max_size=10),
    st.dictionaries(keys, st.dictionaries(keys, values, min_size=1, max_size=3), max_size=10),
    st.lists(st.tuples(st.integers(0, 10**6), keys), max_size=10, unique=True),
    st.integers(1, 4),
)
def test_what_was_put_in_is_read(by_key, lists, maps, timers, parallelism):
    url = place()
    builder = SnapshotBuilder("job", parallelism=parallelism, max_parallelism=16)
    builder.add_state("op", VALUE, by_key).add_state("op", LISTS, lists.items()).add_state(
        "op", MAPS, iter(maps.items())
    )
    builder.add_timers("op", timers).add_timers("op", timers[:3], event_time=False)
    assert builder.write(url) == url
    snapshot = Snapshot.open(url)
    for name, expected in (("value", by_key), ("list", lists), ("map", maps)):
        state = snapshot.state("op", name)
        assert dict(state.items()) == expected
        assert all(state.get(key, "nothing") == value for key, value in expected.items())
    assert sorted(map(repr, snapshot.timers("op"))) == sorted(map(repr, timers))
    assert len(snapshot.timers("op", event_time=False)) == len(timers[:3])


@settings(max_examples=25, deadline=None)
@given(
    st.one_of(
        st.lists(st.integers(-(2**60), 2**60), unique=True, min_size=1),
        st.lists(st.text(max_size=9), unique=True, min_size=1),
    ),
    st.integers(1, 4),
    st.data(),
)
def test_columnar_state_that_was_put_in_is_read(column, parallelism, data):
    size = len(column)
    totals = data.draw(st.lists(st.integers(-(2**60), 2**60), min_size=size, max_size=size))
    vectors = np.arange(2.0 * size).reshape(size, 2)
    descriptor = ColumnarState("sums", Schema.of(total=np.int64, vector=Vector(2), untouched=np.float32))
    url = place()
    builder = SnapshotBuilder("job", parallelism=parallelism)
    arrays = {"user": np.array(column) if isinstance(column[0], int) else pa.array(column), "total": np.array(totals)}
    builder.add_state("op", descriptor, Columns.of(**arrays, vector=vectors), key="user").write(url)
    found = Snapshot.open(url).state("op", "sums")
    expected = {
        key: {"total": total, "vector": vector, "untouched": 0.0}
        for key, total, vector in zip(column, totals, vectors.tolist(), strict=True)
    }
    assert dict(found.items()) == expected
    assert found.get(column[-1]) == expected[column[-1]]


@pytest.mark.parametrize("form", ["columns", "table", "batch", "arrays", "rows", "parquet"])
def test_forms_of_data(form, tmp_path):
    table = pa.table({"user": ["a", "b"], "total": [1, 2]})
    pq.write_table(table, tmp_path / "data.parquet")
    data = {
        "columns": Columns.of(user=pa.array(["a", "b"]), total=np.array([1, 2])),
        "table": table,
        "batch": table.to_batches()[0],
        "arrays": {"user": pa.array(["a", "b"]), "total": np.array([1, 2])},
        "rows": table.to_pylist(),
        "parquet": tmp_path / "data.parquet",
    }[form]
    url = place()
    builder = SnapshotBuilder("job").add_state("op", ColumnarState("sums", Schema.of(total=int)), data, key="user")
    if form != "arrays":  # a dictionary is keys and values there
        builder.add_state("op", VALUE, data, key="user", value="total")
        builder.add_state("op", LISTS, data, key="user", value=lambda row: [row["total"]])
    builder.write(url)
    snapshot = Snapshot.open(url)
    assert dict(snapshot.state("op", "sums").items()) == {"a": {"total": 1}, "b": {"total": 2}}
    if form != "arrays":
        assert dict(snapshot.state("op", "value").items()) == {"a": 1, "b": 2}
        assert dict(snapshot.state("op", "list").items()) == {"a": [[1]], "b": [[2]]}


def test_what_arrow_gave_can_be_put_in_again():
    first, second = place(), place()
    maps, lists = {("a", 1): {"x": 1, "y": 2}, ("b", 2): {"x": 3}}, {"a": [1, 2], "b": [3]}
    SnapshotBuilder("job").add_state("op", MAPS, maps).add_state("op", LISTS, lists).write(first)
    snapshot = Snapshot.open(first)
    builder = SnapshotBuilder("job")
    builder.add_state("op", MAPS, snapshot.state("op", "map").to_arrow(), key=("key_0", "key_1"))
    flat = pl.from_arrow(snapshot.state("op", "list").to_arrow()).explode("value").to_arrow()
    builder.add_state("op", LISTS, flat).write(second)
    assert dict(Snapshot.open(second).state("op", "map").items()) == maps
    assert dict(Snapshot.open(second).state("op", "list").items()) == lists


PAST = [n * 5 % 11 for n in range(300)]
NEW = [n * 7 % 11 for n in range(200)]


@pytest.mark.parametrize("built", [1, 3])
@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_job_goes_on_from_data(tmp_path, built, parallelism):
    """State of what came before, from a batch computation; the job's results are those of all records."""
    env = jobs.environment(tmp_path, restore=str(tmp_path / "made"), parallelism=parallelism)
    rows = jobs.source(env, lambda n: {"n": n, "key": NEW[n]}, len(NEW))
    jobs.sink(rows.key_by("key").process(jobs.Gathers()).uid("gathers"), tmp_path, "gathered")
    counts = rows.key_by(lambda record: (record["key"], "x")).count(emit="final").uid("counts")
    jobs.sink(counts.map(lambda pair: {"key": pair[0][0], "count": pair[1]}), tmp_path, "counted")
    numbers = rows.map(lambda record: record, returns=jobs.NUMBER)
    jobs.sink(numbers.key_by("key").process(jobs.Sums()).uid("sums"), tmp_path, "summed")
    jobs.sink(numbers.key_by("key").process(jobs.Rows()).uid("rows"), tmp_path, "kept")

    past = pl.DataFrame({"n": np.arange(len(PAST)), "key": PAST})
    builder = SnapshotBuilder(env.compile(), parallelism=built)
    builder.add_state("gathers", jobs.LAST, {key: jobs.Visit(-key, []) for key in set(PAST)})
    builder.add_state("gathers", jobs.SEEN, past.to_arrow(), value="n")
    builder.add_timers("gathers", [(5, 99), (jobs.ALARM_MS, 0)])
    tally = Counter(PAST)
    builder.add_state("counts", ReducingState("count", max), {(key, "x"): count for key, count in tally.items()})
    sums = past.group_by("key").agg(pl.col("n").sum().alias("total"))
    builder.add_state("sums", jobs.SUMS, sums.to_arrow())
    table = TableState("rows", "key", lambda: None, lambda rows: None, jobs.NUMBER)
    builder.add_state("rows", table, past.to_arrow())
    builder.write(tmp_path / "made")
    env.execute()

    everything = Counter(PAST + NEW)
    assert {row["key"]: row["count"] for row in jobs.output(tmp_path, "counted")} == everything
    new = pl.DataFrame({"n": np.arange(len(NEW)), "key": NEW})
    totals = pl.concat([past, new]).group_by("key").agg(pl.col("n").sum())
    assert {row["key"]: row["total"] for row in jobs.output(tmp_path, "summed")} == dict(totals.rows())
    kept = Counter((row["n"], row["key"]) for row in jobs.output(tmp_path, "kept"))
    assert kept == Counter([*past.rows(), *new.rows()])
    gathered = jobs.output(tmp_path, "gathered")
    seen = {key: [n for n, found in past.rows() if found == key] for key in set(PAST)}
    first = {row["key"]: row for row in reversed([row for row in gathered if "before" in row])}
    for key, row in first.items():
        assert row["before"] == -key
        assert row["seen"][: len(seen[key])] == seen[key]
    timers = Counter((row["key"], row["timer"]) for row in gathered if "timer" in row)
    assert timers == Counter({(99, 5): 1, **{(key, jobs.ALARM_MS + key): 1 for key in set(NEW)}})


def counting_job(tmp_path, uid="counts", *, name="snapshots", restore=None, count=100, parallelism=1):
    env = jobs.environment(tmp_path, name=name, restore=restore, parallelism=parallelism)
    rows = jobs.source(env, lambda n: {"n": n, "key": NEW[n]}, count)
    counts = rows.key_by("key").count(emit="final").uid(uid)
    jobs.sink(counts.map(lambda pair: {"key": pair[0], "count": pair[1]}), tmp_path, "counted")
    return env


@pytest.fixture
def counted(tmp_path):
    """The snapshot of a job that has counted the first 100 of the new records."""
    counting_job(tmp_path, parallelism=2).execute()
    return Snapshot.open(tmp_path / "checkpoints")


def test_a_snapshot_is_changed(counted, tmp_path):
    """Its counts are multiplied, its operator gets another uid, its source is read anew: a job goes on from that."""
    env = counting_job(tmp_path, "tallies", name="other", restore=str(tmp_path / "changed"), parallelism=2)
    builder = SnapshotBuilder.of(counted, job=env.compile()).rename_operator("counts", "tallies")
    for uid in ("source", "counted-sink"):
        builder.remove_operator(uid)
    times_ten = [(key, count * 10) for key, count in counted.state("counts", "count").items()]
    builder.add_state("tallies", ValueState("count", 0), times_ten).add_offsets("source", {"0": 40})
    with pytest.raises(IncompatibleSnapshotError, match="job 'other' has no operator 'map-"):
        SnapshotBuilder.of(counted, job="other")._known or builder.rename_operator("tallies", "x").write(
            tmp_path / "no"
        )
