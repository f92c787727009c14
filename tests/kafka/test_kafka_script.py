"""`make kafka`: the broker for users without docker, and what its script says."""

import os
import re
import shutil
import signal
import socket
import subprocess
from contextlib import suppress

import pytest
from broker import DEPLOY, ROOT, free_ports, jars
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


@pytest.fixture
def script(tmp_path):
    """Runs the script on a port and a directory of the test's own."""
    jars()
    # A narrow terminal: what `ps` prints is cut to its width where it isn't told otherwise.
    environment = {
        **os.environ,
        "COLUMNS": "80",
        "KAFKA_DIR": str(tmp_path / "kafka"),
        "KAFKA_PORT": str(free_ports(1)[0]),
    }

    def run(command, **changed):
        return subprocess.run(
            [DEPLOY / "kafka.sh", command],
            env={**environment, **changed},
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    run.servers = f"127.0.0.1:{environment['KAFKA_PORT']}"
    run.directory = tmp_path / "kafka"
    yield run
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((run.directory / "broker.pid").read_text()), signal.SIGKILL)


def only(directory, *commands):
    """A directory for PATH with nothing but these commands."""
    directory.mkdir()
    for command in commands:
        (directory / command).symlink_to(shutil.which(command))
    return directory


def test_data_is_kept_between_start_and_stop(script):
    started = script("start")
    assert f"Kafka listens at {script.servers} (process " in started.stdout
    again = script("start", KAFKA_PORT="1")
    assert (again.returncode, f"runs already: {script.servers}" in again.stdout) == (0, True)
    admin = AdminClient({"bootstrap.servers": script.servers})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(30)
    producer = Producer({"bootstrap.servers": script.servers})
    producer.produce("kept", "years ago", timestamp=1)
    assert producer.flush(30) == 0
    assert "Kafka is stopped" in script("stop").stdout
    stopped = script("stop")
    assert (stopped.returncode, "doesn't run" in stopped.stdout) == (0, True)

    script("start")
    consumer = Consumer({"bootstrap.servers": script.servers, "group.id": "g"})
    consumer.assign([TopicPartition("kept", 0, 0)])
    message = consumer.poll(30)
    consumer.close()
    assert (message.value(), message.timestamp()[1]) == (b"years ago", 1)


@pytest.mark.parametrize("which", [0, 1])
def test_a_port_that_is_taken(script, which):
    port = int(script.servers.partition(":")[2])
    with socket.create_server(("127.0.0.1", port + which)):
        result = script("start")
    assert result.returncode == 1
    assert f"something else listens at 127.0.0.1:{port + which}" in result.stderr
    assert "KAFKA_PORT=" in result.stderr
    assert not (script.directory / "broker.pid").exists()


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ((), "java is not found"),
        (("java",), "mvn (Maven), which fetches the jars of Kafka, is not found"),
    ],
)
def test_without_java_or_maven_it_says_what_to_do(script, tmp_path, there, said):
    path = only(tmp_path / "bin", "bash", "env", "cksum", "cut", "dirname", "sed", *there)
    result = script("start", PATH=str(path), KAFKA_JARS=str(tmp_path))
    assert result.returncode == 1
    assert said in result.stderr
    assert "apt-get install" in result.stderr
    assert "docker compose" in result.stderr


def test_a_java_that_is_too_old(script, tmp_path):
    path = only(tmp_path / "bin", "bash", "env", "cksum", "cut", "dirname", "sed")
    (path / "java").write_text("#!/usr/bin/env bash\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    (path / "java").chmod(0o755)
    result = script("start", PATH=str(path))
    assert result.returncode == 1
    assert "Java 17 or newer" in result.stderr
    assert "is Java 11" in result.stderr


def test_docker_s_broker_has_the_same_settings():
    lines = (DEPLOY / "server.properties").read_text().splitlines()
    own = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    compose = (DEPLOY / "compose.yaml").read_text()
    docker = {
        name.lower().replace("_", "."): value.strip('"')
        for name, value in re.findall(r"^ +KAFKA_(\w+): (.*)$", compose, re.MULTILINE)
    }
    assert docker.pop("heap.opts") == "-Xmx256m"
    addresses = {"listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs"}
    assert docker.keys() == own.keys()
    assert {name for name in own if docker[name] != own[name]} == addresses
    (version,) = re.findall(r"image: apache/kafka:(.*)", compose)
    assert f"<version>{version}</version>" in (DEPLOY / "pom.xml").read_text()


def test_servers_that_can_t_be_installed_are_named(tmp_path):
    path = only(tmp_path / "bin", "bash", "env", "dirname")
    (path / "id").write_text("#!/usr/bin/env bash\necho 1000\n")
    (path / "id").chmod(0o755)
    script = ROOT / "tests" / "install_servers.sh"
    result = subprocess.run([script], env={"PATH": str(path)}, check=False, capture_output=True, text=True)
    assert result.returncode == 1
    assert re.search(r"sudo apt-get install .*openjdk-17-jre-headless maven", result.stderr)


def test_the_tests_are_not_skipped_without_java(monkeypatch, tmp_path):
    monkeypatch.setattr("broker.CACHE", tmp_path)
    monkeypatch.setenv("KAFKA_JARS", str(tmp_path))
    monkeypatch.setenv("PATH", str(only(tmp_path / "bin", "bash", "env", "cksum", "cut", "dirname")))
    with pytest.raises(AssertionError, match="java is not found"):
        jars()
