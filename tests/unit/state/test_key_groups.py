"""Key groups against the formulas of Flink's KeyGroupRangeAssignment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.kernels.hashing import hash_key
from streamcore.state.key_groups import default_max_parallelism, group_range, groups_of, subtasks_of

WIDTHS = st.integers(1, 300).flatmap(lambda p: st.tuples(st.just(p), st.integers(p, 1000)))


@given(WIDTHS)
@settings(max_examples=200, deadline=None)
def test_the_ranges_are_a_partition_and_fit_the_assignment(widths):
    parallelism, max_parallelism = widths
    ranges = [group_range(i, parallelism, max_parallelism) for i in range(parallelism)]
    assert [group for groups in ranges for group in groups] == list(range(max_parallelism))
    for i, groups in enumerate(ranges):
        assert len(groups) >= 1
        assert all(group * parallelism // max_parallelism == i for group in groups)
        assert groups.start == (i * max_parallelism + parallelism - 1) // parallelism
        assert groups.stop - 1 == ((i + 1) * max_parallelism - 1) // parallelism


@given(WIDTHS, st.lists(st.integers(0, 2**64 - 1), max_size=30))
@settings(max_examples=150, deadline=None)
def test_subtasks_of_hashes(widths, hashes):
    parallelism, max_parallelism = widths
    got = subtasks_of(np.array(hashes, np.uint64), max_parallelism, parallelism)
    assert got.dtype == np.int32
    assert got.tolist() == [h % max_parallelism * parallelism // max_parallelism for h in hashes]


@given(st.lists(st.one_of(st.integers(), st.text(), st.none(), st.tuples(st.integers(), st.text())), max_size=20))
@settings(max_examples=100, deadline=None)
def test_groups_of_keys(keys):
    assert groups_of(keys, 128).tolist() == [hash_key(key) % 128 for key in keys]


@pytest.mark.parametrize("parallelism", [1, 2, 3, 85, 86, 100, 128, 170, 171, 1000, 21845, 21846, 30000, 40000])
def test_the_default_is_a_power_of_two_with_room_to_grow(parallelism):
    wanted, power = parallelism + parallelism // 2, 1
    while power < wanted:
        power *= 2
    assert default_max_parallelism(parallelism) == min(max(power, 128), 32768)
