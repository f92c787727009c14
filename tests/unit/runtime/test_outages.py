from __future__ import annotations

import logging

from streamcore.runtime.outages import Outages


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


def test_an_outage_is_told_of_once_and_ends_with_the_last_who_waits(caplog):
    clock = Clock()
    outages = Outages(clock)
    with caplog.at_level(logging.INFO, "streamcore.runtime"):
        outages.report(1, "Kafka at a:1")
        outages.report(2, "Kafka at a:1")
        outages.report(1, "Kafka at a:1")
        outages.report(3, None)
        outages.report(1, None)
        clock.now = 61.0
        outages.report(2, None)
        outages.report(2, None)
        outages.report(1, "Kafka at a:1")
        outages.report(1, "another")
    assert [record.getMessage() for record in caplog.records] == [
        "Kafka at a:1 can't be reached; waiting for it",
        "Kafka at a:1 can be reached again, after 61.0 s",
        "Kafka at a:1 can't be reached; waiting for it",
        "another can't be reached; waiting for it",
        "Kafka at a:1 can be reached again, after 0.0 s",
    ]
