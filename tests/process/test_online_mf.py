"""The main job on real ratings, against a plain sequential SGD loop written here."""

import gzip
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numba
import numpy as np
import pytest

from streamcore import StreamEnvironment
from streamcore.apps.online_mf.topology import SHIPPED, build
from streamcore.connectors.file_sink import read_jsonl

ML_1M = Path(__file__).parents[3] / "shared" / "data" / "ratings" / "ml-1m"
K, STEP, L2, MEAN = 10, 0.05, 0.05, 3.6


@numba.njit
def sequential(users, items, ratings, user_vectors, item_vectors):
    """Squared errors of plain SGD over the ratings in order, each predicted before it is learned."""
    squared = np.empty(len(ratings))
    user_bias, item_bias = np.zeros(len(user_vectors)), np.zeros(len(item_vectors))
    for n in range(len(ratings)):
        u, i = users[n], items[n]
        p, q = user_vectors[u].copy(), item_vectors[i].copy()
        error = ratings[n] - (MEAN + user_bias[u] + item_bias[i] + (p * q).sum())
        squared[n] = error * error
        user_vectors[u] += STEP * (error * q - L2 * p)
        item_vectors[i] += STEP * (error * p - L2 * q)
        user_bias[u] += STEP * (error - L2 * user_bias[u])
        item_bias[i] += STEP * (error - L2 * item_bias[i])
    return squared


def sequential_rmse(table: np.ndarray) -> float:
    """Progressive RMSE of the sequential loop over rows (user, item, rating)."""
    chance = np.random.default_rng(7)
    users, items = table[:, 0].astype(int), table[:, 1].astype(int)
    user_vectors = chance.uniform(-0.1, 0.1, (users.max() + 1, K))
    item_vectors = chance.uniform(-0.1, 0.1, (items.max() + 1, K))
    return float(np.sqrt(sequential(users, items, table[:, 2], user_vectors, item_vectors).mean()))


def write_csv(path: Path, table: np.ndarray) -> Path:
    lines = [f"{int(u)},{int(i)},{r},{int(t)}\n" for u, i, r, t in table]
    path.write_text("userId,movieId,rating,timestamp\n" + "".join(lines))
    return path


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    """MovieLens 1M (those with a time, in order of time) where it is at hand, else the shipped ratings."""
    if not ML_1M.is_dir():
        with gzip.open(SHIPPED, "rt") as file:
            table = np.loadtxt(file, delimiter=",", skiprows=1)
        return SHIPPED, table, sequential_rmse(table)
    parts = []
    for name in ("ratings_first487650", "ratings_extra_users3000up"):
        text = gzip.decompress((ML_1M / f"{name}.dat.gz").read_bytes()).decode().replace("::", " ")
        parts.append(np.array(text.split(), np.float64).reshape(-1, 4))
    table = np.concatenate(parts)
    table = table[np.argsort(table[:, 3], kind="stable")]
    assert len(table) == 539_069
    return write_csv(tmp_path_factory.mktemp("ratings") / "ml1m.csv", table), table, sequential_rmse(table)


def final(output: Path) -> dict:
    return max(read_jsonl(str(output / "rmse")), key=lambda line: line["ratings"])


@pytest.mark.parametrize(("workers", "parallelism"), [(1, 1), (1, 4), (2, 1), (2, 4)])
def test_the_streamed_loop_learns_as_well_as_the_sequential_one(ratings, tmp_path, workers, parallelism):
    path, table, reference = ratings
    env = StreamEnvironment("mf", workers=workers, parallelism=parallelism)
    build(env, input=str(path), output=str(tmp_path))
    env.execute()
    result = final(tmp_path)
    assert result["ratings"] == len(table)
    assert result["rmse"] == pytest.approx(reference, rel=0.01)
    assert {row["id"] for row in read_jsonl(str(tmp_path / "users"))} == set(table[:, 0].astype(int))
    assert {row["id"] for row in read_jsonl(str(tmp_path / "items"))} == set(table[:, 1].astype(int))


def test_with_sequential_order_kept_the_loop_is_the_sequential_loop(tmp_path):
    """At parallelism 1 only the order among users can differ, and one user has none."""
    chance = np.random.default_rng(3)
    table = np.column_stack([np.full(500, 5), chance.integers(0, 40, 500), chance.integers(1, 6, 500), np.arange(500)])
    path = write_csv(tmp_path / "one_user.csv", table)
    build(env := StreamEnvironment("mf", batch_size=64), input=str(path), output=str(tmp_path / "out"), step=STEP)
    env.execute()
    vectors = {row["id"]: row for row in read_jsonl(str(tmp_path / "out" / "items"))}
    start = StreamEnvironment("mf")
    build(start, input=str(write_csv(tmp_path / "seen.csv", table)), output=str(tmp_path / "start"), step=0.0)
    start.execute()
    first = {row["id"]: row["vector"] for row in read_jsonl(str(tmp_path / "start" / "items"))}
    user = np.array(next(row["vector"] for row in read_jsonl(str(tmp_path / "start" / "users"))))
    items = np.array([first.get(i, [0.0] * K) for i in range(40)])
    item_bias, user_bias = np.zeros(40), 0.0
    for _, i, rating, _ in table:
        p, q = user.copy(), items[i].copy()
        error = rating - (MEAN + user_bias + item_bias[i] + p @ q)
        user, items[i] = p + STEP * (error * q - L2 * p), q + STEP * (error * p - L2 * q)
        user_bias, item_bias[i] = (
            user_bias + STEP * (error - L2 * user_bias),
            item_bias[i] + STEP * (error - L2 * item_bias[i]),
        )
    for i, row in vectors.items():
        np.testing.assert_allclose(row["vector"], items[i], atol=1e-4)
        assert row["bias"] == pytest.approx(item_bias[i], abs=1e-4)


def test_after_three_kills_the_result_is_as_good_and_every_rating_counts_once(ratings, tmp_path):
    path, table, reference = ratings
    log = tmp_path / "log.txt"

    def start(restore: bool) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "streamcore", "run", "online_mf", "--workers", "2", "--parallelism", "2"]
        command += ["--set", f"input={path}", "--set", f"output={tmp_path}/out", "--no-progress"]
        command += ["--checkpoint-dir", f"{tmp_path}/checkpoints", "--checkpoint-interval", "50ms"]
        command += ["--restart-attempts", "10", "--batch-size", "256"] + (["--restore", "latest"] if restore else [])
        with log.open("ab") as out:
            return subprocess.Popen(command, stdout=out, stderr=out)

    chance, kills = random.Random(11), 0
    job = start(restore=False)
    while kills < 3 and job.poll() is None:
        wait_for_a_checkpoint(log, job)
        victims = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
        coordinator = kills == 1
        os.kill(job.pid if coordinator else int(chance.choice(victims)), signal.SIGKILL)
        kills += 1
        if coordinator:
            job.wait()
            job = start(restore=True)
    assert job.wait(120) == 0, log.read_text()
    assert kills == 3, "the job was over before it could be killed three times"
    result = final(tmp_path / "out")
    assert result["ratings"] == len(table)
    assert result["rmse"] == pytest.approx(reference, rel=0.01)


def wait_for_a_checkpoint(log: Path, job: subprocess.Popen[bytes]) -> None:
    """Blocks until the job has completed a checkpoint since the last kill."""
    seen = len(re.findall("checkpoint complete", log.read_text()))
    while job.poll() is None and len(re.findall("checkpoint complete", log.read_text())) <= seen:
        time.sleep(0.01)
