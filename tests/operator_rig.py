"""A user's function by itself, in the operator that runs it: what it is given is written out, what it sends is read."""

from __future__ import annotations

from streamcore.batch import to_columns
from streamcore.batch.convert import to_rows
from streamcore.checkpoint.snapshot_file import OperatorSnapshot, SubtaskSnapshot
from streamcore.runtime.counters import Counters
from streamcore.runtime.keys import KeySelector
from streamcore.runtime.operator import OperatorContext, Output, SavedOperator
from streamcore.runtime.wakeup import Wakeup
from streamcore.state.store import KeyedStore
from streamcore.time import Clock
from tests.saved_state import saved_store


class OperatorRig:
    """One subtask's operator. `schemas`: of its inputs, None where it takes rows."""

    def __init__(
        self, operator, schemas=(None,), *, groups=range(16), saved=(), own=(), sides=(), subtask=0, parallelism=1
    ):
        self.operator, self.schemas, self.counters = operator, schemas, Counters()
        self.out, self.side_out = [], {name: [] for name in sides}
        parts = [SubtaskSnapshot.decode(part, allow_pickle=False).operators["operator"] for part in saved]
        self.store = KeyedStore(16, groups, [part.keyed for part in parts], allow_pickle=False)
        own = [SavedOperator(i, len(own), state) for i, state in enumerate(own)]
        own = own or [SavedOperator(i, len(parts), part.own) for i, part in enumerate(parts) if part.own is not None]
        context = OperatorContext(
            name="operator", subtask=subtask, parallelism=parallelism, max_parallelism=16, epoch=1, store=self.store,
            saved=own, clock=Clock(), wakeup=Wakeup(), counters=self.counters,
        )  # fmt: skip
        side = {name: [lambda batch, name=name: self.side_out[name].extend(plain(batch))] for name in sides}
        output = Output(main=[lambda batch: self.out.extend(plain(batch))], side=side, watermarks=[self.out.append])
        operator.setup(context, output)
        operator.open()
        self.store.check_all_claimed("operator")

    def process(self, port, *records):
        schema = self.schemas[port]
        self.operator.process(list(records) if schema is None else to_columns(list(records), schema), port)
        return self

    def advance(self, time_ms):
        self.operator.advance(time_ms)
        return self

    def finish(self):
        self.operator.finish()
        return self

    def taken(self):
        """What came out since the last time: records as tuples, watermarks as numbers."""
        out, self.out[:] = list(self.out), []
        return out

    def saved(self):
        """The subtask's part of a snapshot, as it lies in its file."""
        part = OperatorSnapshot(saved_store(self.store), self.operator.capture(1))
        return SubtaskSnapshot({"operator": part}).encode(allow_pickle=False)


def plain(batch):
    return [tuple(row) if isinstance(row, tuple) else row for row in to_rows(batch)]


def keyed_by(schema, key):
    return KeySelector(key, schema.names)
