"""Which worker runs which subtask: every one, evenly, and forward neighbours together."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.job.placement import place
from streamcore.runtime.spec import JobSpec, VertexSpec

WIDTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def job(widths):
    return JobSpec("job", tuple(VertexSpec(i, f"v{i}", (), width, 128) for i, width in enumerate(widths)), ())


@given(WIDTHS, st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_every_subtask_has_one_worker_and_each_vertex_is_spread_evenly(widths, workers):
    placement = place(job(widths), workers)
    assert set(placement) == {(v, i) for v, width in enumerate(widths) for i in range(width)}
    assert set(placement.values()) <= set(range(workers))
    for vertex, width in enumerate(widths):
        counts = Counter(placement[vertex, i] for i in range(width))
        loads = [counts[worker] for worker in range(workers)]
        assert max(loads) - min(loads) <= 1


@given(WIDTHS, st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_neighbours_share_a_worker_and_wide_vertices_of_equal_width_lie_alike(widths, workers):
    placement = place(job(widths), workers)
    for vertex, width in enumerate(widths):
        if width >= workers:
            workers_of = [placement[vertex, i] for i in range(width)]
            assert workers_of == sorted(workers_of)
            for other in range(len(widths)):
                if widths[other] == width:
                    assert workers_of == [placement[other, i] for i in range(width)]


def test_narrow_vertices_do_not_all_meet_on_one_worker():
    assert set(place(job([1, 1, 1, 1]), 4).values()) == {0, 1, 2, 3}


def test_the_same_job_is_placed_the_same_way():
    """Every worker finds its share by itself."""
    assert place(job([3, 5, 1]), 2) == place(job([3, 5, 1]), 2)
