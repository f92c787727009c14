"""What is seldom in a snapshot: records in flight, values without a common type, pickles, classes that are gone."""

from __future__ import annotations

import dataclasses
import decimal
import sys
import types
import uuid

import pytest

from streamcore import Snapshot, SnapshotBuilder, ValueState
from streamcore.batch.codec import encode_saved
from streamcore.checkpoint.in_flight import InFlight, SavedChannel
from streamcore.checkpoint.log import CheckpointLog, Entry, OperatorEntry, SubtaskEntry, state_path
from streamcore.checkpoint.parts import write_part
from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.checkpoint.storage import open_storage
from streamcore.errors import StateCodecError, UsageError

VALUE = ValueState("value", None)


def place():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def in_flight():
    """A snapshot with three records in flight from `a` to `b`, and one that `b` sends back."""
    storage = open_storage(place())
    three, one = (
        (int(kind), body) for kind, body in (encode_saved(rows, allow_pickle=False) for rows in ([1, 2, 3], [4]))
    )
    flight = InFlight(
        [SavedChannel("a.>b.0", 0, 1, [three, (0, 17, False)])], [SavedChannel("b.again>a.1", 0, 1, [one])]
    )
    parts = {"a": OperatorSnapshot({}, None), "b": OperatorSnapshot({}, {"watermark": 5})}
    file, tables = write_part(storage, state_path(1, 0, 0, 1), SubtaskSnapshot(parts, flight), [], allow_pickle=False)
    operators = {uid: OperatorEntry(uid, 1, 128) for uid in parts}
    subtask = SubtaskEntry(0, 0, 1, list(parts), False, file, tables)
    CheckpointLog(storage).append(Entry("checkpoint", "job", 1, 1, 1, 0, operators=operators, subtasks=[subtask]))
    return Snapshot.open(storage.url)


def test_records_in_flight_are_counted_and_kept(in_flight):
    assert in_flight.in_flight() == {"a.>b.0": 3, "b.again>a.1": 1}
    copy = Snapshot.open(SnapshotBuilder.of(in_flight).rename_operator("b", "c.d").write(place()))
    assert copy.in_flight() == {"a.>c.d.0": 3, "c.d.again>a.1": 1}
    assert copy.operators["c.d"].own == [{"watermark": 5}]
    with pytest.raises(UsageError, match=r"'b' can't be removed: records were in flight on a\.>b\.0"):
        SnapshotBuilder.of(in_flight).remove_operator("b")


def test_values_without_a_common_type_become_json():
    mixed = {1: "text", 2: 5, 3: decimal.Decimal("1.5"), 4: {"x": [1, (2, 3)]}}
    url = SnapshotBuilder("job").add_state("op", VALUE, mixed).write(place())
    table = Snapshot.open(url).state("op", "value").to_arrow().sort_by("key")
    assert table["value"].to_pylist() == ['"text"', "5", '{"$decimal": "1.5"}', '{"x": [1, [2, 3]]}']


def test_parts_with_other_types_are_put_together():
    """The subtasks' parts are read one by one; one has numbers only, another text only."""
    keys = range(40)
    url = SnapshotBuilder("job", parallelism=4).add_state("op", VALUE, {key: key for key in keys}).write(place())
    state = Snapshot.open(url).state("op", "value")
    assert sorted(state.to_arrow()["value"].to_pylist()) == list(keys)
    one_text = {key: "text" if key == 7 else key for key in keys}
    url = SnapshotBuilder("job", parallelism=4).add_state("op", VALUE, one_text).write(place())
    table = Snapshot.open(url).state("op", "value").to_arrow()
    assert table.num_rows == 40
    assert "text" in " ".join(table["value"].to_pylist())


def test_a_state_of_nothing():
    url = SnapshotBuilder("job").add_state("op", VALUE, {}).write(place())
    state = Snapshot.open(url).state("op", "value")
    assert (len(state), list(state.rows()), state.get(1), state.to_arrow().num_rows) == (0, [], None, 0)
    assert len(state.columns()) == 0


def test_pickled_values_only_if_allowed():
    url = SnapshotBuilder("job", allow_pickle=True).add_state("op", VALUE, {1: 5 + 0j, 2: object}).write(place())
    with pytest.raises(StateCodecError, match="pickled"):
        list(Snapshot.open(url).state("op", "value").rows())
    assert dict(Snapshot.open(url, allow_pickle=True).state("op", "value").items()) == {1: 5 + 0j, 2: object}


def test_records_of_a_class_that_is_gone_are_copied_and_come_back(monkeypatch):
    module = types.ModuleType("gone_module")
    monkeypatch.setitem(sys.modules, "gone_module", module)
    module.Visit = dataclasses.make_dataclass("Visit", [("n", int), ("where", str)])
    module.Visit.__module__ = "gone_module"
    visits = {1: module.Visit(1, "here"), 2: module.Visit(2, "there")}
    first = SnapshotBuilder("job").add_state("op", VALUE, visits).write(place())
    monkeypatch.delitem(sys.modules, "gone_module")
    snapshot = Snapshot.open(first)
    assert dict(snapshot.state("op", "value").items()) == {1: {"n": 1, "where": "here"}, 2: {"n": 2, "where": "there"}}
    changed = {key: record for key, record in snapshot.state("op", "value").items() if key == 2}
    for record in changed.values():
        record["where"] = "elsewhere"
    second = SnapshotBuilder.of(snapshot).add_state("op", VALUE, changed).write(place())
    monkeypatch.setitem(sys.modules, "gone_module", module)
    from streamcore.batch import plain

    keyed = next(iter(Snapshot.open(second).manifest.subtasks))
    part = Snapshot.open(second).read(keyed).operators["op"].keyed["states"]["value"]
    (pairs,) = [plain.decode(body) for body in part["groups"].values()]
    assert pairs == [[2, module.Visit(2, "elsewhere")]]
