from __future__ import annotations

import logging

from streamcore.job.outages import Outages
from streamcore.runtime.counters import Counters


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


def test_an_outage_is_told_of_once_and_ends_with_the_last_who_waits(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("streamcore"), "propagate", True)
    clock = Clock()
    outages = Outages(clock, "job")

    def look(*waiting_for):
        outages.look([Counters(waiting_for=services) for services in waiting_for])

    look(("Kafka",), ())
    look(("Kafka",), ("Kafka",))
    look((), ("Kafka", "PostgreSQL"))
    clock.now = 61.0
    look((), ())
    look((), ())
    look(("Kafka",), ())
    assert [record.getMessage() for record in caplog.records] == [
        "Kafka can't be reached; waiting for it",
        "PostgreSQL can't be reached; waiting for it",
        "Kafka can be reached again, after 61.0 s",
        "PostgreSQL can be reached again, after 61.0 s",
        "Kafka can't be reached; waiting for it",
    ]
