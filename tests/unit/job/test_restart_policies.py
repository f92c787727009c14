"""Restart policies; the test tells the time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.job.config import Checkpointing, RunConfig
from streamcore.job.restart import ExponentialDelay, FailureRate, FixedDelay, NoRestart


def test_no_restart():
    assert NoRestart().delay_s(0.0) is None


def test_fixed_delay_gives_up_after_its_attempts():
    policy = FixedDelay(attempts=2, delay=1.5)
    assert [policy.delay_s(t) for t in (0.0, 1e9, 2e9)] == [1.5, 1.5, None]


def test_exponential_delays_grow_to_the_maximum():
    policy = ExponentialDelay(initial=0.5, maximum=3.0, multiplier=2.0, jitter=0.0, attempts=None)
    assert [policy.delay_s(t) for t in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_exponential_delay_gives_up_after_failures_in_a_row():
    policy = ExponentialDelay(initial=1.0, jitter=0.0, attempts=3, reset_after=60.0)
    assert [policy.delay_s(t) for t in (0.0, 1.0, 2.0, 3.0)] == [1.0, 2.0, 4.0, None]


def test_exponential_delay_starts_over_after_a_good_while():
    policy = ExponentialDelay(initial=1.0, jitter=0.0, attempts=2, reset_after=10.0)
    assert [policy.delay_s(t) for t in (0.0, 10.0)] == [1.0, 2.0]
    assert policy.delay_s(20.1) == 1.0
    assert policy.delay_s(21.0) == 2.0
    assert policy.delay_s(22.0) is None


def test_the_jitter_is_a_share_of_the_delay():
    asked = []

    def uniform(low, high):
        asked.append((low, high))
        return high

    policy = ExponentialDelay(initial=2.0, jitter=0.25, uniform=uniform)
    assert policy.delay_s(0.0) == pytest.approx(2.5)
    assert policy.delay_s(1.0) == pytest.approx(5.0)
    assert asked == [(-0.25, 0.25)] * 2
    assert 1.5 <= ExponentialDelay(initial=2.0, jitter=0.25).delay_s(0.0) <= 2.5


@given(st.lists(st.floats(0, 50), max_size=30), st.integers(1, 4), st.floats(0.5, 30))
@settings(max_examples=200, deadline=None)
def test_failure_rate_gives_up_exactly_when_too_many_came_within_the_interval(pauses, failures, interval):
    policy, now, times = FailureRate(failures=failures, interval=interval, delay=0.7), 0.0, []
    for pause in pauses:
        now += pause
        times.append(now)
        within = [t for t in times if t > now - interval]
        assert policy.delay_s(now) == (0.7 if len(within) <= failures else None)


def test_the_default_restarts_only_if_there_are_checkpoints():
    assert isinstance(RunConfig().restart_policy(), NoRestart)
    assert isinstance(RunConfig(checkpointing=Checkpointing("x")).restart_policy(), ExponentialDelay)
    assert RunConfig(restart=FixedDelay(9)).restart_policy().attempts == 9


def test_every_run_counts_its_own_failures():
    """The policy belongs to the configuration, which may be run twice."""
    config = RunConfig(restart=FixedDelay(attempts=1, delay=0.0))
    for _ in range(2):
        policy = config.restart_policy()
        assert policy.delay_s(0.0) == 0.0
        assert policy.delay_s(0.0) is None
