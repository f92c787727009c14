"""The latency benchmark measures what it says: due times by index, every record counted, over processes too."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from streamcore.batch import to_rows
from tests.bench.latency import RATE, Offered, run_once


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize(("count", "splits"), [(10, 1), (11, 2), (12, 5)])
def test_records_are_due_at_the_rate_of_their_split_whenever_they_are_made(count, splits, typed):
    offered = Offered(count, splits, typed=typed)
    borders = [count * i // splits for i in range(splits + 1)]
    for split, (start, stop) in enumerate(pairwise(borders)):
        pieces = [offered(at, at + 1) for at in range(start, stop)]  # one at a time, each a little later
        rows = [tuple(vars(row).values()) if typed else row for piece in pieces for row in to_rows(piece)]
        assert [row[:2] for row in rows] == [(index, split) for index in range(start, stop)]
        due = np.array([row[2] for row in rows])
        assert np.allclose(np.diff(due), splits / RATE, atol=1e-6)


@pytest.mark.parametrize(("workers", "typed"), [(1, False), (2, True)])
def test_every_record_is_measured(workers, typed):
    run = run_once(workers=workers, typed=typed, buffer_timeout_s=0.0, seconds=0.3)
    assert run.correct
    assert len(run.all_records_s) == 0.3 * RATE
    crossing = len(run.records_s) / len(run.all_records_s)
    assert crossing == 1 if workers == 1 else 0.3 < crossing < 0.7
    assert 0 < np.percentile(run.records_s, 50) < 10
    assert len(run.markers) > 0
