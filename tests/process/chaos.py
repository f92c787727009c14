"""Chaos: kills random workers and the coordinator with -9, restarts, and compares every record and all state.

    python tests/process/chaos.py --kills 50
    python tests/process/chaos.py --kills 3 --no-checkpoints    # must show losses

Each round runs the topology of `chaos_job.py` on two workers until it ends. A killed coordinator is started again by
the same command with `--restore latest`. The sinks' final content is compared with what must come out, computed
here, and with the failure-free run; the final state with that run's.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from chaos_job import HOPS, KEYS

from streamcore.checkpoint.inspect import read_state
from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.storage import open_storage
from streamcore.connectors.file_sink import read_jsonl

JOB = Path(__file__).parent / "chaos_job.py"
ROUND_TIMEOUT_S = 300.0


@dataclass
class Round:
    """One run of the job to its end, through some kills."""

    directory: Path
    records: int
    rate: float
    checkpoints: bool = True
    kills: list[str] = field(default_factory=list)

    def command(self, restore: bool) -> list[str]:
        line = [sys.executable, "-P", "-m", "streamcore", "run", f"{JOB}:build", "--workers", "2", "--no-progress"]
        line += [
            "--set",
            f"records={self.records}",
            "--set",
            f"rate={self.rate}",
            "--set",
            f"output={self.directory}/out",
        ]
        if self.checkpoints:
            line += ["--checkpoint-dir", f"{self.directory}/checkpoints", "--checkpoint-interval", "100ms"]
            line += ["--restart-attempts", "1000"]
            if restore:
                line += ["--restore", "latest"]
        return line

    def start(self, restore: bool) -> subprocess.Popen[bytes]:
        log = (self.directory / "log.txt").open("ab")
        with log:
            return subprocess.Popen(self.command(restore), stdout=log, stderr=log)

    def run(self, chance: random.Random, kills: int) -> None:
        """Runs the job to its end, killing `kills` times if it lasts that long."""
        deadline = time.monotonic() + ROUND_TIMEOUT_S
        job = self.start(restore=False)
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = job.wait(
                        chance.uniform(0.2, 2.5) if len(self.kills) < kills else deadline - time.monotonic()
                    )
                    if code == 0 or not self.checkpoints:
                        return
                    if code != -signal.SIGKILL:
                        raise RuntimeError(f"the job ended with exit code {code}; see {self.directory}/log.txt")
                    job = self.start(restore=self._has_checkpoint())
                    continue
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"the job did not end within {ROUND_TIMEOUT_S:.0f} s; see {self.directory}/log.txt"
                    )
                self._kill_one(job, chance)
        finally:
            job.kill()
            job.wait()

    def _kill_one(self, job: subprocess.Popen[bytes], chance: random.Random) -> None:
        workers = _children(job.pid)
        victim = job.pid if not workers or chance.random() < 0.3 else chance.choice(workers)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            self.kills.append("coordinator" if victim == job.pid else "worker")

    def _has_checkpoint(self) -> bool:
        log = CheckpointLog(open_storage(f"{self.directory}/checkpoints"))
        return bool(log.checkpoints())

    def output(self) -> dict[str, list[dict[str, int]]]:
        return {name: read_jsonl(f"{self.directory}/out/{name}") for name in ("hops", "counts")}

    def state(self) -> dict[str, dict[str, dict[object, object]]]:
        storage = open_storage(f"{self.directory}/checkpoints")
        return read_state(storage, CheckpointLog(storage).latest())


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def expected(records: int) -> dict[str, collections.Counter[tuple[tuple[str, int], ...]]]:
    """What must come out, from the definition of the job."""
    hops = [{"number": n, "hop": h, "seen": 1} for n in range(records) for h in range(HOPS + 1)]
    counts = collections.Counter(n % KEYS for n in range(records))
    return {
        "hops": _count(hops),
        "counts": _count([{"key": key, "count": count * (HOPS + 1)} for key, count in counts.items()]),
    }


def _count(rows: list[dict[str, int]]) -> collections.Counter[tuple[tuple[str, int], ...]]:
    return collections.Counter(tuple(sorted(row.items())) for row in rows)


def compare(finished: Round) -> tuple[int, int]:
    """Records lost and doubled (or wrong) over all sinks."""
    lost = doubled = 0
    for name, wanted in expected(finished.records).items():
        got = _count(finished.output()[name] if Path(f"{finished.directory}/out/{name}").is_dir() else [])
        lost += (wanted - got).total()
        doubled += (got - wanted).total()
    return lost, doubled


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--rate", type=float, default=8_000.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--no-checkpoints", action="store_true")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    print(f"seed {options.seed}", flush=True)
    kinds: collections.Counter[str] = collections.Counter()
    lost = doubled = 0
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as scratch:
        reference = _round(scratch, "reference", options)
        reference.run(chance, kills=0)
        number = 0
        while kinds.total() < options.kills:
            number += 1
            chaos = _round(scratch, f"round-{number}", options)
            chaos.run(chance, kills=options.kills - kinds.total())
            kinds.update(chaos.kills)
            round_lost, round_doubled = compare(chaos)
            if chaos.checkpoints:
                differing = _differing_state(reference, chaos)
                round_lost += differing
                print(f"round {number}: {len(chaos.kills)} kills, {round_lost} lost, {round_doubled} doubled, "
                      f"{differing} state entries differ", flush=True)  # fmt: skip
            lost, doubled = lost + round_lost, doubled + round_doubled
            if round_lost or round_doubled:
                print((chaos.directory / "log.txt").read_text()[-4000:])
    print(f"killed: {kinds['worker']} workers, {kinds['coordinator']} coordinators")
    print(f"chaos: {kinds.total()} kills, {lost} lost, {doubled} doubled")
    return 1 if lost or doubled else 0


def _round(scratch: str, name: str, options: argparse.Namespace) -> Round:
    directory = Path(scratch) / name
    directory.mkdir()
    return Round(directory, options.records, options.rate, checkpoints=not options.no_checkpoints)


def _differing_state(reference: Round, chaos: Round) -> int:
    wanted, got = reference.state(), chaos.state()
    if wanted.keys() != got.keys():
        return len(wanted.keys() ^ got.keys())
    differing = 0
    for uid, states in wanted.items():
        for name, table in states.items():
            other = got[uid].get(name, {})
            differing += sum(other.get(key) != value for key, value in table.items()) + len(other.keys() - table.keys())
    return differing


if __name__ == "__main__":
    sys.exit(main())
