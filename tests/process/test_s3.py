"""Snapshots in a bucket, on an S3 server that runs as a process of its own."""

import logging
import os
import threading
import uuid

import pytest
from click.testing import CliRunner
from process_harness import JOBS, until
from s3_server import BUCKET, WEED, S3Server
from s3fs import S3FileSystem

from streamcore.checkpoint import s3_storage
from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.retry import Backoff
from streamcore.checkpoint.s3_storage import S3Error, S3Storage
from streamcore.checkpoint.storage import digest_of, open_storage
from streamcore.cli.main import cli
from streamcore.errors import DamagedCheckpointError, MachineError

pytestmark = pytest.mark.skipif(WEED is None, reason="there is no S3 server for this platform")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = S3Server(tmp_path_factory.mktemp("s3")).start()
    yield server
    server.kill()


@pytest.fixture
def bucket(server, monkeypatch):
    """The environment of a client of the server; gives the URL of the bucket."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    yield f"s3://{BUCKET}"
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def storage(bucket):
    return open_storage(f"{bucket}/{uuid.uuid4().hex}")


def test_files(storage):
    assert isinstance(storage, S3Storage)
    storage.write("a/b/c.state", b"one")
    storage.write("a/b/c.state", b"two")
    storage.write("a/empty", b"")
    storage.write("top", b"x")
    assert storage.read("a/b/c.state") == b"two"
    assert storage.read("a/empty") == b""
    assert storage.names("") == ["a", "top"]
    assert storage.names("a") == ["b", "empty"]
    assert storage.names("nowhere") == []
    with pytest.raises(FileNotFoundError):
        storage.read("a/nothing")
    storage.delete("a")
    storage.delete("a")
    assert storage.names("a/b") == []  # the server goes on naming empty directories for a while
    assert "top" in storage.names("")


def test_names_of_several_pages_and_their_deletion(storage, monkeypatch):
    monkeypatch.setattr(s3_storage, "_NAMES_AT_ONCE", 3)
    names = [f"{number:04d}" for number in range(10)]
    for name in names:
        storage.write(f"d/{name}", b"")
        storage.write(f"{name}/x", b"")
    assert storage.names("d") == names
    assert storage.names("") == [*names, "d"]
    storage.delete("d")
    assert storage.names("d") == []
    assert storage.names("0000") == ["x"]


def test_damage_is_named(storage):
    ref = storage.put("chk/1.state", b"content")
    assert storage.get(ref) == b"content"
    storage.write("chk/1.state", b"Content")
    with pytest.raises(DamagedCheckpointError, match=r"chk/1\.state is damaged"):
        storage.get(ref)
    storage.delete("chk/1.state")
    with pytest.raises(DamagedCheckpointError, match=r"chk/1\.state is missing"):
        storage.get(ref)


def test_a_large_file_goes_up_in_parts_and_is_not_put_together_in_memory(storage, monkeypatch):
    monkeypatch.setattr(s3_storage, "_PART_BYTES", 5 << 20)  # the protocol's least
    sizes, real = [], storage._fs.call_s3

    def watched(method, **options):
        sizes.append((method, len(options.get("Body", b""))))
        return real(method, **options)

    monkeypatch.setattr(storage._fs, "call_s3", watched)
    pieces = [os.urandom(n) for n in (1, 7 << 20, 0, 3 << 20, (5 << 20) - 1, 100)]
    ref = storage.put_parts("big", [memoryview(piece) for piece in pieces])
    assert ref.digest == digest_of(b"".join(pieces))
    assert storage.get(ref) == b"".join(pieces)
    assert sorted(size for method, size in sizes if method == "upload_part") == [100, 5 << 20, 5 << 20, 5 << 20]
    assert max(size for _, size in sizes) == 5 << 20
    before = len(sizes)
    storage.put_parts("small", [b"one", memoryview(b"two")])
    assert [method for method, _ in sizes[before:]] == ["put_object"]
    assert storage.read("small") == b"onetwo"


def test_of_two_that_create_one_name_one_succeeds(storage):
    others = [S3Storage(storage.url) for _ in range(2)]
    for turn in range(40):
        barrier, won = threading.Barrier(2), []

        def create(n, turn=turn, barrier=barrier, won=won):
            barrier.wait()
            if others[n].create(f"log/{turn}", bytes([n]) * 1000):
                won.append(n)

        threads = [threading.Thread(target=create, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert storage.read(f"log/{turn}") == bytes(won) * 1000


class Flaky:
    """Calls of a client, some of which fail, before or after the server has done what they ask."""

    def __init__(self, call, failures):
        self._call = call
        self._failures = failures  # method → errors to raise, each before (False) or after (True) the real call
        self.calls = []

    def __call__(self, method, **options):
        self.calls.append(method)
        left = self._failures.get(method)
        if not left:
            return self._call(method, **options)
        error, after = left.pop(0)
        if after:
            self._call(method, **options)
        raise error


def flaky(storage, monkeypatch, **failures):
    pauses = []
    storage._backoff = Backoff(attempts=4, chance=lambda: 0.0, sleep=pauses.append)
    calls = Flaky(storage._fs.call_s3, failures)
    monkeypatch.setattr(storage._fs, "call_s3", calls)
    return calls, pauses


CUT = ConnectionResetError("the connection is gone")


def test_a_name_is_still_ones_own_when_the_answer_was_lost(storage, monkeypatch):
    flaky(storage, monkeypatch, put_object=[(CUT, True)])
    assert storage.create("log/1", b"mine") is True
    assert storage.create("log/1", b"other") is False
    flaky(storage, monkeypatch, put_object=[(CUT, False)])
    assert storage.create("log/2", b"mine") is True
    assert storage.read("log/1") == storage.read("log/2") == b"mine"


def test_parts_are_complete_although_the_answer_was_lost(storage, monkeypatch):
    monkeypatch.setattr(s3_storage, "_PART_BYTES", 5 << 20)
    calls, _ = flaky(storage, monkeypatch, complete_multipart_upload=[(CUT, True)], upload_part=[(CUT, False)])
    data = os.urandom(11 << 20)
    storage.write("big", data)
    assert storage.read("big") == data
    assert calls.calls.count("upload_part") == 4
    assert calls.calls.count("complete_multipart_upload") == 2


def test_parts_of_an_upload_that_fails_or_is_killed_are_given_up(storage, monkeypatch):
    monkeypatch.setattr(s3_storage, "_PART_BYTES", 5 << 20)
    with monkeypatch.context() as patch:
        flaky(storage, patch, complete_multipart_upload=[(CUT, False)] * 4)
        with pytest.raises(S3Error, match="the connection is gone"):
            storage.write("big", bytes(11 << 20))
    with pytest.raises(FileNotFoundError):
        storage.read("big")

    def uploads():
        found = storage._fs.call_s3("list_multipart_uploads", Bucket=BUCKET, Prefix=storage._prefix)
        return [upload["Key"] for upload in found.get("Uploads") or ()]

    assert uploads() == []
    storage._fs.call_s3("create_multipart_upload", Bucket=BUCKET, Key=storage._key("chk/killed"))
    assert uploads() == [storage._key("chk/killed")]
    storage.clean_up()
    assert uploads() == []


def test_what_may_pass_is_tried_again_with_longer_pauses_and_told(storage, monkeypatch, caplog):
    storage.write("a", b"content")
    _, pauses = flaky(storage, monkeypatch, put_object=[(CUT, False)] * 3)
    with caplog.at_level(logging.WARNING, "streamcore.checkpoint"):
        storage.write("a", b"again")
    assert pauses == [0.1, 0.2, 0.4]
    assert len(caplog.messages) == 3
    assert f"put_object of {storage.url}/a failed: no answer: the connection is gone" in caplog.messages[0]
    assert "trying again in 0.1 s (attempt 2 of 4)" in caplog.messages[0]
    flaky(storage, monkeypatch, put_object=[(CUT, False)] * 4)
    with pytest.raises(S3Error, match="the connection is gone"):
        storage.write("a", b"never")
    assert storage.read("a") == b"again"


def test_clear_words_for_a_wrong_bucket_credentials_and_host(bucket, server, monkeypatch):
    with pytest.raises(MachineError, match="there is no bucket 'nowhere'"):
        open_storage("s3://nowhere/x").check_writable()
    S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(MachineError, match=r"the credentials are refused .*see AWS_ACCESS_KEY_ID"):
        open_storage(bucket).check_writable()
    S3FileSystem.clear_instance_cache()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(MachineError, match="there are no credentials; set AWS_ACCESS_KEY_ID"):
        open_storage(bucket).check_writable()
    S3FileSystem.clear_instance_cache()
    for name, value in {**server.environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    storage = S3Storage(bucket, Backoff(attempts=2, sleep=lambda seconds: None))
    with pytest.raises(MachineError, match=r"no answer from http://127\.0\.0\.1:9"):
        storage.check_writable()


def test_a_place_that_can_be_written(storage):
    storage.check_writable()
    assert not [name for name in storage.names("") if name.startswith("probe")]


def test_a_server_that_lets_a_name_be_made_twice_is_refused(storage, monkeypatch):
    real = storage._fs.call_s3

    def without_condition(method, **options):
        options.pop("IfNoneMatch", None)
        return real(method, **options)

    monkeypatch.setattr(storage._fs, "call_s3", without_condition)
    with pytest.raises(MachineError, match="a file there can be made twice"):
        storage.check_writable()


def test_a_job_outlives_kills_of_the_server_and_of_itself(runs, bucket, server):
    """Snapshots wait for the server to come back; then the job is killed and goes on from the bucket."""
    runs.checkpoints = f"{bucket}/job"
    options = ("--checkpoint-interval", "200ms")
    run = runs.start("numbers", *options, records=60_000, rate=2000)
    until(lambda: len(runs.checkpoint_ids()) >= 2, "two checkpoints")
    server.kill()
    run.wait_for("trying again in")
    server.start()
    before = max(runs.checkpoint_ids())
    until(lambda: max(runs.checkpoint_ids()) > before, "checkpoints go on")
    run.kill()
    runs.start("numbers", *options, restore="latest", records=60_000, rate=1e6).expect(0)
    assert sorted(row["n"] for row in runs.rows("rows")) == list(range(60_000))
    log = CheckpointLog(open_storage(runs.checkpoints))
    needed = {path for entry in log.checkpoints() for path in entry.paths}
    found = log.storage._fs.find(runs.checkpoints)
    kept = {path.partition("/job/")[2] for path in found}
    assert {path for path in kept if not path.startswith("log/")} == needed  # nothing is missing and nothing is left


def test_a_bucket_that_is_not_there_ends_the_command_with_a_message(bucket, tmp_path):
    arguments = ["run", f"{JOBS}:numbers", "--no-progress", "--checkpoint-dir", "s3://nowhere/job"]
    arguments += ["--set", f"output={tmp_path}", "--set", "records=10", "--set", "rate=1e6"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 5
    assert (
        result.output
        == "error: the checkpoint directory s3://nowhere/job can't be read: there is no bucket 'nowhere'\n"
    )
