"""A quick part of the fleet: a few hundred seeds, deliberate bugs that must be found, and the oracles by themselves.

`make simulate SEEDS=10000` and `make simulate-mutants` are the whole of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.simulation.fleet.mutants import MUTANTS, hunt
from tests.simulation.fleet.plan import MODES, TOPOLOGIES, plan_of
from tests.simulation.fleet.play import judge, play
from tests.simulation.fleet.run import Tally, main, report

SEEDS = 100


@pytest.fixture(scope="module")
def tally():
    tally, reports = Tally(), []
    for seed in range(SEEDS):
        outcome = play(plan_of(seed))
        tally.add(outcome)
        if outcome.violations:
            reports.append(report(outcome))
    assert not reports, "\n".join(reports)
    return tally


def test_no_promise_is_broken_under_the_first_seeds(tally):
    assert tally.seeds == SEEDS
    assert not tally.failed


def test_the_seeds_cover_what_they_are_to_cover(tally):
    table = str(tally)
    assert all(topology.name in table for topology in TOPOLOGIES)
    assert all(mode.name in table for mode in MODES)
    assert tally.total("restores") > 50
    assert tally.total("rescaled") > 10
    assert tally.total("restarts") > 10
    for fault in ("crash", "stop", "slow_subtask", "cut", "torn_write", "failed_write", "disk_full", "lost_message"):
        assert tally.total(fault) > 0, fault


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda topology: topology.name)
def test_the_oracle_of_each_topology_tells_lost_doubled_and_wrong_rows(topology):
    expected = topology.expected()
    assert judge(topology, expected, exactly_once=True) == []
    assert judge(topology, expected, exactly_once=False) == []
    row = next(row for row in expected if row[0] != topology.repeated)
    assert "lost" in judge(topology, expected - Counter([row]), exactly_once=True)[0]
    assert "too much" in judge(topology, expected + Counter([row]), exactly_once=True)[0]
    assert judge(topology, expected + Counter([row]), exactly_once=False) == []
    assert "lost" in judge(topology, Counter(), exactly_once=False)[0]


def test_a_seed_replays_exactly_in_another_process():
    """Whatever the order of sets and the addresses of objects are there."""
    script = (
        "from tests.simulation.fleet.plan import plan_of\n"
        "from tests.simulation.fleet.play import play\n"
        "print([play(plan_of(seed)).digest for seed in range(0, 40, 7)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert outputs == {f"{[play(plan_of(seed)).digest for seed in range(0, 40, 7)]}\n"}


def test_the_command_says_at_its_end_how_many_were_broken(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run", "--seeds", "3", "--processes", "1"])
    assert main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "simulate: 3 seeds, 0 violations"
    monkeypatch.setattr(sys, "argv", ["run", "--seed", "0"])
    with MUTANTS["committed before completion"].make():
        assert main() == 1
    out = capsys.readouterr().out
    assert "again: make simulate SEED=0" in out
    assert out.splitlines()[-1] == "simulate: 1 seeds, 1 violations"


@pytest.mark.parametrize("name", MUTANTS)
def test_a_deliberate_bug_is_found(name):
    assert hunt(name, all_seeds=False).seed is not None
