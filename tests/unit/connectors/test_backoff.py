from __future__ import annotations

import pytest

from streamcore.connectors.backoff import Backoff
from streamcore.errors import UsageError


def test_waits_grow_up_to_the_longest():
    backoff = Backoff(first_s=0.5, longest_s=5, factor=3, jitter=0)
    assert [backoff.delay_s(n) for n in range(1, 6)] == [0.5, 1.5, 4.5, 5, 5]
    assert Backoff(factor=10).delay_s(10_000, 0.0) == 30


def test_a_part_of_each_wait_is_left_to_chance():
    backoff = Backoff(first_s=10, longest_s=10, jitter=0.3)
    assert (backoff.delay_s(1, 0.0), backoff.delay_s(1, 1.0)) == (10, 7)
    drawn = {backoff.delay_s(1) for _ in range(100)}
    assert len(drawn) > 90
    assert all(7 <= delay <= 10 for delay in drawn)


@pytest.mark.parametrize(
    "options", [{"first_s": 0}, {"first_s": 2, "longest_s": 1}, {"factor": 0.5}, {"jitter": 1.5}, {"jitter": -0.1}]
)
def test_numbers_that_cannot_be(options):
    with pytest.raises(UsageError, match="can't be"):
        Backoff(**options)
