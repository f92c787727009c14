"""A slow sink on another worker slows the source down: memory stays flat, and the distance between them bounded."""

import backpressure_job as job

SECONDS = 3.5


def test_memory_stays_flat_and_the_source_waits_for_the_sink(tmp_path):
    measured = job.measure(tmp_path, seconds=SECONDS)
    assert len(measured.growth_mib) == 2
    assert max(measured.growth_mib.values()) < 40, measured
    assert measured.ahead <= job.bound(job.CREDITS), measured
    # a batch each 20 ms, none of them smaller than half a batch size but the last ones
    assert measured.consumed > SECONDS / job.SINK_BATCH_S * job.BATCH_SIZE / 4, measured
    assert measured.produced == measured.consumed  # a drained job has written all it has read


def test_with_more_credit_the_source_runs_farther_ahead(tmp_path):
    """So the credits are what holds it back in the other test."""
    measured = job.measure(tmp_path, seconds=0.1, credit_count=20)
    assert job.bound(job.CREDITS) < measured.ahead <= job.bound(20), measured
