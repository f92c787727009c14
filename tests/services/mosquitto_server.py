"""A real MQTT broker: mosquitto, on a free port, with its sessions kept on disk through kill -9."""

import contextlib
import shutil
import signal
import socket
import subprocess

import pytest

from tests.process.process_harness import until

INSTALL = "mosquitto is not installed: the tests of MQTT need a real broker (Debian: apt-get install mosquitto)"


class Mosquitto:
    """The broker of a directory; it keeps its port when it is started again."""

    def __init__(self, directory, *settings):
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as one:
            self.port = one.getsockname()[1]
        self._settings = settings
        self._process = None

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def log(self):
        return (self.directory / "log.txt").read_text()

    def start(self):
        # Debian has it where only root's PATH looks
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        assert program is not None, INSTALL
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {self.directory}/",
            "max_inflight_messages 0",
            "max_queued_messages 0",
            "user root",
            *(self._settings or ["allow_anonymous true"]),
        ]
        configuration = self.directory / "mosquitto.conf"
        configuration.write_text("\n".join(lines) + "\n")
        with (self.directory / "log.txt").open("ab") as log:
            self._process = subprocess.Popen([program, "-v", "-c", configuration], stdout=log, stderr=log)
        until(self._listens, "mosquitto listens")
        return self

    def save(self):
        """Has it write its sessions to disk, and waits until it has."""
        file = self.directory / "mosquitto.db"  # another one takes its place
        before = file.stat().st_ino if file.exists() else None
        self._process.send_signal(signal.SIGUSR1)
        until(lambda: file.exists() and file.stat().st_ino != before, "mosquitto saves")

    def kill(self):
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self):
        assert self._process.poll() is None, self.log
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@pytest.fixture
def mosquitto(tmp_path):
    """A running broker that takes everyone."""
    directory = tmp_path / "mosquitto"
    directory.mkdir()
    broker = Mosquitto(directory)
    try:
        yield broker.start()
    finally:
        broker.kill()
