"""The apps over Kafka: topics that `streamcore produce` has filled, results in topics, the same as over files."""

import csv
import datetime
import gzip
import itertools
import json

import pytest
from click.testing import CliRunner

from streamcore.apps.fraud.clicks import CLICK
from streamcore.apps.fraud.intrusion import COLUMNS
from streamcore.apps.fraud.intrusion import SHIPPED as INTRUSION
from streamcore.apps.fraud.planted import TRANSACTION, PlantedTransactions
from streamcore.apps.online_mf.topology import SHIPPED as RATINGS
from streamcore.apps.sensors.topology import SHIPPED as CELSIUS
from streamcore.apps.sensors.topology import SHIPPED_KELVIN as KELVIN
from streamcore.apps.trending.topology import SHIPPED as EDITS
from streamcore.cli.main import cli
from streamcore.connectors.file_sink import read_jsonl


def streamcore(*arguments):
    done = CliRunner().invoke(cli, [*map(str, arguments), "--no-progress"])
    assert done.exit_code == 0, done.output
    return done.output


class Rig:
    """One app, run over files and over topics."""

    def __init__(self, broker, topic, directory, app):
        self._broker, self._topic, self._directory, self._app = broker, topic, directory, app

    def fill(self, name, file, *options):
        """A topic with what is in a file; gives its address, up to what is there now."""
        url = f"kafka://{self._broker.servers}/{self._topic}.{name}"
        streamcore("produce", file, url, *options)
        return f"{url}?stop=now"

    def over_files(self, **settings):
        self._run(output=self._directory / "out", **settings)

    def over_topics(self, **settings):
        sink = f"kafka://{self._broker.servers}/{self._topic}?partitions=3"
        options = ("--checkpoint-dir", self._directory / "checkpoints", "--checkpoint-interval", "200ms")
        return self._run(*options, sink=sink, **settings)

    def file_rows(self, name):
        return sorted(map(row_text, read_jsonl(self._directory / "out" / name)))

    def topic_rows(self, name):
        return sorted(row_text(json.loads(message.value)) for message in self.messages(name))

    def messages(self, name):
        return self._broker.read_committed(f"{self._topic}-{name}")

    def _run(self, *options, **settings):
        pairs = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        return streamcore("run", self._app, *options, *pairs)


def row_text(row):
    return json.dumps(row, sort_keys=True)


@pytest.fixture
def rig(broker, topic, tmp_path):
    return lambda app: Rig(broker, topic, tmp_path, app)


def head(source, target, lines):
    """The first lines of a gzip file, as a plain one."""
    with gzip.open(source, "rt", encoding="utf-8") as file:
        target.write_text("".join(itertools.islice(file, lines)), encoding="utf-8")
    return target


def test_sensors(rig, tmp_path):
    over = rig("sensors")
    files = {"input": head(CELSIUS, tmp_path / "celsius.csv", 4001), "kelvin": head(KELVIN, tmp_path / "k.csv", 2001)}
    over.over_files(**files, deviations=2)
    options = ("--key", "sensor", "--time", "time", "--partitions", "4")
    source, kelvin = (over.fill(name, path, *options) for name, path in files.items())
    said = over.over_topics(source=source, kelvin=kelvin, deviations=2)
    assert "results are in the topics" in said
    for name in ("by_count", "tumbling", "sliding", "readings", "alerts", "rejected"):
        assert over.topic_rows(name) == over.file_rows(name)
        assert name == "rejected" or over.topic_rows(name)
    assert {(message.key, json.loads(message.value)["sensor"]) for message in over.messages("readings")} == {
        (b"machine", "machine"),
        (b"office", "office"),
        (b"road", "road"),
    }
    # a sum of floats depends on the order of partial sums
    means, expected = (
        [json.loads(row) for row in rows] for rows in (over.topic_rows("means"), over.file_rows("means"))
    )
    assert [(row["sensor"], row["count"]) for row in means] == [(row["sensor"], row["count"]) for row in expected]
    assert [row["mean"] for row in means] == pytest.approx([row["mean"] for row in expected])


def test_trending(rig, tmp_path):
    over = rig("trending")
    edits = head(EDITS, tmp_path / "edits.jsonl", 8000)
    over.over_files(input=edits)
    over.over_topics(source=over.fill("edits", edits, "--key", "page", "--time", "time"))
    for name in ("windows", "totals", "late", "malformed"):
        assert over.topic_rows(name) == over.file_rows(name)
    assert len(over.topic_rows("windows")) > 20
    assert len(over.topic_rows("decayed")) == len(over.file_rows("decayed"))


def write_csv(path, names, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return path


def payments(path):
    planted = PlantedTransactions(200)(0, 6000)
    return write_csv(path, TRANSACTION.names, zip(*(planted[name].tolist() for name in TRANSACTION.names), strict=True))


def clicks(path):
    """From fifty addresses, of which one clicks on one app again and again."""
    start = datetime.datetime(2017, 11, 6, 16, tzinfo=datetime.UTC)
    rows = [
        (
            f"{start + datetime.timedelta(seconds=20 * i):%Y-%m-%dT%H:%M:%S}",
            i % 7 and i % 50,
            i % 3,
            1,
            2,
            3,
            i % 90 == 0,
        )
        for i in range(3000)
    ]
    return write_csv(path, CLICK.names, [(*row[:-1], int(row[-1])) for row in rows])


def connections(path):
    return head(INTRUSION, path, 5000)


@pytest.mark.parametrize(
    ("kind", "make", "options"),
    [
        ("cards", payments, ("--key", "card", "--time", "time")),
        ("clicks", clicks, ("--key", "ip", "--time", "click_time")),
        ("intrusion", connections, ("--key", "service", "--columns", ",".join(COLUMNS))),
    ],
)
def test_fraud(rig, tmp_path, kind, make, options):
    over = rig("fraud")
    path = make(tmp_path / "records.csv")
    over.over_files(input=path, kind=kind)
    over.over_topics(source=over.fill("records", path, *options), kind=kind)
    for name in ("alerts", "summary", "malformed"):
        assert over.topic_rows(name) == over.file_rows(name)
    assert over.topic_rows("alerts")


def test_online_mf(rig, tmp_path):
    """Its result depends on the order of ratings of different users, but what it counts does not."""
    over = rig("online_mf")
    ratings = head(RATINGS, tmp_path / "ratings.csv", 10_001)
    over.over_files(input=ratings)
    source = over.fill("ratings", ratings, "--key", "userId", "--time", "timestamp", "--time-unit", "s")
    over.over_topics(source=source)
    for name in ("users", "items"):
        found, expected = (
            sorted((row["id"], row["ratings"]) for row in map(json.loads, rows))
            for rows in (over.topic_rows(name), over.file_rows(name))
        )
        assert found == expected
    (found,), (expected,) = (
        [json.loads(row) for row in rows] for rows in (over.topic_rows("rmse"), over.file_rows("rmse"))
    )
    assert found["ratings"] == expected["ratings"] == 10_000
    assert found["rmse"] == pytest.approx(expected["rmse"], rel=0.03)
