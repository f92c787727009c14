"""Chaos end to end: kill -9 of workers, the coordinator and the broker, from topic to topic.

    python tests/kafka/kafka_chaos.py --kills 30
    python tests/kafka/kafka_chaos.py --kills 30 --delivery at-least-once     # must show duplicates, and no loss

A producer of another client library writes ratings to 12 partitions while `kafka_chaos_job.py` runs on two workers.
Who is killed is chosen at random; a killed coordinator is started again with `--restore latest`, a killed broker on the
same data. Then a reader of the other library reads what is committed, and compares it with what must be there.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from broker import Broker, until
from confluent_kafka import Producer

from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.storage import open_storage

JOB = Path(__file__).parent / "kafka_chaos_job.py"
CONNECTOR_ERROR = 3
PARTITIONS = 12
USERS = 240
ITEMS = 60
OUTPUTS = ("sums", "errors", "users", "items")
TIMEOUT_S = 900.0
LIVES_S = (1.0, 5.0)
"""From one kill to the next."""
OUTAGE_S = (0.0, 2.0)
"""How long the broker stays down."""
VICTIMS = ("worker", "worker", "coordinator", "broker")

Rating = tuple[int, int, float]


def ratings(count: int) -> list[Rating]:
    """Users, items and ratings in halves, which add up exactly."""
    chance = random.Random(7)
    return [(chance.randrange(USERS), chance.randrange(ITEMS), chance.randrange(1, 11) / 2) for _ in range(count)]


def partition(rating: Rating) -> int:
    """A user's ratings are in one partition, so in order."""
    return rating[0] % PARTITIONS


@dataclass
class Findings:
    """What a reader found that should not be so, by output."""

    lost: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Chaos:
    """One run of the job to its end, through kills."""

    broker: Broker
    directory: Path
    records: int
    rate: float
    delivery: str = "exactly-once"
    lives_s: tuple[float, float] = LIVES_S
    kills: collections.Counter[str] = field(default_factory=collections.Counter)

    def __post_init__(self) -> None:
        self.source, self.sink = f"ratings-{self.directory.name}", f"out-{self.directory.name}"
        self.log = self.directory / "log.txt"
        self._ratings = ratings(self.records)
        self.broker.create_topic(self.source, PARTITIONS)
        for name in OUTPUTS:
            self.broker.create_topic(f"{self.sink}-{name}", PARTITIONS)

    def run(self, chance: random.Random, kills: int, victims: Iterable[str] | None = None) -> None:
        """Runs the job to its end, killing up to `kills` times, as long as it lasts: these victims, or any."""
        victims = iter(victims or iter(lambda: chance.choice(VICTIMS), None))
        victim = next(victims, "")
        producing = threading.Thread(target=self._produce, daemon=True)
        producing.start()
        deadline = time.monotonic() + TIMEOUT_S
        job = self._start()
        try:
            while True:
                wait_s = chance.uniform(*self.lives_s) if self.kills.total() < kills else deadline - time.monotonic()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = job.wait(wait_s)
                    if code == 0:
                        break
                    # a start while the broker is down is refused with this: whoever watches over the job tries again
                    refused = code == CONNECTOR_ERROR and "nobody listens there" in self.log_end()
                    assert code == -signal.SIGKILL or refused, f"exit code {code}\n{self.log_end()}"
                    job = self._start()
                    continue
                assert time.monotonic() < deadline, f"the job did not end within {TIMEOUT_S:g} s\n{self.log_end()}"
                if self._kill_one(job, victim, chance):
                    self.kills[victim] += 1
                    victim = next(victims, "")
        finally:
            job.kill()
            job.wait()
        producing.join(TIMEOUT_S)

    def log_end(self) -> str:
        """The last lines of the job's log."""
        return self.log.read_text()[-3000:]

    def findings(self) -> Findings:
        """What is committed, compared with what must be. A broker that was killed while it committed goes on with that
        when it is back, so the end of all transactions is waited for."""
        found = Findings()
        for name in OUTPUTS if self.delivery == "exactly-once" else ():
            until(partial(self._is_settled, f"{self.sink}-{name}"), f"no transaction is open in {name}")
        self._compare("sums", self._expected_sums(), ("user", "number", "total"), found)
        for position, name in enumerate(("users", "items")):
            counts = collections.Counter(rating[position] for rating in self._ratings)
            self._compare(name, collections.Counter(counts.items()), ("id", "ratings"), found)
        learned = sum(row["count"] for row in self._read("errors"))
        if self.delivery == "exactly-once" and learned != self.records:
            found.wrong.append(f"errors of {learned} ratings, there are {self.records}")
        if learned < self.records:
            found.lost += self.records - learned
        return found

    def _is_settled(self, topic: str) -> bool:
        return self.broker.end_offsets(topic, "read_committed") == self.broker.end_offsets(topic, "read_uncommitted")

    def _compare(
        self, name: str, wanted: collections.Counter[tuple[float, ...]], fields: tuple[str, ...], found: Findings
    ) -> None:
        got = collections.Counter(tuple(row[name] for name in fields) for row in self._read(name))
        found.lost += len(wanted.keys() - got.keys())
        found.doubled += (got - wanted).total()
        if self.delivery == "exactly-once" and (made_up := got.keys() - wanted.keys()):
            found.wrong.append(f"{name}: {len(made_up)} made up, such as {min(made_up)}")

    def _expected_sums(self) -> collections.Counter[tuple[float, ...]]:
        numbers, totals = collections.Counter[int](), collections.defaultdict[int, float](float)
        wanted: collections.Counter[tuple[float, ...]] = collections.Counter()
        for user, _, rating in self._ratings:
            numbers[user] += 1
            totals[user] += rating
            wanted[user, numbers[user], totals[user]] += 1
        return wanted

    def _read(self, name: str) -> list[dict[str, float]]:
        return [json.loads(message.value or b"") for message in self.broker.read_committed(f"{self.sink}-{name}")]

    def _produce(self) -> None:
        """Writes the ratings at the rate, through outages of the broker: idempotent, so each once and in order."""
        producer = Producer(
            {
                "bootstrap.servers": self.broker.servers,
                "enable.idempotence": True,
                "message.timeout.ms": int(TIMEOUT_S * 1000),
                "reconnect.backoff.max.ms": 500,
                "linger.ms": 5,
                "log_level": 0,
            }
        )
        begun = time.monotonic()
        for number, rating in enumerate(self._ratings):
            value = json.dumps(dict(zip(("user", "item", "rating"), rating, strict=True)))
            producer.produce(self.source, value, str(rating[0]), partition(rating))
            if number % 50 == 0:
                producer.poll(0)
                time.sleep(max(0.0, begun + number / self.rate - time.monotonic()))
        assert producer.flush(TIMEOUT_S) == 0, "not all ratings were acknowledged"

    def _start(self) -> subprocess.Popen[bytes]:
        stop = collections.Counter(f"{self.source}-{partition(rating)}" for rating in self._ratings)
        line = [sys.executable, "-P", "-m", "streamcore", "run", f"{JOB}:build", "--workers", "2", "--no-progress"]
        line += ["--checkpoint-dir", str(self.directory / "checkpoints"), "--checkpoint-interval", "250ms"]
        line += ["--restart-attempts", "1000"]
        for name, value in {
            "servers": self.broker.servers,
            "source": self.source,
            "sink": self.sink,
            "stop": json.dumps(stop),
            "delivery": self.delivery,
        }.items():
            line += ["--set", f"{name}={value}"]
        if CheckpointLog(open_storage(str(self.directory / "checkpoints"))).checkpoints():
            line += ["--restore", "latest"]
        with self.log.open("ab") as log:
            return subprocess.Popen(line, stdout=log, stderr=log)

    def _kill_one(self, job: subprocess.Popen[bytes], victim: str, chance: random.Random) -> bool:
        """Kills; false: there is no worker yet."""
        if victim == "broker":
            self.broker.kill9()
            time.sleep(chance.uniform(*OUTAGE_S))
            self.broker.start()
        else:
            workers = _children(job.pid)
            if victim == "worker" and not workers:
                return False
            pid = chance.choice(workers) if victim == "worker" else job.pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return True


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--rate", type=float, default=1_500.0, help="ratings per second")
    parser.add_argument("--delivery", choices=("exactly-once", "at-least-once"), default="exactly-once")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kafka-chaos-", ignore_cleanup_errors=True) as scratch:
        broker = Broker(Path(scratch) / "broker").start()
        try:
            directory = Path(scratch) / "chaos"
            directory.mkdir()
            chaos = Chaos(broker, directory, options.records, options.rate, options.delivery)
            begun = time.monotonic()
            chaos.run(random.Random(options.seed), options.kills)
            lasted_s = time.monotonic() - begun
            found = chaos.findings()
            killed = ", ".join(f"{count} x {name}" for name, count in sorted(chaos.kills.items()))
            print(f"{options.delivery}: {options.records:,} ratings in {lasted_s:.0f} s; killed {killed}")
            for wrong in found.wrong:
                print(f"  {wrong}")
            if found.lost or found.doubled:
                print(chaos.log.read_text()[-20_000:])
            print(f"chaos: {chaos.kills.total()} kills, {found.lost} lost, {found.doubled} doubled")
        finally:
            broker.kill9()
    if options.delivery == "at-least-once":
        return 1 if found.lost else 0
    return 1 if found.lost or found.doubled or found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
