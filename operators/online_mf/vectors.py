"""Online matrix factorisation: two long-running operators and a back edge between them.

::

    ratings ──key: user──> UserVectors ──key: item──> ItemVectors ──> squared errors
                               ^                           |
                               └──── user's delta ─────────┘  (back edge)

A rating goes to its user, takes the user's vector along to its item, is predicted
(mean + b_u + b_i + u·i), both sides are updated by SGD with L2, and the user's change comes back as a
*delta*, so that changes that meet add up. (The dataflow of DSGD, Gemulla et al. 2011, on two operators.)

**Staleness.** Most ratings follow one of the same user, so a batch that copies one user's vector many times would
learn from stale copies and diverge. Here a vector is *lent*: a user's waiting ratings for one subtask of the
items travel together with one copy, which is updated in order where it lands, and the next loan is made
when the delta is home. So a vector is never stale, at any parallelism and batch size; what is bounded instead is
order: `window`, the number of a user's oldest waiting ratings a loan chooses from, is how far one may overtake.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamcore import (
    BatchFunction,
    CoBatchFunction,
    ColumnarState,
    ColumnarTable,
    Columns,
    Context,
    OutputTag,
    Schema,
    TableState,
    Vector,
)
from streamcore.operators.online_mf.kernels import come_home, initial_vectors, lend, visit
from streamcore.operators.online_mf.pool import Array, RatingPool


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The model and its training.

    Attributes:
        k: numbers in a vector, beside the bias.
        step: SGD step size.
        l2: weight of the L2 regularisation.
        mean: the constant part of every prediction.
        scale: width of the uniform distribution that vectors start from.
        window: of how many of a user's oldest waiting ratings a loan takes those for one lane.
        lanes: subtasks of the item operator.
    """

    k: int = 10
    step: float = 0.05
    l2: float = 0.05
    mean: float = 3.6
    scale: float = 0.2
    window: int = 32
    lanes: int = 1


def rating_schema() -> Schema:
    """user, item, rating."""
    return Schema.of(user=np.int64, item=np.int64, rating=np.float32)


def visit_schema(k: int) -> Schema:
    """A rating on its way to its item, with a copy of the user's vector; the bias is the last number."""
    return Schema.of(user=np.int64, item=np.int64, rating=np.float32, vector=Vector(k + 1, np.float32))


def update_schema(k: int) -> Schema:
    """What comes back: the change of a user's vector by `count` ratings."""
    return Schema.of(user=np.int64, delta=Vector(k + 1, np.float32), count=np.int64)


def factors_schema(k: int) -> Schema:
    """A learned vector: `id` of a user or item, how many ratings it has learned from, its bias, its vector."""
    return Schema.of(id=np.int64, ratings=np.int64, bias=np.float32, vector=Vector(k, np.float32))


ERRORS = Schema.of(count=np.int64, squared=np.float64)
"""The sum of squared prediction errors over `count` ratings."""


def _vector_state(name: str, parameters: Hyperparameters, salt: int, **more: object) -> ColumnarState:
    width, scale = parameters.k + 1, parameters.scale
    return ColumnarState(
        name,
        Schema.of(vector=Vector(width, np.float32), seen=np.int64, **more),
        initial=lambda keys: {"vector": initial_vectors(keys, width, salt, scale)},
    )


class UserVectors(CoBatchFunction[Columns]):
    """Keeps the users' vectors; takes ratings (first input) and returning updates (second), keyed by user.

    Emits visits (`visit_schema`), and all vectors to the tag `factors` at the end.
    """

    def __init__(self, parameters: Hyperparameters) -> None:
        self.parameters = parameters
        self.factors: OutputTag[Columns] = OutputTag("user-factors", factors_schema(parameters.k))

    def open(self, ctx: Context[Columns]) -> None:
        self._users = ctx.state(_vector_state("users", self.parameters, salt=1, out=np.int64))
        self._pool = RatingPool()
        self._schema = visit_schema(self.parameters.k)
        capture, restore = lambda: self._pool.rows(self._users.keys), lambda rows: self._take_back(rows, ctx)
        ctx.table_state(TableState("waiting", "user", capture, restore))

    def process_first(self, columns: Columns, ctx: Context[Columns]) -> None:
        items = columns["item"]
        lanes = ctx.subtasks_for(items, self.parameters.lanes)
        slots = self._users.slots(columns["user"])
        self._pool.add(slots, items, columns["rating"], lanes, len(self._users))
        self._lend(slots, ctx)

    def process_second(self, columns: Columns, ctx: Context[Columns]) -> None:
        slots = self._users.slots(columns["user"])
        users = self._users
        come_home(slots, columns["delta"], columns["count"], users["vector"], users["out"], users["seen"])
        self._lend(slots, ctx)

    def finish(self, ctx: Context[Columns]) -> None:
        assert self._pool.size == 0, "ratings still wait for a vector that is away"
        _emit_factors(self.factors, self._users, ctx)

    def _lend(self, slots: Array, ctx: Context[Columns]) -> None:
        pool, users = self._pool, self._users
        pool.reserve(len(users), 0)
        out_slots, items, ratings, copies = lend(
            slots, self.parameters.window, users["vector"], users["out"],
            pool.item, pool.rating, pool.lane, pool.following, pool.free, pool.first, pool.last, pool.size,
        )  # fmt: skip
        pool.size -= len(out_slots)
        if len(out_slots):
            user = users.keys[out_slots]
            ctx.emit_batch(Columns(self._schema, {"user": user, "item": items, "rating": ratings, "vector": copies}))

    def _take_back(self, rows: Columns, ctx: Context[Columns]) -> None:
        lanes = ctx.subtasks_for(rows["item"], self.parameters.lanes)
        self._pool.add(self._users.slots(rows["user"]), rows["item"], rows["rating"], lanes, len(self._users))


class ItemVectors(BatchFunction[Columns]):
    """Keeps the items' vectors; takes visits, keyed by item.

    Emits the prediction errors (`ERRORS`), the users' changes to the tag `updates`, and all vectors to the tag
    `factors` at the end.
    """

    def __init__(self, parameters: Hyperparameters) -> None:
        self.parameters = parameters
        self.updates: OutputTag[Columns] = OutputTag("user-updates", update_schema(parameters.k))
        self.factors: OutputTag[Columns] = OutputTag("item-factors", factors_schema(parameters.k))

    def open(self, ctx: Context[Columns]) -> None:
        self._items = ctx.state(_vector_state("items", self.parameters, salt=2))
        self._schema = update_schema(self.parameters.k)

    def process(self, columns: Columns, ctx: Context[Columns]) -> None:
        parameters = self.parameters
        slots = self._items.slots(columns["item"])
        users, deltas, counts, squared = visit(
            columns["user"], slots, columns["rating"], columns["vector"], self._items["vector"],
            self._items["seen"],
            np.float32(parameters.step), np.float32(parameters.l2), np.float32(parameters.mean),
        )  # fmt: skip
        ctx.side_output_batch(self.updates, Columns(self._schema, {"user": users, "delta": deltas, "count": counts}))
        ctx.emit_batch(Columns(ERRORS, {"count": np.array([len(slots)]), "squared": np.array([squared])}))

    def finish(self, ctx: Context[Columns]) -> None:
        _emit_factors(self.factors, self._items, ctx)


def _emit_factors(tag: OutputTag[Columns], table: ColumnarTable, ctx: Context[Columns]) -> None:
    if len(table):
        vectors = table["vector"]
        arrays = {
            "id": table.keys.copy(),
            "ratings": table["seen"].copy(),
            "bias": vectors[:, -1].copy(),
            "vector": vectors[:, :-1].copy(),
        }
        ctx.side_output_batch(tag, Columns(factors_schema(vectors.shape[1] - 1), arrays))
