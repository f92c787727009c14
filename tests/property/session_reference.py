"""Session windows record by record in plain Python, by the rules of Apache Flink's WindowOperator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Session:
    """The window [start, end), and what `fold` has made of its records."""

    start: int
    end: int
    value: Any


@dataclass
class SessionsByTheBook:
    """`fold(value or None, record)` and `merge(earlier, later)` make the value of a session."""

    gap: int
    lateness: int
    fold: Any
    merge: Any
    watermark: int = -(1 << 63)
    sessions: dict[Any, list[Session]] = field(default_factory=dict)

    def add(self, key: Any, time: int, record: Any) -> list[tuple[Any, int, int, Any]] | None:
        """What fires at once; None: the record is late."""
        mine = self.sessions.setdefault(key, [])
        touched = sorted((s for s in mine if s.start <= time + self.gap and s.end >= time), key=lambda s: s.start)
        start = min([time, *(s.start for s in touched)])
        end = max([time + self.gap, *(s.end for s in touched)])
        if end - 1 + self.lateness <= self.watermark:
            return None
        value = None
        for session in touched:
            value = session.value if value is None else self.merge(value, session.value)
            mine.remove(session)
        value = self.fold(value, record)
        mine.append(Session(start, end, value))
        return [(key, start, end, value)] if end - 1 <= self.watermark else []

    def advance(self, watermark: int) -> list[tuple[Any, int, int, Any]]:
        """What fires, when event time has come to the watermark."""
        before, self.watermark = self.watermark, watermark
        fired = [
            (key, s.start, s.end, s.value)
            for key, mine in self.sessions.items()
            for s in mine
            if before < s.end - 1 <= watermark
        ]
        for mine in self.sessions.values():
            mine[:] = [s for s in mine if s.end - 1 + self.lateness > watermark]
        return fired


def sessions_of_all(rows: list[tuple[Any, int]], gap: int) -> list[tuple[Any, int, int, list[int]]]:
    """(key, start, end, places of the records in order) of each session of a finished stream without late records:
    neighbours in time that are at most a gap apart belong together. (If none comes exactly at the end of a session
    that has fired: that is not late, and begins another session.)"""
    found: list[tuple[Any, int, int, list[int]]] = []
    for key in {key for key, _ in rows}:
        places = sorted((time, place) for place, (other, time) in enumerate(rows) if other == key)
        begin = 0
        for i in range(1, len(places) + 1):
            if i == len(places) or places[i][0] - places[i - 1][0] > gap:
                mine = places[begin:i]
                found.append((key, mine[0][0], mine[-1][0] + gap, sorted(place for _, place in mine)))
                begin = i
    return found
