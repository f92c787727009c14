"""guarantees: each discipline is killed with -9 and keeps what it promises."""

import pytest

from streamcore.apps.guarantees.compare import with_crash

SETTINGS = {"batch": 50_000, "durable": False}


@pytest.mark.parametrize("discipline", ["micro-batches", "transactions", "snapshots"])
def test_these_are_exactly_once(discipline, tmp_path):
    row = with_crash(str(tmp_path), discipline, 2_000.0, 2.0, SETTINGS, 0.0)
    assert (row.lost, row.doubled, row.wrong) == (0, 0, 0)
    assert row.recovery_s > 0


def test_acknowledgements_lose_nothing_and_add_nothing_twice_but_double_results(tmp_path):
    row = with_crash(str(tmp_path), "acks", 2_000.0, 2.0, SETTINGS, 0.0)
    assert (row.lost, row.wrong) == (0, 0)
    assert row.doubled <= row.replayed  # one that is recognised has its result given again, which may have been there
