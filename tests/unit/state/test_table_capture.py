"""A capture of columnar state has what was there at its moment, whatever is written while it is being copied, and what
has changed since another capture is no more and no less than that."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import Schema, Vector
from streamcore.checkpoint.table_file import assemble, decode_tables, encode_tables
from streamcore.kernels.key_columns import as_list
from streamcore.state import table_capture
from streamcore.state.columnar import ColumnarTable
from streamcore.state.descriptors import ColumnarState
from streamcore.state.key_groups import groups_of

FIELDS = Schema.of(total=float, count=np.int32, vector=Vector(3, np.float32))
MAX_PARALLELISM = 16


@pytest.fixture(params=[1, 7, 4096], autouse=True)
def _chunks(request, monkeypatch):
    monkeypatch.setattr(table_capture, "CHUNK_ROWS", request.param)


def make_table():
    return ColumnarTable(ColumnarState("s", FIELDS, lambda keys: {"count": np.full(len(keys), 7)}), MAX_PARALLELISM)


def rows_of(table):
    """key → its row, copied."""
    return dict(
        zip(as_list(table.keys), zip(*(table[name].tolist() for name in FIELDS.names), strict=True), strict=True)
    )


def rows_in(saved):
    columns = [saved["columns"][name].tolist() for name in FIELDS.names]
    assert saved["groups"].tolist() == groups_of(saved["keys"], MAX_PARALLELISM).tolist()
    return dict(zip(as_list(saved["keys"]), zip(*columns, strict=True), strict=True))


def through_files(chain):
    files = [b"".join(encode_tables({("op", "s"): saved}, allow_pickle=False)) for saved in chain]
    return assemble([decode_tables(file, allow_pickle=False) for file in files])["op", "s"]


def write(table, keys, value):
    slots = table.slots(keys)
    np.add.at(table["total"], slots, value)
    np.add.at(table["count"], slots, 1)
    table["vector"][slots] = value


KEYS = {
    "numbers": lambda numbers: np.array(numbers, np.int64),
    "words": lambda numbers: [f"word-{n}" for n in numbers],
    "tuples": lambda numbers: [(n % 5, str(n)) for n in numbers],
    "mixed": lambda numbers: [n if n % 3 else str(n) for n in numbers],
}
BATCH = st.lists(st.integers(0, 80), min_size=1, max_size=30)
ACTION = st.one_of(
    st.tuples(st.just("write"), BATCH),
    st.tuples(st.just("grow"), st.integers(1, 200)),
    st.tuples(st.just("capture"), st.booleans()),
    st.tuples(st.just("step"), st.integers(1, 30)),
    st.tuples(st.just("complete"), st.none()),
)


@pytest.mark.parametrize("form", sorted(KEYS))
@given(actions=st.lists(ACTION, max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_interleaving_of_writes_growth_steps_and_captures(form, actions):
    make, table, fresh = KEYS[form], make_table(), 1000
    taken = []  # (capture, its checkpoint, the one it builds on, what the table was like)
    chains, complete = {}, None  # checkpoint → what its files would hold
    for number, (action, argument) in enumerate(actions):
        match action:
            case "write":
                write(table, make(argument), number)
            case "grow":
                write(table, make(range(fresh, fresh + argument)), number)
                fresh += argument
            case "capture":
                since = complete if argument else None
                taken.append((table.capture(number, since), number, since, rows_of(table)))
            case "step" if taken:
                for _ in range(argument):
                    if not taken[-1][0].done:
                        taken[-1][0].step()
            case "complete" if taken:
                capture, number_, since, expected = taken[-1]
                capture.finish()
                saved = capture.saved()
                chains[number_] = [saved] if saved.is_whole else [*chains[since], saved]
                assert rows_in(through_files(chains[number_])) == expected
                chains[number_][-1] = copy.deepcopy(saved)
                complete = number_
                if number % 2:
                    capture.release()
                    taken.remove(taken[-1])
    for capture, _, since, expected in taken:
        capture.finish()
        saved = capture.saved()
        chain = [saved] if saved.is_whole else [*chains[since], saved]
        assert rows_in(through_files(chain)) == expected


def test_an_increment_has_the_rows_that_changed_and_no_others():
    table = make_table()
    write(table, np.arange(1000), 1.0)
    whole = table.capture(1)
    whole.finish()
    write(table, np.array([5, 900, 5, 2000]), 2.0)
    first = table.capture(2, since=1)
    first.finish()
    saved = first.saved()
    assert (saved.rows.tolist(), saved.first, saved.size) == ([5, 900, 1000], 1000, 1001)
    assert saved.keys.tolist() == [2000]
    assert saved.columns["total"].tolist() == [5.0, 3.0, 2.0]
    write(table, np.array([7]), 2.0)
    second = table.capture(3, since=1)  # the one between was aborted: its changes count too
    second.finish()
    assert second.saved().rows.tolist() == [5, 7, 900, 1000]
    third = table.capture(4, since=3)
    assert third.is_empty
    assert third.done
    assert not second.is_empty


def test_rows_that_an_increment_leaves_out_change_while_it_is_copied():
    table = make_table()
    write(table, np.arange(1000), 1.0)
    table.capture(1).finish()
    write(table, np.arange(0, 1000, 5), 2.0)
    capture = table.capture(2, since=1)
    write(table, np.arange(1000), 4.0)
    capture.finish()
    saved = capture.saved()
    assert saved.rows.tolist() == list(range(0, 1000, 5))
    assert set(saved.columns["total"].tolist()) == {3.0}


def test_reading_rows_counts_as_changing_them_and_telling_does_too():
    table = make_table()
    slots = table.slots(np.arange(100))
    table.capture(1).finish()
    table.touch(slots[3:5])
    table["total"][slots[3:5]] = 1.0
    capture = table.capture(2, since=1)
    capture.finish()
    assert capture.saved().rows.tolist() == [3, 4]


def test_everything_is_captured_when_most_has_changed_or_the_base_is_not_remembered():
    table = make_table()
    write(table, np.arange(100), 1.0)
    table.capture(1).finish()
    write(table, np.arange(51), 1.0)
    assert table.capture(2, since=1).is_whole
    assert not table.capture(3, since=2).is_whole
    assert table.capture(4, since=99).is_whole
    for number in range(5, 30):
        table.capture(number, since=3)
    assert table.capture(30, since=3).is_whole


def test_the_memory_of_a_capture_that_was_written_is_used_again():
    table = make_table()
    write(table, np.arange(10_000), 1.0)
    first, second = table.capture(1), table.capture(2)
    memory = [capture.saved().columns["total"] for capture in (first, finished(second))]
    assert not np.shares_memory(*memory)
    first.release()
    third = finished(table.capture(3)).saved().columns["total"]
    assert np.shares_memory(third, memory[0])
    assert third.tolist() == [1.0] * 10_000
    fourth = finished(table.capture(4)).saved().columns["total"]
    assert not any(np.shares_memory(fourth, other) for other in (third, memory[1]))


def finished(capture):
    capture.finish()
    return capture


def test_a_capture_that_begins_ends_the_one_before():
    table = make_table()
    write(table, np.arange(10_000), 1.0)
    first = table.capture(1)
    second = table.capture(2)
    assert first.done
    write(table, np.arange(10_000), 1.0)
    second.finish()
    for capture in (first, second):
        assert set(capture.saved().columns["total"].tolist()) == {1.0}


def test_a_capture_is_not_used_half_done():
    table = make_table()
    write(table, np.arange(10_000), 1.0)
    with pytest.raises(AssertionError, match="before all of it was copied"):
        table.capture(1).saved()
