"""Captures of heap state, taken while the table is used: each is the state as of its moment, whatever is done to the
table while it is encoded, put right and captured again."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import plain
from streamcore.checkpoint.table_file import assemble, decode_tables, encode_tables
from streamcore.errors import DamagedCheckpointError, StateCodecError
from streamcore.state import changed_keys, guarded_values, object_capture
from streamcore.state.changed_keys import ChangedKeys
from streamcore.state.descriptors import ListState, MapState, ReducingState, ValueState
from streamcore.state.heap import HeapBackend
from streamcore.state.object_table import CurrentKey

NAME = ("op", "s")


@dataclass
class Account:
    owner: str
    entries: list


class Pair(NamedTuple):
    a: int
    b: list


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch):
    monkeypatch.setattr(object_capture, "STEP_KEYS", 3)
    monkeypatch.setattr(object_capture, "_KEPT_ENTRIES", 4)
    monkeypatch.setattr(guarded_values, "_DRAINED", 2)
    monkeypatch.setattr(changed_keys, "_SET_KEYS", 20)


def through_files(chain):
    """Key → value of a chain of saved tables, written and read; and of the file with the most entries how many."""
    files = [decode_tables(b"".join(encode_tables({NAME: saved}, allow_pickle=False)), allow_pickle=False)
             for saved in chain]  # fmt: skip
    table = {}
    for group, body in assemble(files)[NAME]["groups"].items():
        pairs = plain.decode(body)
        assert pairs, f"key group {group} is there for nothing"
        assert not table.keys() & {key for key, _ in pairs}
        table.update(pairs)
    return table


def value_of(number):
    values = [number, (number, "x"), [number], {"n": number}, Account("a", [number]), Pair(number, [1]), b"b", None]
    return values[number % 8]


def change(value):
    """Changes a value in place, if that can be done."""
    match value:
        case list():
            value.append(7)
        case dict():
            value["m"] = value.get("m", 0) + 1
        case Account():
            value.entries.append(8)
        case Pair():
            value.b.append(9)


KEYS = st.one_of(st.integers(0, 25), st.sampled_from(["a", "b", ("t", 1), None, 2.5]))
ACTION = st.one_of(
    st.tuples(st.sampled_from(["put", "remove", "change", "read"]), KEYS),
    st.tuples(st.just("batch"), st.lists(KEYS, max_size=6)),
    st.tuples(st.just("step"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["capture", "complete", "abandon", "clear"]), st.booleans()),
)


@given(st.lists(ACTION, max_size=80))
@settings(max_examples=300, deadline=None)
def test_every_capture_is_the_table_as_of_its_moment(actions):
    backend = HeapBackend(4, allow_pickle=False)
    table, model = backend.table("s", "value"), {}
    running, chains, complete = None, {}, None
    for number, (action, what) in enumerate(actions, start=1):
        match action:
            case "put":
                backend.touch((what,))
                table.put(what, value_of(number))
                model[what] = copy.deepcopy(value_of(number))
            case "remove":
                backend.touch((what,))
                table.remove(what)
                model.pop(what, None)
            case "change":
                backend.touch((what,))
                change(table.for_update(what))
                change(model.get(what))
            case "read":
                assert table.get(what, "none") == model.get(what, "none")
            case "batch":
                values = table.batch(what)
                for key in what:
                    assert values.get(key) == model.get(key)
                    if key in values and number % 2:
                        change(values[key])
                        change(model[key])
                    else:
                        values[key] = value_of(number)
                        model[key] = copy.deepcopy(value_of(number))
            case "clear" if what and number % 3 == 0:
                table.clear()
                model.clear()
            case "capture" if running is None or what:
                capture = backend.capture(number, complete)["s"]
                running = number, complete, capture, copy.deepcopy(model)
            case "step" if running is not None:
                for _ in range(what):
                    running[2].step()
            case "abandon" if running is not None:
                running[2].abandon()
                running = None if what else (*running[:3], None)
            case "complete" if running is not None and running[3] is not None:
                name, since, capture, expected = running
                capture.finish()
                saved = capture.saved()
                chains[name] = [saved] if saved.is_whole else [*chains[since], saved]
                assert through_files(chains[name]) == expected
                complete = name if what else complete
                running = None
        assert len(table) == len(model)
    assert dict(table.items()) == model
    assert set(table.all_keys()) == set(model)


@given(st.lists(st.tuples(st.sampled_from("vlmrcs"), st.integers(0, 8), st.integers(0, 3)), max_size=60))
@settings(max_examples=150, deadline=None)
def test_handles_are_used_while_their_tables_are_captured(actions):
    backend, current = HeapBackend(4, allow_pickle=False), CurrentKey()

    def handle(descriptor, kind):
        return backend.handle(descriptor, backend.table(descriptor.name, kind), current)

    value, many = handle(ValueState("v", -1), "value"), handle(ListState("l"), "list")
    pairs, total = handle(MapState("m"), "map"), handle(ReducingState("r", lambda a, b: a + b), "value")
    model, running, chains, base = {"v": {}, "l": {}, "m": {}, "r": {}}, None, {}, None

    def check():
        for name, capture in running[1].items():
            capture.finish()
            saved = capture.saved()
            chains[running[0], name] = [saved] if saved.is_whole else [*chains[base, name], saved]
            assert through_files(chains[running[0], name]) == running[2][name]

    for number, (action, key, amount) in enumerate(actions):
        current.key = key
        backend.touch((key,))
        match action:
            case "v" if amount:
                value.set(number)
                model["v"][key] = number
            case "v":
                value.clear()
                model["v"].pop(key, None)
            case "l" if amount:
                many.add(amount)
                model["l"].setdefault(key, []).append(amount)
            case "m" if amount > 1:
                pairs.put(amount, number)
                model["m"].setdefault(key, {})[amount] = number
            case "m":
                pairs.remove(amount + 2)
                model["m"].get(key, {}).pop(amount + 2, None)
            case "r":
                total.add([amount])
                model["r"][key] = [*model["r"].get(key, []), amount]
            case "s" if running is not None:
                for capture in running[1].values():
                    capture.step()
            case "c":
                if running is not None:
                    check()
                    base = running[0]
                running = number, backend.capture(number, base), copy.deepcopy(model)
        assert value.get() == model["v"].get(key, -1)
        assert many.get() == model["l"].get(key, [])
        assert dict(pairs.items()) == model["m"].get(key, {})
        assert total.get() == model["r"].get(key)
        assert sorted(value.all_keys()) == sorted(model["v"])
    if running is not None:
        check()


def filled(keys=1000):
    backend = HeapBackend(16, allow_pickle=False)
    table = backend.table("s", "value")
    table.batch(range(keys)).update((key, [key]) for key in range(keys))
    return backend, table


def finished(captures):
    captures["s"].finish()
    return captures["s"].saved()


def size_of(entries):
    return sum(entries.counts.values())


def test_an_increment_has_the_keys_that_were_touched_and_no_others():
    backend, table = filled()
    assert finished(backend.capture(1, None)).is_whole
    table.batch([3, 5])[3] = "new"
    backend.touch([900])
    table.remove(900)
    table.batch([2000])[2000] = 1
    saved = finished(backend.capture(2, 1))
    assert (saved.is_whole, size_of(saved.entries), size_of(saved.removed)) == (False, 3, 1)
    assert backend.capture(3, 2)["s"].is_empty
    after_an_abort = finished(backend.capture(4, 1))
    assert size_of(after_an_abort.entries) == 3


def test_everything_is_saved_when_half_was_touched_or_the_base_is_not_remembered():
    backend, table = filled()
    finished(backend.capture(1, None))
    table.batch(range(499))
    assert not finished(backend.capture(2, 1)).is_whole
    table.batch(range(400, 1000))
    assert table.bare is not None, "keys are noted although all will be saved"
    assert finished(backend.capture(3, 2)).is_whole
    assert finished(backend.capture(4, 99)).is_whole
    for number in range(5, 30):
        finished(backend.capture(number, 4))
    assert finished(backend.capture(30, 4)).is_whole


def test_the_bare_dictionary_is_given_out_while_nobody_has_to_know_the_keys():
    backend, table = filled()
    assert table.bare is not None
    capture = backend.capture(1, None)["s"]
    assert table.bare is None
    capture.finish()
    assert table.bare is None  # what is touched now is noted
    table.batch(range(1000))
    assert table.bare is table.batch([1])


def test_keys_that_are_equal_and_look_different_are_one():
    backend, table = filled(100)
    first = finished(backend.capture(1, None))
    backend.touch([1])
    table.remove(1)
    table.put(1.0, "float")
    second = finished(backend.capture(2, 1))
    backend.touch([True])
    table.remove(True)
    third = finished(backend.capture(3, 2))
    assert through_files([first, second])[1] == "float"
    assert 1 not in through_files([first, second, third])


def test_a_step_is_small_however_large_the_values_are(monkeypatch):
    monkeypatch.setattr(object_capture, "STEP_KEYS", 256)
    backend = HeapBackend(16, allow_pickle=False)
    table = backend.table("s", "value")
    for key in range(100):
        table.put(key, list(range(10_000)))
    capture, sizes = backend.capture(1, None)["s"], []
    while not capture.done:
        before = sum(map(len, capture._saved.entries.bodies.values()))
        capture.step()
        sizes.append(sum(map(len, capture._saved.entries.bodies.values())) - before)
    assert max(sizes) < 2 * (1 << 15)
    assert len(through_files([capture.saved()])) == 100


def test_what_cannot_be_encoded_fails_the_capture_and_nothing_else():
    backend, table = filled(10)
    table.put("bad", object())
    capture = backend.capture(1, None)["s"]
    table.batch(["bad"])["bad"] = 1
    capture.finish()
    with pytest.raises(StateCodecError, match="object has no safe saved form"):
        capture.saved()
    assert through_files([finished(backend.capture(2, None))])["bad"] == 1


def test_changes_of_what_is_not_there_are_refused():
    backend, _table = filled(10)
    finished(backend.capture(1, None))
    backend.touch([1])
    saved = finished(backend.capture(2, 1))
    with pytest.raises(DamagedCheckpointError, match="state 's': a file has changes of what isn't there"):
        through_files([saved])


@given(st.lists(st.lists(st.integers(0, 200), max_size=30), max_size=20), st.integers(0, 300))
def test_the_keys_since_a_capture_are_known_or_it_is_known_that_they_are_not(batches, size):
    changed, touched = ChangedKeys(), set()
    changed.begin(1, size)
    for number, batch in enumerate(batches, start=2):
        changed.add(batch)
        touched |= set(batch)
        known = changed.since(1)
        if known is not None:
            assert sorted(known) == sorted(touched)
            assert all(key in known for key in touched)
            assert -1 not in known
        else:
            assert len(touched) >= size // 2 or len(touched) > 15 * 20
        if number % 4 == 0:
            changed.begin(number, size)
    assert changed.since(99) is None
