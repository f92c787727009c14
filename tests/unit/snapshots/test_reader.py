"""Snapshots are read without their job: every kind of state, as rows, as Arrow, by key, and what else is in them."""

from __future__ import annotations

import json
import shutil
import sys
from collections import defaultdict

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import snapshot_jobs as jobs
from click.testing import CliRunner

from streamcore import Snapshot, StreamEnvironment
from streamcore.checkpoint.local_storage import LocalStorage
from streamcore.cli.main import cli
from streamcore.errors import DamagedCheckpointError, NoCheckpointError, UnknownStateError

COUNT, KEYS = 500, 17


def key_of(n):
    return n * 7 % KEYS


@pytest.fixture(scope="module", params=[1, 3], ids=["parallelism 1", "parallelism 3"])
def place(request, tmp_path_factory):
    """The directory of a job that has ended, whose last checkpoint has all kinds of state."""
    directory = tmp_path_factory.mktemp("read")
    env = jobs.environment(directory, parallelism=request.param)
    rows = jobs.source(env, lambda n: {"n": n, "key": key_of(n)}, COUNT)
    jobs.sink(rows.key_by("key").process(jobs.Gathers()).uid("gathers"), directory, "gathered")
    rows.key_by(lambda record: (record["key"], str(record["key"] % 3))).count().uid("counts")
    numbers = rows.map(lambda record: record, returns=jobs.NUMBER)
    numbers.key_by("key").process(jobs.Sums()).uid("sums")
    numbers.key_by("key").process(jobs.Rows()).uid("rows")
    env.execute()
    return directory / "checkpoints"


@pytest.fixture
def snapshot(place):
    return Snapshot.open(place)


REFERENCE = pl.DataFrame({"n": np.arange(COUNT), "key": [key_of(n) for n in range(COUNT)]})


def by_key(frame):
    return frame.sort("key").rows()


def test_columnar_state_equals_the_reference(snapshot):
    state = snapshot.state("sums", "sums")
    assert state.kind == "columnar"
    found = pl.from_arrow(state.to_arrow())
    assert found.columns == ["key", "total", "mean"]
    assert by_key(found.select("key", "total")) == by_key(REFERENCE.group_by("key").agg(pl.col("n").sum()))
    assert len(state) == KEYS
    assert state.get(5)["total"] == REFERENCE.filter(pl.col("key") == 5)["n"].sum()
    columns = state.columns()
    assert sorted(zip(columns["key"].tolist(), columns["total"].tolist(), strict=True)) == by_key(
        found.select("key", "total")
    )
    assert sorted(row["key"] for row in state.rows()) == list(range(KEYS))


def test_object_state_equals_the_reference(snapshot):
    seen, odd = defaultdict(set), defaultdict(dict)
    for n in range(COUNT):
        seen[key_of(n)].add(n)
    assert {key: set(value) for key, value in snapshot.state("gathers", "seen").items()} == seen
    last = {key: value["n"] for key, value in snapshot.state("gathers", "last").items()}
    for key, values in snapshot.state("gathers", "by parity").items():
        odd[key] = values
        assert set(values.values()) <= seen[key]
        assert all((n % 2 == 1) == (parity == "odd") for parity, n in values.items())
        assert last[key] in values.values()
    assert len(odd) == KEYS
    assert snapshot.state("gathers", "last").get(3) == {"n": last[3], "words": ["a", "b"]}


def test_object_state_as_arrow(snapshot):
    last = snapshot.state("gathers", "last").to_arrow()
    assert last.column_names == ["key", "n", "words"]
    assert str(last.schema.field("words").type) == "list<item: string>"
    parity = snapshot.state("gathers", "by parity").to_arrow()
    assert parity.column_names == ["key", "map_key", "value"]
    assert parity.num_rows == 2 * KEYS
    counts = pl.from_arrow(snapshot.state("counts", "count").to_arrow())
    assert counts.columns == ["key_0", "key_1", "value"]
    expected = REFERENCE.group_by("key").len().sort("key")
    assert counts.sort("key_0").rows() == [(key, str(key % 3), count) for key, count in expected.rows()]


def test_table_state(snapshot):
    state = snapshot.state("rows", "rows")
    assert state.kind == "table"
    assert sorted((row["n"], row["key"]) for row in state.rows()) == [(n, key_of(n)) for n in range(COUNT)]
    assert sorted(row["n"] for row in state.get(5)) == [n for n in range(COUNT) if key_of(n) == 5]
    assert state.to_arrow().column_names == ["n", "key"]
    assert state.get(99) is None


@pytest.mark.parametrize(
    ("uid", "name", "key"),
    [("gathers", "last", 4), ("sums", "sums", 4), ("rows", "rows", 4), ("counts", "count", (4, "1"))],
)
def test_a_key_is_looked_up_in_the_files_of_one_subtask(snapshot, monkeypatch, uid, name, key):
    everything = dict(snapshot.state(uid, name).items())
    read = []
    real = LocalStorage.read
    monkeypatch.setattr(LocalStorage, "read", lambda self, path: read.append(path) or real(self, path))
    found = snapshot.state(uid, name).get(key)
    if name != "rows":
        assert found == everything[key]
    assert len({path.rpartition("/")[2].partition(".")[0] for path in read}) == 1
    assert snapshot.state(uid, name).get("nothing", "default") == "default"


def test_numbers_of_numpy_find_keys(snapshot):
    assert snapshot.state("sums", "sums").get(np.int64(4)) == snapshot.state("sums", "sums").get(4)


def test_what_else_is_in_it(snapshot, place):
    assert snapshot.job == "snapshots"
    assert snapshot.path.startswith(f"{place}/chk-0000")
    operators = snapshot.operators
    assert {name: (info.kind, info.keys) for name, info in operators["gathers"].states.items()} == {
        "last": ("value", KEYS), "seen": ("list", KEYS), "by parity": ("map", KEYS),
    }  # fmt: skip
    assert operators["sums"].states["sums"].fields == {"total": "int64", "mean": "double"}
    assert operators["rows"].states["rows"].keys == COUNT
    assert [(split.offset, split.exhausted) for split in operators["source"].splits] == [(250, True), (500, True)]
    assert snapshot.in_flight() == {}
    assert snapshot.size_bytes == sum(
        file.stat().st_size for file in set(place.glob("chk-*/*")) | set(place.glob("finished/*"))
    )
    snapshot.check()


def test_classes_need_not_be_there(snapshot, monkeypatch):
    monkeypatch.delitem(sys.modules, "snapshot_jobs")
    assert snapshot.state("gathers", "last").get(3)["words"] == ["a", "b"]


def test_what_is_not_there_is_named(snapshot, place, tmp_path):
    with pytest.raises(UnknownStateError, match=r"no operator 'nope'.*\n.*source, .*gathers"):
        snapshot.state("nope", "x")
    state = snapshot.state("gathers", "nope")
    for ask in (
        lambda: state.get(3),
        lambda: list(state.rows()),
        lambda: len(state),
        state.to_arrow,
        lambda: state.kind,
    ):
        with pytest.raises(UnknownStateError, match=r"'gathers' has no state 'nope'.*\n.*by parity, last, seen"):
            ask()
    with pytest.raises(NoCheckpointError):
        Snapshot.open(tmp_path)
    with pytest.raises(NoCheckpointError):
        Snapshot.open(f"{place}/chk-00000999")


def inspect(*arguments):
    return CliRunner().invoke(cli, ["inspect", *map(str, arguments)])


def test_inspect_lists_what_is_there(place):
    result = inspect(place)
    assert result.exit_code == 0, result.output
    assert "job snapshots," in result.output
    assert "total: int64, mean: double" in result.output
    assert "source reads 2 splits:" in result.output
    assert "at its end, offset 250" in result.output
    listed = json.loads(inspect(place, "--format", "json").stdout)
    assert listed["operators"]["gathers"]["states"]["seen"]["keys"] == KEYS
    assert listed["operators"]["source"]["splits"]["0"] == {"offset": 250, "exhausted": True}
    assert "several states; say --state NAME" in inspect(place, "--operator", "gathers").output


def test_inspect_shows_rows(place, tmp_path):
    rows = [json.loads(line) for line in inspect(place, "--operator", "sums", "--format", "jsonl").stdout.splitlines()]
    assert sorted((row["key"], row["total"]) for row in rows) == by_key(
        REFERENCE.group_by("key").agg(pl.col("n").sum())
    )
    assert len(json.loads(inspect(place, "--operator", "sums", "--format", "json", "--limit", 4).stdout)) == 4
    table = inspect(place, "--operator", "rows")
    assert table.stdout.splitlines()[0].split() == ["n", "key"]
    assert len(table.stdout.splitlines()) == 21
    assert "there are more" in table.output
    file = tmp_path / "rows.parquet"
    assert inspect(place, "--operator", "rows", "--format", "parquet", "--output", file).exit_code == 0
    assert sorted(pl.from_arrow(pq.read_table(file)).rows()) == [(n, key_of(n)) for n in range(COUNT)]
    csv = inspect(
        place, "--operator", "gathers", "--state", "last", "--format", "csv", "--limit", 1
    ).stdout.splitlines()
    assert csv[0] == '"key","n","words"'
    assert csv[1].endswith('"[""a"", ""b""]"')


def test_inspect_looks_a_key_up(place):
    (row,) = json.loads(inspect(place, "--operator", "counts", "--key", '[4, "1"]', "--format", "json").stdout)
    assert row == {"key": [4, "1"], "value": len([n for n in range(COUNT) if key_of(n) == 4])}
    assert inspect(place, "--operator", "sums", "--key", "4").stdout.splitlines()[0].split() == ["key", "total", "mean"]
    assert inspect(place, "--operator", "sums", "--key", "four").output == "nothing\n"
    assert "error: there is no operator 'nope'" in inspect(place, "--operator", "nope").output
    assert inspect(place, "--key", "4").exit_code == 2
    assert inspect(place, "--operator", "sums", "--format", "parquet").exit_code == 2
    assert inspect(place, "--operator", "sums", "--format", "csv", "--output", "/nowhere/x").exit_code == 3


def test_damage_is_named(place, tmp_path):
    copy = shutil.copytree(place, tmp_path / "copy")
    file = max(copy.rglob("*.tables"), key=lambda file: file.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedCheckpointError, match=f"{file} is damaged"):
        Snapshot.open(copy).check()
    assert inspect(copy).exit_code == 4


def test_timers_and_records_in_flight(tmp_path):
    env = jobs.environment(tmp_path)
    rows = jobs.source(env, lambda n: {"n": n, "key": key_of(n)}, 100)
    gathers = rows.key_by("key").process(jobs.Gathers()).uid("gathers")
    captured = []
    gathers.map(lambda row: captured.append(row) or row)
    assert isinstance(env, StreamEnvironment)
    env.execute()
    assert Snapshot.open(tmp_path / "checkpoints").timers("gathers") == []  # all have fired at the end
    assert len([row for row in captured if "timer" in row]) == KEYS
