"""Random streams for both engines: records of two sides and a few keys, out of order, in bursts with pauses between."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

BOUND_MS = 500
KEYS = ("a", "b", "c", "d")
RECORDS = 400


class Event(NamedTuple):
    """A record; `time` in milliseconds."""

    side: int
    key: str
    time: int
    value: int


def random_stream(seed: int, *, late: bool) -> list[Event]:
    """Records up to the bound out of order and, with `late`, some further than that."""
    chance = random.Random(seed)
    now, events = 0, []
    for _ in range(RECORDS):
        now += chance.randrange(60) if chance.random() < 0.93 else chance.randrange(300, 2500)
        back = chance.randrange(BOUND_MS + 1) if chance.random() < 0.5 else 0
        if late and chance.random() < 0.1:
            back += chance.randrange(3500)
        events.append(Event(chance.randrange(2), chance.choice(KEYS), max(0, now - back), chance.randrange(10)))
    return events


def write(events: list[Event], path: Path) -> None:
    """Writes the stream as the Java program reads it."""
    path.write_text("".join(f"{side},{key},{time},{value}\n" for side, key, time, value in events))
