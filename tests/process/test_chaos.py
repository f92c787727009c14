"""Ten kills, and the proof that the comparison can fail. `make chaos` does more of it."""

import re
import subprocess
import sys
from pathlib import Path

CHAOS = Path(__file__).parent / "chaos.py"
SEED = 38


def chaos(*options):
    command = [sys.executable, str(CHAOS), "--seed", str(SEED), *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    print(ended.stdout, ended.stderr, sep="\n")
    return ended


def test_ten_kills_lose_and_double_nothing():
    ended = chaos("--kills", "10", "--records", "8000", "--rate", "6000")
    assert f"seed {SEED}" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "chaos: 10 kills, 0 lost, 0 doubled"
    assert ended.returncode == 0


def test_without_checkpoints_a_kill_loses_records_and_that_is_seen():
    ended = chaos("--kills", "1", "--no-checkpoints", "--records", "4000", "--rate", "2000")
    assert ended.returncode == 1
    lost = re.fullmatch(r"chaos: 1 kills, (\d+) lost, \d+ doubled", ended.stdout.splitlines()[-1])
    assert lost, ended.stdout
    assert int(lost[1]) > 0
