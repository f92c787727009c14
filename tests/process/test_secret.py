"""Who doesn't know the job's secret gets nowhere, disturbs nobody, and nothing that it sends is unpickled."""

import asyncio
import json
import os
import pickle
import socket
import subprocess
import sys
import threading

import pytest

from streamcore.errors import HandshakeError
from streamcore.runtime import connection
from streamcore.runtime.connection import FrameKind, connect, listen

REFUSED = "refused a connection that did not prove the job's secret"
SECRET, OTHER = bytes(32), bytes(range(32))
RECORDS = 100_000_000


class Bomb:
    """Leaves a directory behind when it is unpickled."""

    def __init__(self, path):
        self._path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self._path,))


@pytest.fixture
def job(runs, short_directory):
    """A job on two workers that goes on until it is told to stop, and its control socket."""
    run = runs.start(
        "numbers", "--workers", "2", "--on-stop", "drain", environment={"TMPDIR": str(short_directory)},
        records=RECORDS, rate=2000,
    )  # fmt: skip
    run.wait_for("checkpoint complete")
    run.socket = next(short_directory.glob("streamcore-*/coordinator"))
    return run


def assert_undisturbed(run, runs):
    """It goes on, and comes to its end with its first workers and exact results."""
    seen = run.text.count("checkpoint complete")
    run.wait_for("checkpoint complete", count=seen + 2)
    run.process.terminate()
    run.expect(0)
    assert "restarts: 0" in run.text
    rows, counts = runs.rows("rows"), runs.rows("counts")
    assert len({row["n"] for row in rows}) == len(rows) > 0
    assert sum(row["count"] for row in counts) == len(rows)


def worker(control, secret, **options):
    """A worker process as one would start it by hand."""
    config = {
        "worker": 0, "control": str(control), "data": f"{control}-by-hand", "secret": secret.hex(), "path": sys.path,
        "log": {"level": 20, "json": False}, **options,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "streamcore.job.worker_main"],
        input=json.dumps(config), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_strangers_do_not_disturb_a_job(job, runs, tmp_path):
    stranger = worker(job.socket, OTHER)
    assert stranger.returncode == 5
    assert stranger.stderr.startswith(f"worker 0: can't join the job at {job.socket}: ")
    assert "hint: worker and coordinator must have the same secret" in stranger.stderr
    assert "Traceback" not in stranger.stderr
    job.wait_for(REFUSED)

    bomb = pickle.dumps(Bomb(tmp_path / "boom"))
    mute = knock(job.socket, b"")
    half = knock(job.socket, bytes(40))
    for number, content in enumerate([bytes(64), os.urandom(10_000), bomb * 20, b"GET / HTTP/1.1\r\n\r\n" * 10], 2):
        with knock(job.socket, content) as garbage:
            assert drained(garbage) <= 32  # the server's nonce, nothing else
        job.wait_for(REFUSED, count=number)
    mute.close()
    half.close()
    job.wait_for(REFUSED, count=7)
    data = next(job.socket.parent.glob("w0-*"))
    with knock(data, bomb * 20) as garbage:
        assert drained(garbage) <= 32
    assert not (tmp_path / "boom").exists()
    assert_undisturbed(job, runs)


def knock(address, content):
    """A client that takes the server's nonce and sends something else than a proof."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(address))
    assert len(client.recv(32, socket.MSG_WAITALL)) == 32
    client.sendall(content)
    return client


def drained(client):
    """How many bytes come until the other side closes."""
    count = 0
    try:
        while got := client.recv(4096):
            count += len(got)
    except ConnectionResetError:
        pass
    return count


def test_the_bomb_is_one(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "boom")))  # noqa: S301 - our own
    assert (tmp_path / "boom").exists()


def test_a_worker_for_which_nobody_listens(short_directory):
    left = worker(short_directory / "coordinator", SECRET)
    assert left.returncode == 5
    assert f"can't join the job at {short_directory}/coordinator: " in left.stderr
    assert "Traceback" not in left.stderr


def fake_server(address, answer):
    """A server that takes one client through the handshake and sends `answer(its proof)` at the end; b"": closes."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(address))
    listening.listen()

    def serve():
        peer, _ = listening.accept()
        with listening, peer:
            peer.sendall(bytes(32))
            proof = peer.recv(64, socket.MSG_WAITALL)
            if content := answer(proof):
                peer.sendall(content)
                drained(peer)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    return server


def test_a_worker_refuses_a_server_that_does_not_know_the_secret(short_directory):
    address, boom = short_directory / "coordinator", short_directory / "boom"
    server = fake_server(address, lambda proof: pickle.dumps(Bomb(boom)).ljust(1000, b"\0"))
    left = worker(address, SECRET)
    server.join(10)
    assert left.returncode == 5
    assert "the other side doesn't know the job's secret" in left.stderr
    assert "Traceback" not in left.stderr
    assert not boom.exists()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda proof: os.urandom(32), "the other side doesn't know the job's secret"),
        (lambda proof: proof[32:], "the other side doesn't know the job's secret"),  # the client's own proof
        (lambda proof: b"", "the other side closed the connection during the handshake"),
    ],
    ids=["noise", "reflection", "nothing"],
)
def test_a_client_refuses_a_server_that_does_not_know_the_secret(short_directory, answer, reason):
    server = fake_server(short_directory / "s", answer)
    with pytest.raises(HandshakeError, match=reason):
        asyncio.run(connect(str(short_directory / "s"), SECRET, print, lambda _: None))
    server.join(10)


def serve_and(address, act):
    """Runs `act(frames, closed)` beside a server with the secret."""
    frames, closed = [], []

    async def main():
        server = await listen(str(address), SECRET, lambda *frame: frames.append(frame), closed.append)
        try:
            await act(frames, closed)
        finally:
            server.close()

    asyncio.run(main())


async def eventually(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_with_the_secret_frames_come_through_and_without_it_none(short_directory):
    async def act(frames, closed):
        address = str(short_directory / "s")
        good = await connect(address, SECRET, print, print)
        good.send(FrameKind.MESSAGE, b"hello")
        await eventually(lambda: frames)
        assert bytes(frames[0][4]) == b"hello"
        with pytest.raises(HandshakeError, match="closed the connection"):
            await connect(address, OTHER, print, lambda _: None)
        await eventually(lambda: closed)
        assert [side.is_trusted for side in closed] == [False]
        assert len(frames) == 1

    serve_and(short_directory / "s", act)


@pytest.mark.parametrize("sent", [0, 1, 63])
def test_a_handshake_that_is_never_finished_is_given_up(short_directory, monkeypatch, sent):
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT_S", 0.05)

    async def act(frames, closed):
        address = str(short_directory / "s")
        friend = await connect(address, SECRET, print, print)
        reader, writer = await asyncio.open_unix_connection(address)
        writer.write(bytes(sent))
        async with asyncio.timeout(5):
            assert len(await reader.read()) == 32  # the nonce, then the end
        await eventually(lambda: closed)
        writer.close()
        friend.send(FrameKind.MESSAGE, b"still here")  # whoever is through has no time-out any more
        await eventually(lambda: frames)
        assert len(closed) == 1

    serve_and(short_directory / "s", act)


def test_a_server_that_says_nothing_is_given_up(short_directory, monkeypatch):
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT_S", 0.05)
    address = str(short_directory / "s")

    async def main():
        server = await asyncio.start_unix_server(lambda reader, writer: None, address)
        async with asyncio.timeout(5):
            with pytest.raises(HandshakeError, match=r"the handshake was not done after 0\.05 s"):
                await connect(address, SECRET, print, lambda _: None)
        server.close()

    asyncio.run(main())
