"""A running job and those who ask it, in one process: the endpoint, the client, the values."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import streamcore
from streamcore import (
    Checkpointing,
    ListState,
    MapState,
    ProcessFunction,
    Schema,
    StreamEnvironment,
    ValueState,
    bounded_out_of_orderness,
    count,
    milliseconds,
    tumbling,
)
from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.storage import open_storage
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import (
    JobFailedError,
    JobUnavailableError,
    MachineError,
    SavepointError,
    StreamcoreError,
    UnknownStateError,
    UsageError,
)
from streamcore.job.registry import DIRECTORY_VARIABLE
from streamcore.testing import MemorySink

DAY = datetime.date(2026, 1, 2)
READ = Schema.of(key=np.int64, t=np.int64)


@dataclasses.dataclass
class Last:
    n: int
    tag: bytes


class Keep(ProcessFunction):
    """Keeps state of every kind under tuple keys, and stops at a record for as long as the test holds a lock."""

    gate = threading.Lock()

    def open(self, ctx):
        self._last = ctx.state(ValueState("last", None))
        self._all = ctx.state(ListState("all"))
        self._by_day = ctx.state(MapState("by day"))

    def process(self, record, ctx):
        with Keep.gate:
            self._last.set(Last(record, b"\x00\xff"))
            self._all.add((record,))
            self._by_day.put(DAY, record)
        ctx.emit(record)


def topology(env):
    numbers = env.source(GeneratorSource(lambda a, b: list(range(a, b)), rate=2000)).uid("numbers")
    kept = numbers.key_by(lambda n: (n % 7, f"k{n % 7}")).process(Keep()).uid("a/b c")
    kept.sink(MemorySink()).uid("sink")
    rows = GeneratorSource(lambda a, b: [(i % 5, i) for i in range(a, b)], rate=2000, schema=READ)
    stream = env.source(rows, watermarks=bounded_out_of_orderness("t", milliseconds(10))).uid("rows")
    stream.key_by("key").count().uid("counts").sink(MemorySink()).uid("counts sink")
    windows = stream.key_by("key").window(tumbling(milliseconds(10_000))).aggregate(count()).uid("windows")
    windows.sink(MemorySink()).uid("windows sink")


class Job:
    """A topology that runs in a thread until it is stopped."""

    def __init__(self, name, build=topology, **options):
        self.env = StreamEnvironment(name, parallelism=2, control=True, **options)
        build(self.env)
        self.outcome = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.client = streamcore.connect(name, wait=30)
        until(lambda: self.client.status().state == "running")

    def _run(self):
        try:
            self.outcome.append(self.env.execute())
        except StreamcoreError as error:
            self.outcome.append(error)

    def join(self):
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.outcome[0]


def until(condition):
    deadline = time.monotonic() + 30
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return result


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Iterator[Job]:
    place = str(tmp_path_factory.mktemp("checkpoints"))
    made = Job("asked", checkpoint=Checkpointing(place, interval=0.1))
    until(lambda: made.client.status().checkpoints > 3)
    yield made
    made.client.stop()
    assert made.join().stopped


def request(job, text):
    """A request as it goes over the socket, and status and body of the answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(job.client._socket))
        connection.sendall(text.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize("consistency", ["live", "checkpoint"])
def test_state_of_every_kind_is_found_by_any_key(job, consistency):
    def ask(uid, name, key, default=None):
        return job.client.state(uid, name, key, default, consistency=consistency)

    key = (3, "k3")
    last = ask("a/b c", "last", key)
    assert last["n"] % 7 == 3
    assert last["tag"] == b"\x00\xff"
    assert ask("a/b c", "all", key)[:2] == [[3], [10]]
    assert ask("a/b c", "by day", key)[DAY] % 7 == 3
    assert ask("counts", "count", 4)["count"] > 0
    assert ask("a/b c", "last", (99, "k99"), "nothing") == "nothing"
    assert ask("counts", "count", "text among numbers", "nothing") == "nothing"


def test_a_live_value_is_of_one_moment(job):
    key = (3, "k3")
    values = [job.client.state("a/b c", "all", key, consistency="live") for _ in range(20)]
    for before, after in itertools.pairwise(values):
        assert after[: len(before)] == before
        assert after == [[n] for n in range(3, after[-1][0] + 1, 7)]


def test_a_value_of_a_checkpoint_is_of_the_last_complete_one(job):
    answer = job.client.ask("counts", "count", 4)
    assert answer.checkpoint <= job.client.status().checkpoints
    assert answer.found
    assert until(lambda: job.client.ask("counts", "count", 4).checkpoint > answer.checkpoint)
    assert job.client.ask("counts", "count", 4, consistency="live").checkpoint is None


def test_window_state_is_read_from_checkpoints_alone(job):
    assert "table" in job.client.states("windows").values()
    (name,) = (name for name, kind in job.client.states("windows").items() if kind == "table")
    assert job.client.state("windows", name, 4)
    with pytest.raises(UsageError, match="is table state") as refused:
        job.client.state("windows", name, 4, consistency="live")
    assert "consistency=checkpoint" in refused.value.hint


@pytest.mark.parametrize("consistency", ["live", "checkpoint"])
def test_what_is_not_there_is_named_with_what_is(job, consistency):
    with pytest.raises(UnknownStateError, match="no operator 'nobody'") as refused:
        job.client.state("nobody", "count", 1, consistency=consistency)
    assert "'counts'" in refused.value.hint
    with pytest.raises(UnknownStateError, match="no state 'size'") as refused:
        job.client.state("counts", "size", 1, consistency=consistency)
    assert refused.value.hint.endswith("count")
    with pytest.raises(UnknownStateError):
        job.client.state("sink", "anything", 1, consistency=consistency)


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("GET /state/counts/count?key=alice", 400, "not a value in JSON"),
        ("GET /state/counts/count", 400, "no key is given"),
        ("GET /state/counts/count?key=1&consistency=maybe", 400, "no consistency 'maybe'"),
        ("GET /state/counts/count?key=1&timeout=soon", 400, "timeout=soon"),
        ("GET /state/counts/count?key=1&timeout=-1", 400, "timeout=-1"),
        ("GET /state/nobody/count?key=1", 404, "no operator 'nobody'"),
        ("GET /nothing", 400, "nothing at /nothing"),
        ("POST /nothing", 400, "nothing is done at /nothing"),
    ],
)
def test_wrong_requests_are_answered(job, line, status, message):
    got, answer = request(job, f"{line} HTTP/1.0\r\n\r\n")
    assert got == status
    assert message in answer["error"]["message"]


@pytest.mark.parametrize("body", ["{", "[]", '{"stop": 3}', '{"directory": null, "force": true}'])
def test_wrong_orders_change_nothing(job, body):
    got, answer = request(job, f"POST /savepoints HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n{body}")
    assert (got, answer["error"]["kind"]) == (400, "UsageError")
    got, _ = request(job, "POST /stop HTTP/1.0\r\nContent-Length: 999999999\r\n\r\n")
    assert got == 400
    assert job.client.status().state == "running"


def test_a_client_that_breaks_off_or_says_nothing_harms_nobody(job):
    for text in ("", "GET", "POST /savepoints HTTP/1.0\r\nContent-Length: 99\r\n\r\n{"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(job.client._socket))
            connection.sendall(text.encode())
    assert job.client.status().state == "running"


def test_a_live_question_that_nobody_can_answer_in_time_says_so(job, monkeypatch):
    monkeypatch.setattr("streamcore.job.control._GRACE_S", 0.3)
    with Keep.gate, pytest.raises(JobUnavailableError):
        until(lambda: job.client.state("a/b c", "last", (3, "k3"), consistency="live", timeout=0.2) is None)


def test_savepoints_are_taken_one_after_the_other_while_checkpoints_go_on(job, tmp_path):
    told, paths = [], []
    takers = [
        threading.Thread(
            target=lambda: paths.append(job.client.savepoint(tmp_path, progress=lambda *line: told.append(line)))
        )
        for _ in range(3)
    ]
    before = job.client.status()
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(30)
    assert len(set(paths)) == 3
    after = job.client.status()
    assert after.savepoints == before.savepoints + 3
    assert after.last_savepoint in paths
    assert until(lambda: job.client.status().checkpoints > after.checkpoints)


def test_a_savepoint_is_complete_when_a_checkpoint_has_followed(tmp_path):
    """Else a restart from the checkpoint before would throw away what the savepoint's sinks had prepared."""
    job = Job("followed", checkpoint=Checkpointing(str(tmp_path / "checkpoints"), interval=3600.0))
    (manifest,) = CheckpointLog(open_storage(job.client.savepoint(tmp_path / "savepoints"))).checkpoints()
    assert job.client.status().last_checkpoint == f"{tmp_path}/checkpoints/chk-{manifest.checkpoint_id + 1:08d}"
    job.client.stop()
    job.join()


def test_a_savepoint_that_can_t_be_written_is_refused_at_once(job, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SavepointError, match="a savepoint can't be written to"):
        job.client.savepoint(tmp_path / "file")


def test_a_savepoint_that_fails_leaves_nothing(job, tmp_path):
    with pytest.raises(SavepointError, match=r"within 0 s|after 0 s"):
        job.client.savepoint(tmp_path, timeout=0, stop=True)
    assert until(lambda: not list(tmp_path.iterdir())), "also parts that are written after it was given up are deleted"
    read = job.client.status().records_read
    assert until(lambda: job.client.status().records_read > read + 2000), "its sources go on"


def test_without_checkpoints_state_is_asked_for_live(tmp_path):
    job = Job("unsaved")
    until(lambda: job.client.state("counts", "count", 4, consistency="live") is not None)
    with pytest.raises(UsageError, match="takes no checkpoints"):
        job.client.state("counts", "count", 4)
    with pytest.raises(UsageError, match="no checkpoint directory"):
        job.client.savepoint()
    path = job.client.savepoint(tmp_path, stop=True)
    result = job.join()
    assert (result.stopped, result.savepoint) == (True, path)
    with pytest.raises(JobUnavailableError):
        job.client.status()


def fails_to_commit(env):
    class Failing(MemorySink):
        def commit(self, handles):
            if handles:
                raise OSError("the database is gone")

    env.source(GeneratorSource(lambda a, b: list(range(a, b)), rate=500)).uid("n").sink(Failing()).uid("sink")


def test_a_stop_whose_output_can_t_be_committed_names_the_savepoint(tmp_path):
    job = Job("uncommitted", fails_to_commit)
    until(lambda: job.client.status().records_read > 10)
    with pytest.raises(
        SavepointError, match="is complete, but the job failed before all output was committed"
    ) as failed:
        job.client.savepoint(tmp_path, stop=True)
    (savepoint,) = tmp_path.iterdir()
    assert str(savepoint) in failed.value.hint
    assert isinstance(job.join(), JobFailedError)


def test_where_no_entry_can_be_made_a_job_that_must_be_asked_does_not_start(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "file"))
    env = StreamEnvironment("refused", control=True)
    env.from_values([1]).sink(MemorySink())
    with pytest.raises(MachineError, match="can't be registered"):
        env.execute()
    env.config.control = "on"
    assert env.execute().records_read == 1, "where it needn't be, it runs all the same"
