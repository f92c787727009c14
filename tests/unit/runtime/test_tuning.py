"""The interpreter's settings while attempts run, and after."""

from __future__ import annotations

import gc
import sys
import threading

import pytest

from streamcore import StreamEnvironment
from streamcore.runtime.tuning import SWITCH_INTERVAL_S, begin_steady_state, end_steady_state


@pytest.fixture(autouse=True)
def nothing_frozen():
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    gc.unfreeze()
    yield
    gc.unfreeze()
    sys.setswitchinterval(before)


def settings():
    return gc.get_freeze_count() > 0, round(sys.getswitchinterval(), 6)


def test_settings_are_put_back_when_the_last_attempt_ends():
    begin_steady_state()
    begin_steady_state()
    assert settings() == (True, SWITCH_INTERVAL_S)
    end_steady_state()
    assert settings() == (True, SWITCH_INTERVAL_S)
    end_steady_state()
    assert settings() == (False, 0.005)


def test_what_the_user_has_frozen_stays_so():
    gc.freeze()
    frozen = gc.get_freeze_count()
    begin_steady_state()
    end_steady_state()
    assert gc.get_freeze_count() == pytest.approx(frozen, rel=0.01)  # refcounting still frees some of them


def test_a_shorter_switch_interval_is_left_alone():
    sys.setswitchinterval(0.0001)
    begin_steady_state()
    assert settings()[1] == pytest.approx(0.0001, abs=2e-6)
    end_steady_state()
    assert settings()[1] == pytest.approx(0.0001, abs=2e-6)


@pytest.mark.parametrize("fails", [False, True])
def test_a_job_has_them_while_records_flow_and_not_after(fails):
    seen = []

    def look(x):
        seen.append(settings())
        return 1 // (0 if fails else 1)

    env = StreamEnvironment()
    results = env.from_values([1]).map(look)
    if fails:
        with pytest.raises(Exception, match="ZeroDivisionError"):
            env.execute_and_collect(results)
    else:
        env.execute_and_collect(results)
    assert seen[0] == (True, SWITCH_INTERVAL_S)
    assert settings() == (False, 0.005)


def test_it_may_begin_in_another_thread():
    thread = threading.Thread(target=begin_steady_state)
    thread.start()
    thread.join()
    assert settings()[0]
    end_steady_state()
    assert not settings()[0]
