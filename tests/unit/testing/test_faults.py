"""Faults: names and chances are checked; an injector does what a plan or the seed says, and writes it down."""

import pytest

from streamcore.errors import UsageError
from streamcore.testing import Fault, Faults
from streamcore.testing.faults import FAULT_KINDS
from streamcore.testing.injector import Injector


def begun(faults: Faults, seed: int = 1) -> Injector:
    injector = Injector(seed, faults)
    injector.begin_run()
    return injector


def test_a_kind_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="there is no fault 'earthquake'") as refused:
        Faults.by_chance(earthquake=0.5)
    assert "torn_write" in refused.value.hint
    with pytest.raises(UsageError, match="there is no fault 'flood'"):
        Faults.of(Fault("flood", at=1))  # type: ignore[arg-type]


@pytest.mark.parametrize("chance", [-0.1, 1.5])
def test_a_chance_is_between_0_and_1(chance):
    with pytest.raises(UsageError, match="the chance of 'crash'"):
        Faults.by_chance(crash=chance)


def test_every_kind_has_a_chance_of_its_own():
    assert set(Faults.of_every_kind().chances) == set(FAULT_KINDS)
    assert "stop" not in Faults.of_every_kind(without=["stop"]).chances
    assert Faults.of_every_kind(scale=2).chances["crash"] == 2 * Faults.of_every_kind().chances["crash"]
    assert Faults.of_every_kind(scale=1e9).chances["crash"] == 1


def test_writes_fail_where_the_plan_says_so():
    injector = begun(Faults.of(Fault("failed_write", at=3), Fault("torn_write", at=5)))
    kinds = [fault and fault.kind for fault in (injector.at_write(is_deletion=False) for _ in range(6))]
    assert kinds == [None, None, "failed_write", None, "torn_write", None]


def test_a_full_disk_waits_for_something_that_takes_room():
    injector = begun(Faults.of(Fault("disk_full", at=1, seconds=2)))
    assert injector.at_write(is_deletion=True) is None
    assert injector.at_write(is_deletion=False) == Fault("disk_full", at=1, seconds=2)


def test_the_faults_of_a_run_come_in_that_run():
    injector = begun(Faults.of(Fault("lost_message", at=1, run=2)))
    assert injector.at_message() is None
    injector.begin_run()
    assert injector.at_message() == Fault("lost_message", at=1, run=2)


def test_by_chance_come_no_more_than_at_most():
    injector = begun(Faults.by_chance(failed_write=0.5, at_most=4))
    failed = [injector.at_write(is_deletion=False) for _ in range(100)]
    assert sum(fault is not None for fault in failed) == len(injector.injected) == 4


def test_by_chance_lasts_no_longer_than_the_longest():
    faults = Faults(chances={"late_message": 1.0, "clock_jump": 1.0}, at_most=50, longest_s=0.003)
    late = [begun(faults, seed).at_data() for seed in range(50)]
    assert 0 < max(late) <= 0.003


def test_what_came_by_chance_is_a_plan_that_does_the_same():
    def history(faults: Faults) -> tuple[list[str | None], list[Fault]]:
        injector = begun(faults, seed=7)
        kinds = []
        for step in range(1, 400):
            if step >= injector.next_step(step - 1):
                for fault in injector.planned_at(step):
                    injector.done(fault, injector.choose(fault, ["a", "b"]))
                by_chance = injector.by_chance_at(step, lambda kind: ["a", "b"])
                if by_chance is not None:
                    injector.done(by_chance)
            for fault in (
                injector.at_write(is_deletion=step % 3 == 0),
                injector.at_message(),
                injector.at_background(),
            ):
                kinds.append(fault and fault.kind)
            injector.at_data()
        return kinds, injector.injected

    kinds, injected = history(Faults.of_every_kind(at_most=20, scale=3))
    assert len({fault.kind for fault in injected}) > 4
    assert history(Faults.of(*injected)) == (kinds, injected)
