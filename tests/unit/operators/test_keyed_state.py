"""What operators keep of a key is saved under that key, so that a restore brings it to the subtask that has the key."""

import numpy as np
import pytest

from streamcore import Schema
from streamcore.batch import to_columns
from streamcore.operators.deduplicate import FirstEver, FirstWithin
from streamcore.operators.ewma import ByCount, Ewma
from streamcore.operators.rate_limit import HELD_BACK, RateLimit
from streamcore.runtime.counters import Counters
from streamcore.runtime.keys import KeySelector
from streamcore.runtime.operator import OperatorContext, Output, SavedOperator
from streamcore.runtime.operators.process import ProcessColumns
from streamcore.runtime.wakeup import Wakeup
from streamcore.state.key_groups import groups_of
from streamcore.state.store import KeyedStore
from streamcore.time import Clock
from tests.saved_state import saved_store

BEAT = Schema.of(name=str, number=int, time=np.int64)
GROUPS = 32
BEATS = [(name, 1, time) for time, name in enumerate("abcdefghabcdefgh")]


def ewma(by):
    out = Schema((*BEAT.fields, *Schema.of(ewma=float, expected=float, spread=float).fields))
    return Ewma(out, by, "number", ByCount(0.5))


def limit(by):
    return RateLimit(Schema((*BEAT.fields, *Schema.of(**{HELD_BACK: int}).fields)), by, "time", 10**9, 1, None)


FUNCTIONS = {
    "first ever": FirstEver,
    "first within": lambda by: FirstWithin(BEAT, by, 10**6, "time"),
    "average": ewma,
    "limit": limit,
}


def rig(make, by, groups, saved=()):
    """One subtask of the operator, with its key groups."""
    out = []
    operator = ProcessColumns(make(by), (KeySelector(by),))
    store = KeyedStore(GROUPS, groups, [keyed for keyed, _ in saved], allow_pickle=False)
    own = [SavedOperator(0, 1, state) for _, state in saved if state is not None]
    context = OperatorContext("one", 0, 1, GROUPS, 1, store, own, Clock(), Wakeup(), Counters())
    operator.setup(context, Output(main=[lambda batch: out.extend(map(tuple, batch.to_rows()))]))
    operator.open()
    return operator, out


@pytest.mark.parametrize("by", ["name", ("name",), ("name", "number")])
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_half_of_the_key_groups_bring_the_state_of_their_keys(kind, by):
    make = FUNCTIONS[kind]
    columns = to_columns(BEATS, BEAT)
    groups = groups_of(KeySelector(by).keys(columns), GROUPS)
    whole, out = rig(make, by, range(GROUPS))
    whole.process(columns.slice(0, 8), 0)
    saved = (saved_store(whole.context.store), whole.capture(1))
    del out[:]
    whole.process(columns.slice(8, 16), 0)
    restored = []
    for half in (range(GROUPS // 2), range(GROUPS // 2, GROUPS)):
        part, found = rig(make, by, half, [saved])
        part.process(columns.slice(8, 16).filter(np.isin(groups[8:], half)), 0)
        restored += found
    assert list(map(repr, sorted(restored, key=lambda row: row[2]))) == list(map(repr, out))  # nan is like nan so
