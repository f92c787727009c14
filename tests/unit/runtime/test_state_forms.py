"""The state of scan, reduce and count, kept as objects and taken up in columns, and the other way round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

from streamcore.batch import Schema, schema_of
from streamcore.errors import IncompatibleSnapshotError
from streamcore.kernels.functions.layout import Kind, array_schema, record_layout, state_layout
from streamcore.kernels.functions.loops import SEEN
from streamcore.runtime.keys import KeySelector
from streamcore.runtime.operators.state_forms import COUNT, reduce_form, scan_form
from streamcore.state.descriptors import ColumnarState
from streamcore.state.key_groups import group_range, groups_of
from streamcore.state.store import KeyedStore
from tests.saved_state import saved_store

GROUPS = 8


class Pair(NamedTuple):
    n: int
    x: float


@dataclass
class Sale:
    shop: str
    amount: int
    price: float = 0.5


def stores(parallelism, saved=()):
    return [
        KeyedStore(GROUPS, group_range(i, parallelism, GROUPS), list(saved), allow_pickle=False)
        for i in range(parallelism)
    ]


def owner(key, parallelism):
    return int(groups_of([key], GROUPS)[0]) * parallelism // GROUPS


def as_objects(name, values, parallelism=2, form=None):
    """The values by key, saved as objects by some subtasks."""
    saved = []
    for number, store in enumerate(stores(parallelism)):
        table = store.table(name, other_form=form)
        for key, value in values.items():
            if owner(key, parallelism) == number:
                table.put(key, value)
        saved.append(saved_store(store))
    return saved


def in_columns(name, schema, form, saved, parallelism=3):
    """What these subtasks have of it in columns, and the same saved again."""
    found, again = {}, []
    for store in stores(parallelism, saved):
        table = store.declare(ColumnarState(name, schema), other_form=form)
        store.check_all_claimed("op")
        keys = table.keys if isinstance(table.keys, list) else table.keys.tolist()
        found |= {key: tuple(table[f][i].item() for f in schema.names) for i, key in enumerate(keys)}
        again.append(saved_store(store))
    return found, again


def objects_in(name, form, saved, parallelism=2):
    found = {}
    for store in stores(parallelism, saved):
        found |= dict(store.table(name, other_form=form).items())
        store.check_all_claimed("op")
    return found


@pytest.mark.parametrize(
    ("initial", "values", "rows"),
    [
        (0, {1: 7, 2: -8}, {1: (7,), 2: (-8,)}),
        (0.0, {"a": 7.5, ("b", 1): 1e300}, {"a": (7.5,), ("b", 1): (1e300,)}),
        ((0, False), {1: (7, True), 2: (8, False)}, {1: (7, True), 2: (8, False)}),
        (Pair(0, 0.0), {"a": Pair(1, 2.0)}, {"a": (1, 2.0)}),
    ],
)
def test_scan(initial, values, rows):
    form, schema = scan_form(initial), array_schema(state_layout(initial))
    found, again = in_columns("scan", schema, form, as_objects("scan", values))
    assert found == rows
    back = objects_in("scan", form, again)
    assert back == values
    assert [type(value) for value in back.values()] == [type(initial)] * len(values)


def test_a_state_that_columns_can_t_keep_is_refused():
    form, schema = scan_form(0), array_schema(state_layout(0))
    for value in (2**70, 1.5, "x", None):
        with pytest.raises(IncompatibleSnapshotError, match="state 'scan' was kept as Python objects") as caught:
            in_columns("scan", schema, form, as_objects("scan", {1: value}), parallelism=1)
        assert "compiled=False" in caught.value.hint
    assert scan_form([1]) is None
    assert scan_form({"a": 1}) is None


def test_a_new_field_of_a_scan_begins_as_that_of_the_first_state():
    saved = in_columns("scan", Schema.of(n=int), None, [])[1]
    for number, store in enumerate(stores(3)):
        own = [key for key in range(9) if owner(key, 3) == number]
        store.declare(ColumnarState("scan", Schema.of(n=int))).slots(own)
        saved[number] = saved_store(store)
    form = scan_form(Pair(5, 2.5))
    assert objects_in("scan", form, saved) == {key: Pair(0, 2.5) for key in range(9)}
    assert in_columns("scan", array_schema(state_layout(Pair(5, 2.5))), form, saved)[0] == dict.fromkeys(
        range(9), (0, 2.5)
    )


@pytest.mark.parametrize("key", ["shop", ("shop",), ("amount", "shop")])
def test_reduce(key):
    columns = schema_of(Sale)
    selector = KeySelector(key, columns.names)
    form, schema = reduce_form(columns, selector), array_schema(record_layout(columns), {SEEN: Kind.BOOL})
    sales = [Sale("a", 1, 2.0), Sale("b", 3, 4.0), Sale("é", 5, 6.0)]
    values = dict(zip(selector.keys(sales), sales, strict=True))
    found, again = in_columns("reduce", schema, form, as_objects("reduce", values))
    assert found == {k: (sale.amount, sale.price, True) for k, sale in values.items()}
    assert objects_in("reduce", form, again) == values


def test_a_new_field_of_reduced_records_gets_the_default_of_their_class_or_is_refused():
    columns, selector = schema_of(Sale), KeySelector("shop", ("shop", "amount", "price"))
    form, schema = reduce_form(columns, selector), array_schema(record_layout(columns), {SEEN: Kind.BOOL})

    def saved_without(name):
        store = stores(1)[0]
        old = Schema.of(**{field.name: field.type for field in schema.fields if field.name != name})
        table = store.declare(ColumnarState("reduce", old))
        slots = table.slots(["a"])
        table[SEEN][slots] = True
        return [saved_store(store)]

    saved = saved_without("price")
    assert objects_in("reduce", form, saved) == {"a": Sale("a", 0, 0.5)}
    assert in_columns("reduce", schema, form, saved)[0] == {"a": (0, 0.5, True)}
    saved = saved_without("amount")
    for take in (lambda: objects_in("reduce", form, saved), lambda: in_columns("reduce", schema, form, saved)):
        with pytest.raises(IncompatibleSnapshotError, match="state 'reduce': field amount: int64 is not in the"):
            take()


def test_keys_that_no_record_was_folded_for_are_left_out():
    columns, selector = schema_of(Sale), KeySelector("shop", ("shop", "amount", "price"))
    store = stores(1)[0]
    schema = array_schema(record_layout(columns), {SEEN: Kind.BOOL})
    store.declare(ColumnarState("reduce", schema)).slots(["a"])
    assert objects_in("reduce", reduce_form(columns, selector), [saved_store(store)]) == {}


def test_what_has_no_form_in_columns():
    assert reduce_form(None, KeySelector("shop")) is None
    assert reduce_form(schema_of(Sale), KeySelector("amount", ("shop", "amount", "price"))) is None


def test_count():
    schema = Schema.of(count=np.int64)
    found, again = in_columns("count", schema, COUNT, as_objects("count", {"a": 3, "b": 4}))
    assert found == {"a": (3,), "b": (4,)}
    assert objects_in("count", COUNT, again) == {"a": 3, "b": 4}
