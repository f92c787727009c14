"""The topology that the Kafka chaos is let loose on: 12 partitions of ratings → a keyed aggregate, and the online MF
loop → topics."""

import json
from typing import Any, NamedTuple

from streamcore import StreamEnvironment
from streamcore.connectors.kafka import Json, KafkaSink, KafkaSource
from streamcore.operators.online_mf import (
    ERRORS,
    Hyperparameters,
    ItemVectors,
    UserVectors,
    update_schema,
    visit_schema,
)

FACTORS = 4


class Rating(NamedTuple):
    user: int
    item: int
    rating: float


class Seen(NamedTuple):
    user: int
    number: int
    total: float


def running(state: tuple[int, float], rating: Any) -> tuple[tuple[int, float], Seen]:
    number, total = state[0] + 1, state[1] + rating.rating
    return (number, total), Seen(rating.user, number, total)


def build(
    env: StreamEnvironment, *, servers: str, source: str, sink: str, stop: str, delivery: str = "exactly-once"
) -> None:
    def write(stream: Any, name: str) -> None:
        written = KafkaSink(servers, f"{sink}-{name}", delivery=delivery, prefix=f"{sink}-{name}")  # type: ignore[arg-type]
        stream.sink(written).uid(f"{name}-sink")

    ratings = env.source(KafkaSource(servers, source, Json(Rating), stop=json.loads(stop), group=sink)).uid("ratings")
    write(ratings.key_by("user").scan((0, 0.0), running, returns=Seen).uid("sums"), "sums")
    parameters = Hyperparameters(FACTORS, 0.05, 0.05, 3.6, lanes=env.parallelism)
    users, items = UserVectors(parameters), ItemVectors(parameters)
    loop: Any = env.loop(update_schema(FACTORS))
    with loop:
        visits = (
            ratings.connect(loop.feedback)
            .key_by("user", "user")
            .process(users, returns=visit_schema(FACTORS), tags=[users.factors])
            .uid("users")
        )
        errors = visits.key_by("item").process(items, returns=ERRORS, tags=[items.updates, items.factors]).uid("items")
        loop.close(errors.side_output(items.updates))
    write(errors, "errors")
    write(visits.side_output(users.factors), "users")
    write(errors.side_output(items.factors), "items")
