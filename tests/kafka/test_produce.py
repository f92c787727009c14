"""`streamcore produce` on a real broker; what is in the topic is read by another client."""

import datetime
import json
import zlib

import numpy as np
import pytest
from click.testing import CliRunner

from streamcore.cli.main import cli

RATINGS = 2000


def produce(file, broker, topic, *options, code=0):
    url = f"kafka://{broker.servers}/{topic}"
    done = CliRunner().invoke(cli, ["produce", str(file), url, *map(str, options)])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def ratings(tmp_path):
    """Ratings by ten users, with times in seconds."""
    rows = [(zlib.crc32(str(i).encode()) % 10, i % 37, (i % 10) / 2, 828_124_615 + 3 * i) for i in range(RATINGS)]
    lines = ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in rows)]
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(lines) + "\n")
    return path, [dict(zip(["userId", "movieId", "rating", "timestamp"], row, strict=True)) for row in rows]


def test_ratings_by_user(broker, topic, ratings):
    path, expected = ratings
    said = produce(path, broker, topic, "--key", "userId", "--time", "timestamp", "--time-unit", "s")
    assert f"{RATINGS:,} records in" in said
    assert said.rstrip().endswith("to 12 partitions")
    messages = broker.read_committed(topic)
    assert len(broker.end_offsets(topic)) == 12
    assert all(message.key == str(json.loads(message.value)["userId"]).encode() for message in messages)
    assert all(message.time_ms == json.loads(message.value)["timestamp"] * 1000 for message in messages)
    for user in range(10):
        own = [message for message in messages if message.key == str(user).encode()]
        assert len({message.partition for message in own}) == 1
        assert [json.loads(message.value) for message in own] == [row for row in expected if row["userId"] == user]
    # librdkafka puts the same keys into the same partitions
    broker.produce(topic, ["again"] * 10, keys=[str(user) for user in range(10)])
    places = {message.key: message.partition for message in messages}
    again = [message for message in broker.read_committed(topic) if message.value == b"again"]
    assert {message.key: message.partition for message in again} == places


def test_json_lines_with_times_as_text_and_a_limit(broker, topic, tmp_path):
    edits = [{"time": f"2015-09-12T00:46:{i:02}.771Z", "page": f"p{i}", "user": None} for i in range(30)]
    (tmp_path / "edits.jsonl").write_text("".join(json.dumps(edit) + "\n" for edit in edits))
    options = ("--time", "time", "--partitions", 1, "--limit", 45, "--repeat", "--rate", 1e6)
    produce(tmp_path / "edits.jsonl", broker, topic, *options)
    messages = broker.read_committed(topic)
    assert [json.loads(message.value) for message in messages] == (edits + edits)[:45]
    start = datetime.datetime(2015, 9, 12, 0, 46, 0, 771_000, tzinfo=datetime.UTC).timestamp() * 1000
    assert [message.time_ms for message in messages] == [start + 1000 * (i % 30) for i in range(45)]
    assert {message.key for message in messages} == {None}


def test_as_recorded(broker, topic, tmp_path):
    times = np.array([0, 100_000, 300_000])
    (tmp_path / "a.csv").write_text("time,n\n" + "".join(f"{time},{n}\n" for n, time in enumerate(times)))
    said = produce(tmp_path / "a.csv", broker, topic, "--time", "time", "--as-recorded", "1000", "--partitions", "1")
    assert 0.3 <= float(said.split(" records in ")[1].split(" s ")[0]) < 3.0
    assert [message.time_ms for message in broker.read_committed(topic)] == times.tolist()


def test_what_cannot_be_produced(broker, topic, ratings):
    path, _ = ratings
    for options, problem in [
        (("--key", "user"), "a record has no field 'user'"),
        (("--time", "rating", "--rate", "5", "--as-recorded", "2"), "not both"),
        (("--as-recorded", "2"), "--as-recorded needs the field of event time"),
    ]:
        assert problem in produce(path, broker, topic, *options, code=2)
    assert "no file" in produce("gone.csv", broker, topic, code=3)
    done = CliRunner().invoke(cli, ["produce", str(path), "kafka://127.0.0.1:1/x", "--no-progress"])
    assert done.exit_code == 3
    assert "nobody listens there" in done.output
    assert (
        "unknown option 'start'" in CliRunner().invoke(cli, ["produce", str(path), "kafka://h:1/x?start=latest"]).output
    )
