"""What became of a prepared transaction, by what the brokers know."""

import pytest

from streamcore.connectors.kafka.handle import Handle, judge, timed_out
from streamcore.connectors.kafka.protocol import Transaction

HANDLE = Handle("p-0-1", 7, 3, 10, ("t",), ("t", 0, 5))


def found(state, producer_id=7, epoch=3):
    return Transaction(state, producer_id, epoch, 60_000)


@pytest.mark.parametrize(
    ("transaction", "fate", "reason"),
    [
        (found("Ongoing"), "open", ""),
        (found("PrepareCommit"), "committed", ""),
        (found("CompleteCommit"), "committed", ""),
        (found("PrepareAbort"), "ending", ""),
        (found("PrepareEpochFence", epoch=4), "ending", ""),
        (found("PrepareAbort", epoch=4), "ending", ""),
        (found("CompleteAbort"), "gone", "aborted from outside"),
        (found("Empty"), "gone", "no transaction"),
        (found("CompleteAbort", epoch=4), "gone", "after 60 s (transaction_timeout)"),
        (found("Empty", epoch=5), "gone", "a later session has its id"),
        (found("CompleteCommit", epoch=4), "gone", "a later session has its id"),
        (found("Ongoing", producer_id=8, epoch=0), "gone", "a later session has its id"),
        (None, "gone", "don't know its id"),
    ],
)
def test_verdicts(transaction, fate, reason):
    verdict = judge(HANDLE, transaction)
    assert verdict.fate == fate
    assert reason in verdict.reason


def test_a_timeout_raises_the_epoch_by_one_and_a_new_session_by_more():
    assert timed_out(7, 3, found("CompleteAbort", epoch=4))
    assert not timed_out(7, 3, found("Empty", epoch=5))
    assert not timed_out(7, 3, found("CompleteAbort", epoch=3))
    assert not timed_out(7, 3, None)


@pytest.mark.parametrize("example", [("t", 0, 5), None])
def test_handles_are_plain_data(example):
    handle = Handle("p-0-1", 7, 3, 10, ("t", "u"), example)
    plain = handle.to_plain()
    assert Handle.of_plain(plain) == handle
    assert all(isinstance(part, str | int | list | None) for part in plain)
