"""guarantees: what is read, kept and counted. The crashes are in tests/process/test_guarantees_crash.py."""

import json

import numpy as np
import pytest

from streamcore import StreamEnvironment, UsageError
from streamcore.apps.guarantees.acknowledging import Tracker, acknowledged
from streamcore.apps.guarantees.outcome import next_id, outcome
from streamcore.apps.guarantees.payments import ACCOUNTS, Payment, Payments, accounts_of, amounts_of
from streamcore.apps.guarantees.store import Balances, ResultLog
from streamcore.apps.guarantees.topology import build
from streamcore.connectors.base import ReaderContext, Split

DISCIPLINES = ["acks", "micro-batches", "transactions", "snapshots"]


def reader_of(source, offset=None, wake=lambda: None):
    return source.reader(Split("payments"), offset, ReaderContext(wake, lambda: 0.0, lambda bad: None))


def payment(number):
    return Payment(number, int(accounts_of(number)), int(amounts_of(number)), 0.0)


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_without_a_crash_all_are_right(discipline, tmp_path):
    env = StreamEnvironment("guarantees", parallelism=2)
    build(env, output=str(tmp_path), discipline=discipline, records=500, rate=0, batch=500, compare_all=False)
    env.execute()
    found = outcome(tmp_path / discipline, 500)
    assert sorted(found.ids.tolist()) == list(range(500))
    assert (found.lost, found.doubled, found.wrong, found.replayed) == (0, 0, 0, 0)
    assert (found.visible >= found.due).all()


def test_a_discipline_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no discipline"):
        build(StreamEnvironment(), output=str(tmp_path), discipline="hope")


def test_a_micro_batch_waits_until_a_checkpoint_has_the_one_before(tmp_path):
    woken = []
    reader = reader_of(Payments(250, None, tmp_path / "clock", batch=100), wake=lambda: woken.append(1))
    assert len(reader.poll(64)) == 64
    reader.committed(64)  # a checkpoint in the middle of a batch doesn't begin the next
    assert len(reader.poll(64)) == 36
    assert reader.poll(64) is None
    assert reader.wake_at is None
    reader.committed(100)
    assert woken == [1]
    assert reader.poll(200)["id"].tolist() == list(range(100, 200))
    reader.committed(200)
    assert len(reader.poll(200)) == 50
    assert reader.exhausted


def test_payments_are_due_at_their_rate_whoever_reads_them(tmp_path):
    (tmp_path / "clock").write_text("1000.0")
    batch = reader_of(Payments(50, 10.0, tmp_path / "clock"), offset=20).poll(100)
    assert np.allclose(batch["due"], 1000.0 + np.arange(20, 50) / 10)


def test_a_payment_is_added_once(tmp_path):
    balances = Balances(tmp_path / "balances-0.sqlite", durable=True)
    first = balances.add(payment(3))
    assert balances.add(payment(3 + ACCOUNTS * 97)).balance == 2 * first.balance  # of the same account and amount
    assert balances.add(payment(3)) == first
    assert balances.replayed() == 1
    assert balances.next_id() == 3 + ACCOUNTS * 97 + 1
    balances.close()
    assert next_id(tmp_path) == 3 + ACCOUNTS * 97 + 1


def test_the_tracker_writes_down_up_to_where_all_are_acknowledged(tmp_path):
    prefix = tmp_path / "acknowledged"
    tracker = Tracker(prefix, 5)
    for number in (7, 5, 9):
        tracker.process_second(number, None)
    tracker.close()
    assert acknowledged(prefix) == 6
    tracker.process_second(6, None)
    tracker.close()
    assert acknowledged(prefix) == 8


def test_what_is_lost_doubled_and_wrong_is_counted(tmp_path):
    log = ResultLog(tmp_path / "results-0.jsonl")
    balances = Balances(tmp_path / "balances-0.sqlite", durable=False)
    results = [balances.add(payment(number)) for number in range(10)]
    balances.close()
    log.append([*results[:8], results[2], results[2]])
    log.close()
    found = outcome(tmp_path, 10)
    assert (found.lost, found.doubled, found.wrong) == (2, 2, 2)  # the two that are lost are of two accounts
    lines = [json.loads(line) for line in (tmp_path / "results-0.jsonl").read_text().splitlines()]
    assert [line[0] for line in lines] == [0, 1, 2, 3, 4, 5, 6, 7, 2, 2]
