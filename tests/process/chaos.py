"""Chaos: kills random workers and the coordinator with -9, restarts, and compares every record and all state.

    python tests/process/chaos.py --kills 50
    python tests/process/chaos.py --kills 1000 --at-once 2      # the soak: every mode in turn, two rounds at a time
    python tests/process/chaos.py --kills 3 --no-checkpoints    # must show losses

Each round runs the topology of `chaos_job.py` on two workers until it ends, in the next of `MODES`. A killed
coordinator is started again by the same command with `--restore latest`, in modes with `*` at another parallelism. The
sinks' final content is compared with what must come out, computed here (at least once: nothing may be missing), the
final state with that of the failure-free run. At a round's end no file is there that no manifest names.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from chaos_job import HOPS, KEYS, WINDOW_MS

from streamcore.checkpoint.inspect import read_state
from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.storage import open_storage
from streamcore.connectors.file_sink import read_jsonl

JOB = Path(__file__).parent / "chaos_job.py"
ROUND_TIMEOUT_S = 600.0
LIVES_S = (0.2, 2.5)
"""From one kill to the next."""
KILLS_PER_ROUND = 60
AT_LEAST_ONCE = "at least once"
MODES: dict[str, tuple[str, ...]] = {
    "aligned": (),
    "aligned *": (),
    "unaligned": ("--unaligned",),
    "unaligned *": ("--unaligned",),
    "aligned timeout": ("--unaligned", "--aligned-timeout", "20ms"),
    "rocksdb": ("--state-backend", "rocksdb"),
    "rocksdb *": ("--state-backend", "rocksdb"),
    AT_LEAST_ONCE: ("--checkpoint-mode", "at-least-once"),
}

Content = collections.Counter[tuple[tuple[str, int], ...]]
"""Rows, whatever their order."""


@dataclass
class Round:
    """One run of the job to its end, through some kills."""

    directory: Path
    records: int
    rate: float
    mode: str = "aligned"
    checkpoints: bool = True
    kills: list[str] = field(default_factory=list)

    def command(self, restore: bool, parallelism: int) -> list[str]:
        line = [sys.executable, "-P", "-m", "streamcore", "run", f"{JOB}:build", "--workers", "2", "--no-progress"]
        line += ["--parallelism", str(parallelism)]
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
            line += ["--restart-attempts", "1000", *MODES[self.mode]]
            if restore:
                line += ["--restore", "latest"]
        return line

    def start(self, restore: bool, parallelism: int = 2) -> subprocess.Popen[bytes]:
        log = (self.directory / "log.txt").open("ab")
        with log:
            return subprocess.Popen(self.command(restore, parallelism), stdout=log, stderr=log)

    def run(self, chance: random.Random, kills: int) -> None:
        """Runs the job to its end, killing `kills` times if it lasts that long."""
        deadline = time.monotonic() + ROUND_TIMEOUT_S
        job = self.start(restore=False)
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = job.wait(
                        chance.uniform(*LIVES_S) if len(self.kills) < kills else deadline - time.monotonic()
                    )
                    if code == 0 or not self.checkpoints:
                        return
                    if code != -signal.SIGKILL:
                        raise RuntimeError(f"the job ended with exit code {code}; see {self.directory}/log.txt")
                    parallelism = chance.randint(1, 4) if self.mode.endswith("*") else 2
                    job = self.start(self._has_checkpoint(), parallelism)
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

    def output(self, name: str) -> list[dict[str, int]]:
        path = f"{self.directory}/out/{name}"
        return read_jsonl(path) if Path(path).is_dir() else []

    def state(self) -> dict[str, dict[str, dict[object, object]]]:
        storage = open_storage(f"{self.directory}/checkpoints")
        return read_state(storage, CheckpointLog(storage).latest())

    def orphans(self) -> list[str]:
        """Files of the checkpoint directory that are no log entry and that no manifest names."""
        root = self.directory / "checkpoints"
        named = set().union(*(entry.paths for entry in CheckpointLog(open_storage(str(root))).checkpoints()))
        there = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        return sorted(path for path in there - named if not path.startswith("log/"))


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def expected(records: int) -> dict[str, Content]:
    """What must come out, from the definition of the job."""
    hops = [{"number": n, "hop": h, "seen": 1} for n in range(records) for h in range(HOPS + 1)]
    counts = collections.Counter(n % KEYS for n in range(records))
    sums, windows = [], collections.Counter[tuple[int, int]]()
    totals = collections.Counter[int]()
    for n in range(records):
        moment, key = n + n * 7 % 40, n % KEYS
        totals[key] += n
        sums.append({"time": moment, "key": key, "total": totals[key]})
        windows[key, moment // WINDOW_MS * WINDOW_MS] += n
    return {
        "hops": _count(hops),
        "counts": _count([{"key": key, "count": count * (HOPS + 1)} for key, count in counts.items()]),
        "sums": _count(sums),
        "windows": _count(
            [
                {"key": key, "window_start": start, "window_end": start + WINDOW_MS, "total": total}
                for (key, start), total in windows.items()
            ]
        ),
    }


def _count(rows: list[dict[str, int]]) -> Content:
    return collections.Counter(tuple(sorted(row.items())) for row in rows)


def compare(finished: Round) -> tuple[int, int]:
    """Records lost and doubled (or wrong) over all sinks; at least once, only hops of which there is none are lost."""
    wanted = expected(finished.records)
    if finished.mode == AT_LEAST_ONCE:
        there = {(row["number"], row["hop"]) for row in finished.output("hops")}
        return finished.records * (HOPS + 1) - len(there), 0
    lost = doubled = 0
    for name, rows in wanted.items():
        got = _count(finished.output(name))
        lost += (rows - got).total()
        doubled += (got - rows).total()
    return lost, doubled


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--rate", type=float, default=8_000.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--mode", choices=MODES, help="only this one")
    parser.add_argument("--no-checkpoints", action="store_true")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as scratch:
        soak = _Soak(scratch, options)
        with ThreadPoolExecutor(options.at_once) as threads:
            for done in [threads.submit(soak.run_rounds) for _ in range(options.at_once)]:
                done.result()
    print(f"killed: {soak.kinds['worker']} workers, {soak.kinds['coordinator']} coordinators")
    print(f"chaos: {soak.kinds.total()} kills, {soak.lost} lost, {soak.doubled} doubled")
    return 1 if soak.lost or soak.doubled else 0


class _Soak:
    """All rounds; each takes the next mode and some of the kills that are left."""

    def __init__(self, scratch: str, options: argparse.Namespace) -> None:
        self._scratch = scratch
        self._options = options
        self._lock = threading.Lock()
        self._left = options.kills
        self._rounds = 0
        self.kinds: collections.Counter[str] = collections.Counter()
        self.lost = self.doubled = 0
        self._reference = self._round("reference", "aligned")
        self._reference.run(random.Random(0), kills=0)

    def run_rounds(self) -> None:
        """Rounds until no kills are left."""
        while taken := self._next():
            number, mode, kills = taken
            chaos = self._round(f"round-{number}", mode)
            try:
                chaos.run(random.Random(self._options.seed + number), kills)
            finally:
                with self._lock:
                    self._left += kills - len(chaos.kills)
            with self._lock:
                self._tell(number, chaos)
            shutil.rmtree(chaos.directory, ignore_errors=True)

    def _next(self) -> tuple[int, str, int] | None:
        with self._lock:
            if self._left <= 0:
                return None
            modes = [self._options.mode] if self._options.mode else list(MODES)
            mode = modes[self._rounds % len(modes)]
            kills = min(self._left, KILLS_PER_ROUND)
            self._left -= kills
            self._rounds += 1
            return self._rounds, mode, kills

    def _tell(self, number: int, chaos: Round) -> None:
        self.kinds.update(chaos.kills)
        lost, doubled = compare(chaos)
        if chaos.checkpoints:
            differing = _differing_state(self._reference, chaos) if chaos.mode != AT_LEAST_ONCE else 0
            orphans = chaos.orphans()
            lost += differing + len(orphans)
            text = f"round {number}, {chaos.mode}: {len(chaos.kills)} kills, {lost} lost, {doubled} doubled"
            more = f"{differing} state entries differ, {len(orphans)} files too many {orphans[:3]}"
            print(f"{text}, {more}", flush=True)
        self.lost, self.doubled = self.lost + lost, self.doubled + doubled
        if lost or doubled:
            print((chaos.directory / "log.txt").read_text()[-4000:], flush=True)

    def _round(self, name: str, mode: str) -> Round:
        options, directory = self._options, Path(self._scratch) / name
        directory.mkdir()
        return Round(directory, options.records, options.rate, mode, checkpoints=not options.no_checkpoints)


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
