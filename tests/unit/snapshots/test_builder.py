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
    jobs.sink(counts.map(lambda pair: {"key": pair[0], "count": pair[1]}), tmp_path / name, "counted")
    return env


@pytest.fixture
def counted(tmp_path):
    """The snapshot of a job that has counted the first 100 of the new records."""
    counting_job(tmp_path, parallelism=2).execute()
    return Snapshot.open(tmp_path / "checkpoints")


@pytest.mark.parametrize("parallelism", [1, 2, 3])
def test_a_snapshot_is_changed(counted, tmp_path, parallelism):
    """Its counts are multiplied, its operator gets another uid, its source goes on elsewhere: another job takes it."""
    env = counting_job(tmp_path, "tallies", name="other", restore=str(tmp_path / "changed"), parallelism=parallelism)
    builder = SnapshotBuilder.of(counted, job=env.compile()).rename_operator("counts", "tallies")
    builder.remove_operator("source").remove_operator("counted-sink")
    times_ten = [(key, count * 10) for key, count in counted.state("counts", "count").items()]
    builder.add_state("tallies", ValueState("count", 0), times_ten).add_offsets("source", {"0": 40})
    builder.write(tmp_path / "changed")
    env.execute()
    expected = Counter(NEW[:100])
    expected = Counter({key: 10 * count for key, count in expected.items()}) + Counter(NEW[40:100])
    assert {row["key"]: row["count"] for row in jobs.output(tmp_path / "other", "counted")} == expected
    assert Snapshot.open(tmp_path / "checkpoints").job == "other"


def test_a_copy_has_all_that_the_snapshot_has(tmp_path):
    env = jobs.environment(tmp_path, parallelism=2)
    rows = jobs.source(env, lambda n: {"n": n, "key": NEW[n]}, 200)
    rows.key_by("key").process(jobs.Gathers()).uid("gathers")
    numbers = rows.map(lambda record: record, returns=jobs.NUMBER)
    numbers.key_by("key").process(jobs.Sums()).uid("sums")
    numbers.key_by("key").process(jobs.Rows()).uid("rows")
    env.execute()
    first = Snapshot.open(tmp_path / "checkpoints")
    builder = SnapshotBuilder.of(first).remove_state("gathers", "seen")
    second = Snapshot.open(builder.write(tmp_path / "copy"))
    for uid, name in (("gathers", "last"), ("gathers", "by parity"), ("sums", "sums"), ("rows", "rows")):
        assert list(second.state(uid, name).items()) == list(first.state(uid, name).items())
        assert second.operators[uid].states[name] == first.operators[uid].states[name]
    assert second.operators["source"].splits == first.operators["source"].splits
    assert list(second.operators["gathers"].states) == ["last", "by parity"]


def test_what_a_job_could_not_restore_is_refused(counted, tmp_path):
    job = counting_job(tmp_path).compile()
    with pytest.raises(UsageError, match="job 'snapshots' has no operator 'count'; did you mean 'counts'"):
        SnapshotBuilder(job).add_state("count", VALUE, {})
    other = counting_job(tmp_path, "tallies").compile()
    with pytest.raises(IncompatibleSnapshotError, match="no operator 'counts', which the snapshot has"):
        SnapshotBuilder.of(counted, job=other).write(tmp_path / "x")
    few = counting_job(tmp_path)
    few.max_parallelism = 16
    with pytest.raises(IncompatibleSnapshotError, match="max_parallelism 128 in the snapshot and 16 in job"):
        SnapshotBuilder.of(counted, job=few.compile()).write(tmp_path / "x")
    with pytest.raises(UsageError, match="can't be renamed to 'source': there is one"):
        SnapshotBuilder.of(counted).rename_operator("counts", "source")
    with pytest.raises(UsageError, match="the snapshot has no operator 'nope'"):
        SnapshotBuilder.of(counted).remove_operator("nope")
    with pytest.raises(UsageError, match="no state 'nope' of operator 'counts'"):
        SnapshotBuilder.of(counted).remove_state("counts", "nope")
    with pytest.raises(UsageError, match="the snapshot has the offsets of 'source'"):
        SnapshotBuilder.of(counted).add_offsets("source", {"0": 1})
    assert not (tmp_path / "x").exists()


SUMS = ColumnarState("sums", Schema.of(total=np.int32, vector=Vector(2)))
TABLE = TableState("rows", "user", lambda: None, lambda rows: None, Schema.of(user=int, total=float))


@pytest.mark.parametrize(
    ("descriptor", "data", "message"),
    [
        (VALUE, [("a", 1), ("a", 2)], "key 'a' is there twice"),
        (VALUE, [({}, 1)], "can't be a key|can't be hashed"),
        (VALUE, [1, 2], "cannot unpack"),
        (VALUE, pa.table({"user": [1]}), "there is no column 'key' to take keys from"),
        (VALUE, pa.table({"key": [1]}), "there is no column 'value' to take values from"),
        (VALUE, pa.table({"key": ["a", None], "value": [1, 2]}), "column 'key' has no key in 1 rows"),
        (LISTS, {"a": 1}, "key 'a' has a int, not a list"),
        (MAPS, {"a": [1]}, "key 'a' has a list, not a dict"),
        (SUMS, {"key": np.array([1, 1]), "total": np.array([1, 2])}, "key 1 is there twice"),
        (SUMS, {"key": np.array([1]), "totl": np.array([1])}, "the state has no field 'totl'"),
        (SUMS, {"key": np.array([1])}, "none of the columns is one of the state's fields"),
        (
            SUMS,
            {"key": np.array([1]), "total": np.array([2**40])},
            "numbers that are none of the state's field total: int32",
        ),
        (SUMS, {"key": np.array([1]), "total": np.array([1.5])}, "numbers that are none of the state's field"),
        (SUMS, {"key": np.array([1]), "vector": np.array([[1.0, 2, 3]])}, r"has shape \(3,\) per row"),
        (SUMS, pa.table({"key": [1, 2], "total": [1, None]}), "column 'total' has no value in 1 rows"),
        (SUMS, pa.table({"key": [1], "total": ["x"]}), "is of type"),
        (SUMS, "/nowhere.parquet", "/nowhere.parquet"),
        (SUMS, [("a", 1)], "list has no columns"),
        (TABLE, pa.table({"user": [1]}), "needs a column total: double, and there is no such column"),
        (TABLE, pa.table({"user": [1], "total": [1]}), "there is a column total: int64"),
    ],
)
def test_data_that_does_not_fit_is_refused(descriptor, data, message):
    with pytest.raises(DataError, match=message) as caught:
        SnapshotBuilder("job").add_state("op", descriptor, data)
    assert f"state {descriptor.name!r} of operator 'op'" in str(caught.value)


def test_other_mistakes(tmp_path):
    builder = SnapshotBuilder("job").add_state("op", VALUE, {1: 2})
    with pytest.raises(UsageError, match="added twice"):
        builder.add_state("op", VALUE, {})
    with pytest.raises(UsageError, match=r"a timer for 1\.5"):
        builder.add_timers("op", [(1.5, "a")])
    with pytest.raises(CheckpointError, match="nothing to write"):
        SnapshotBuilder("job").write(tmp_path / "x")
    for wrong in ({"parallelism": 0}, {"parallelism": 200}, {"max_parallelism": 0}, {"max_parallelism": 1 << 20}):
        with pytest.raises(UsageError, match="is not from 1 to"):
            SnapshotBuilder("job", **wrong)
    builder.write(tmp_path / "made")
    with pytest.raises(CheckpointError, match="made is not empty"):
        builder.write(tmp_path / "made")
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="can't be written"):
        builder.write(tmp_path / "file" / "x")


def test_a_write_that_fails_leaves_nothing(tmp_path):
    builder = SnapshotBuilder("job").add_state("a", VALUE, {1: 2}).add_state("b", VALUE, {1: object()})
    with pytest.raises(StateCodecError, match="no safe saved form"):
        builder.write(tmp_path / "made")
    assert not (tmp_path / "made").exists()
