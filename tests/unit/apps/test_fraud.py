"""The fraud app: what is planted, what the judges say, and the app on shipped and on written data."""

import gzip
import math
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest

from streamcore import StreamcoreError, StreamEnvironment
from streamcore.apps.fraud import cards, intrusion
from streamcore.apps.fraud.planted import BURST_LENGTH, KINDS, PlantedTransactions
from streamcore.apps.fraud.topology import APP, build
from streamcore.connectors.file_sink import read_jsonl

PLANTED = PlantedTransactions(500)
MINUTE, HOUR = 60_000, 3_600_000


def payment(time, amount=20.0, lat=48.85, lon=2.35, fraud=-1):
    return PlantedTransactions(1)(0, 1).to_rows()[0]._replace(time=time, amount=amount, lat=lat, lon=lon, fraud=fraud)


def judged(*payments):
    card, results = cards.Card(), []
    for one in payments:
        card, result = cards.judge(card, one)
        results.append(result)
    return results


def run(output, **settings):
    env = StreamEnvironment()
    build(env, output=str(output), **settings)
    result = env.execute()
    given = {"kind": "cards", "input": "", "source": "", "sink": "", **settings}
    return read_jsonl(f"{output}/alerts"), read_jsonl(f"{output}/summary"), APP.report(result, output=output, **given)


def test_planted_payments_depend_on_their_index_alone():
    whole = PLANTED(0, 5000)
    for name in whole.schema.names:
        parts = np.concatenate([PLANTED(start, start + 100)[name] for start in range(0, 5000, 100)])
        assert (parts == whole[name]).all()
    assert (np.diff(whole["time"]) >= 0).all()


def test_each_kind_of_fraud_is_planted_in_turn():
    rows = PLANTED(0, 3 * PLANTED.period).to_rows()
    assert Counter(KINDS[row.fraud] for row in rows) == {
        "honest": 3 * PLANTED.period - BURST_LENGTH - 2,
        "burst": BURST_LENGTH,
        "travel": 1,
        "amount": 1,
    }
    burst = [row for row in rows if KINDS[row.fraud] == "burst"]
    assert len({row.card for row in burst}) == 1
    assert (burst[-1].time - burst[0].time) / (BURST_LENGTH - 1) == pytest.approx(10_000, abs=PLANTED.spacing_ms)


def test_the_first_payment_of_a_card_is_not_suspicious():
    (first,) = judged(payment(0, amount=99_999.0))
    assert first.score < 0.01
    assert (first.velocity, first.km, first.deviations) == (1.0, 0.0, 0.0)


def test_velocity_halves_in_a_minute():
    *_, last = judged(payment(0), payment(MINUTE), payment(3 * MINUTE))
    assert last.velocity == pytest.approx(1 + (1 + 0.5) * 0.25)
    *_, last = judged(*(payment(second * 1000) for second in range(6)))
    assert last.score > 0.9
    assert cards.reasons(last) == [f"velocity: {last.velocity:.1f} payments a minute"]


def test_distance_and_speed():
    _, home = judged(payment(0), payment(2 * HOUR, lat=40.71, lon=-74.0))
    assert home.km == pytest.approx(5837, abs=3)  # Paris to New York
    assert home.kmh == pytest.approx(home.km / 2)
    assert home.score > 0.99
    assert "distance" in cards.reasons(home)[0]
    _, near = judged(payment(0), payment(1000, lat=48.95))
    assert near.score < 0.05  # eleven kilometres in a second are two shops that share a clock


def test_amount_against_the_card_s_usual():
    usual = [payment(n * 8 * HOUR, amount=20.0 * (1 + n % 3)) for n in range(20)]
    *_, large = judged(*usual, payment(170 * HOUR, amount=5000.0))
    assert large.score > 0.9
    assert "amount" in cards.reasons(large)[0]
    *_, fair = judged(*usual, payment(170 * HOUR, amount=90.0))
    assert fair.score < 0.1


def test_payments_before_the_last_one_are_taken_as_of_its_time():
    _, earlier = judged(payment(HOUR), payment(0))
    assert earlier.velocity == 2.0


def test_compiled_and_plain_judge_agree(tmp_path):
    count = 3000
    alerts, summary, report = run(tmp_path, payments=count, cards_in_all=500)
    state, expected = defaultdict(cards.Card), []
    for row in PLANTED(0, count).to_rows():
        state[row.card], one = cards.judge(state[row.card], row)
        expected.append(one)
    flagged = [one for one in expected if one.score >= 0.5]
    assert sorted((a["time"], a["card"], a["velocity"], a["km"]) for a in alerts) == sorted(
        (one.time, one.card, one.velocity, one.km) for one in flagged
    )
    assert {(line["class"], line["records"], line["alerts"]) for line in summary} == {
        (name, sum(one.fraud == n for one in expected), sum(one.fraud == n for one in flagged))
        for n, name in enumerate(KINDS)
    }
    assert "precision" in report


def test_payments_from_a_file_without_labels(tmp_path):
    path = tmp_path / "payments.csv.gz"
    lines = [f"{n * 1000},7,20.5,48.8,2.3,-1\n" for n in range(10)]
    path.write_bytes(gzip.compress(("time,card,amount,lat,lon,fraud\n" + "".join(lines)).encode()))
    alerts, summary, report = run(tmp_path / "out", input=str(path))
    assert summary == [{"class": "unknown", "records": 10, "alerts": len(alerts)}]
    assert 5 <= len(alerts) < 10
    assert "precision" not in report


def test_connections_against_the_same_rules_in_polars(tmp_path):
    count = 60_000
    with gzip.open(intrusion.SHIPPED, "rb") as file:
        data = b"".join(line for line, _ in zip(file, range(count), strict=False))
    path = tmp_path / "connections.csv"
    path.write_bytes(data)
    table = pl.read_csv(data, has_header=False, new_columns=list(intrusion.COLUMNS))
    c = pl.col
    broken = table.select(
        label=c("label").str.strip_chars_end("."),
        echo_flood=(c("protocol") == "icmp") & (c("srv_count") >= 50),
        ping_sweep=(c("protocol") == "icmp")
        & (c("srv_diff_host_rate") >= 0.5)
        & (c("dst_host_same_src_port_rate") >= 0.9),
        half_open=(c("serror_rate") >= 0.5) & (c("count") >= 5),
        port_scan=(c("rerror_rate") >= 0.5) & ((c("count") >= 20) | (c("diff_srv_rate") >= 0.5)),
        slow_scan=(c("dst_host_diff_srv_rate") >= 0.5) & (c("dst_host_rerror_rate") >= 0.5),
        malformed=(c("wrong_fragment") > 0) | (c("land") > 0),
        guessing=c("num_failed_logins") > 0,
        intruder=(c("root_shell") > 0) | (c("num_compromised") > 2) | (c("num_file_creations") > 2) | (c("hot") >= 10),
    )
    alerts, summary, report = run(tmp_path / "out", kind="intrusion", input=str(path), at_once=0)
    found = Counter(rule for alert in alerts for rule in alert["rules"].split(",") if rule)
    assert found == {name: n for name in intrusion.RULES if (n := broken[name].sum())}
    labels = dict(broken["label"].value_counts().iter_rows())
    assert {line["class"]: line["records"] for line in summary} == labels
    caught = sum(line["alerts"] for line in summary if line["class"] != "normal")
    assert caught / (count - labels["normal"]) > 0.85
    assert "precision 0.98" in report


def test_the_size_of_a_connection_against_its_service_s(tmp_path):
    with gzip.open(intrusion.SHIPPED, "rt") as file:
        first = file.readline().split(",")
    assert first[4] == "181"
    lines = [[*first[:4], str(200 + n % 7), *first[5:]] for n in range(100)]
    lines.append([*first[:4], "54540", *first[5:]])
    path = tmp_path / "connections.csv"
    path.write_text("".join(map(",".join, lines)))
    alerts, _, _ = run(tmp_path / "out", kind="intrusion", input=str(path), threshold=0.2)
    assert [(alert["number"], alert["src_bytes"]) for alert in alerts] == [(101, 54540)]
    off = math.log1p(54540) - math.log1p(203)
    assert alerts[0]["deviations"] == pytest.approx(off, rel=0.05)  # the spread is at its least, 1


def test_clicks_by_velocity_and_repeats(tmp_path):
    lines = ["click_time,ip,app,device,os,channel,is_attributed\n"]
    lines += [f"2017-11-06T16:{n:02d},1,{n},1,1,5,0\n" for n in range(10)]  # ten clicks of an address in ten minutes
    lines += [f"2017-11-06T{16 + n}:00,2,3,1,1,5,{n % 2}\n" for n in range(4)]
    path = tmp_path / "clicks.csv"
    path.write_text("".join(lines))
    alerts, summary, report = run(tmp_path / "out", kind="clicks", input=str(path))
    assert {alert["ip"] for alert in alerts} == {1}
    assert 4 <= len(alerts) <= 7
    assert {(line["class"], line["records"]) for line in summary} == {("no download", 12), ("download", 2)}
    assert "downloads after 0.000% of the flagged clicks" in report


def clicks_of_three_addresses():
    yield "click_time,ip,app,device,os,channel,is_attributed\n"
    for n in range(4000):
        yield f"2017-11-0{6 + n // 1440}T{n // 60 % 24:02d}:{n % 60:02d},{n % 3},{n * 7 % 5},{n % 4},1,5,0\n"


def payments_of_three_cards():
    yield "time,card,amount,lat,lon,fraud\n"
    for n in range(4000):
        yield f"{n * 7000},{n % 3},{10 + n % 9},{48 + n % 5},2.3,-1\n"


def some_connections():
    with gzip.open(intrusion.SHIPPED, "rt") as file:
        yield from (line for line, _ in zip(file, range(12_000), strict=False))


@pytest.mark.parametrize(
    ("kind", "lines"),
    [("cards", payments_of_three_cards), ("clicks", clicks_of_three_addresses), ("intrusion", some_connections)],
)
def test_records_of_a_key_keep_their_order_at_any_parallelism(tmp_path, kind, lines):
    path = tmp_path / "input.csv"
    path.write_text("".join(lines()))
    found = []
    for parallelism in (1, 3):
        env = StreamEnvironment(parallelism=parallelism, batch_size=64)
        build(env, kind=kind, input=str(path), output=str(tmp_path / "out"), at_once=3)
        env.execute()
        found.append(sorted(map(repr, read_jsonl(tmp_path / "out" / "alerts"))))
    assert len(found[0]) > 5
    assert found[0] == found[1]


def test_what_makes_no_sense(tmp_path):
    with pytest.raises(StreamcoreError, match="no kind 'mail'"):
        build(StreamEnvironment(), kind="mail", output=str(tmp_path))
    with pytest.raises(StreamcoreError, match="no click log ships"):
        build(StreamEnvironment(), kind="clicks", output=str(tmp_path))


def test_of_a_flood_a_few_alerts_are_written_and_the_others_counted(tmp_path):
    srv_count = intrusion.COLUMNS.index("srv_count")
    with gzip.open(intrusion.SHIPPED, "rt") as file:
        smurf = next(line for line in file if "smurf" in line and int(line.split(",")[srv_count]) >= 50)
    path = tmp_path / "flood.csv"
    path.write_text(smurf * 3000)
    alerts, summary, report = run(tmp_path / "out", kind="intrusion", input=str(path), at_once=4)
    assert [(alert["number"], alert["held_back"]) for alert in alerts] == [
        *((number, 0) for number in (1, 2, 3, 4)),
        (1001, 996),
        (2001, 999),
    ]
    assert summary == [{"class": "smurf", "records": 3000, "alerts": 3000}]
    assert "3,000 flagged, 6 alerts" in report


def test_payments_that_can_not_be_are_kept_from_the_averages(tmp_path):
    path = tmp_path / "payments.csv"
    good = [f"{n},7,20.5,48.8,2.3,{label}" for n, label in enumerate((0, 9, -1, -5))]
    bad = ["4,7,nan,48.8,2.3,0", "5,7,20.5,inf,2.3,0", "6,7,20.5,91,2.3,0", "7,7,20.5,48.8,-181,0", "8,7,-1e13,1,1,0"]
    path.write_text("\n".join(["time,card,amount,lat,lon,fraud", *bad, *good, "soon,7,20.5,48.8,2.3,0", ""]))
    alerts, summary, report = run(tmp_path / "out", input=str(path), threshold=0.0)
    assert [alert["velocity"] for alert in alerts] == pytest.approx([1, 2, 3, 4], abs=1e-3)
    assert {(line["class"], line["records"]) for line in summary} == {("honest", 1), ("unknown", 3)}
    assert len(read_jsonl(tmp_path / "out" / "rejected")) == 5
    assert "5 payments can't be" in report
    assert "line 11: column 'time' is 'soon'" in report


def test_connections_and_clicks_that_can_not_be_read_are_kept_apart(tmp_path):
    path = tmp_path / "input.csv"
    with gzip.open(intrusion.SHIPPED, "rt") as file:
        path.write_text(file.readline() + "not,a,connection\n")
    _, summary, report = run(tmp_path / "intrusion", kind="intrusion", input=str(path))
    assert [line["records"] for line in summary] == [1]
    assert "1 records could not be read" in report
    assert "reasons" not in report
    path.write_text(
        "click_time,ip,app,device,os,channel,is_attributed\n2017-11-06T16:00,1,1,1,1,5,0\nnow,1,1,1,1,5,0\n"
    )
    _, summary, report = run(tmp_path / "clicks", kind="clicks", input=str(path))
    assert [line["records"] for line in summary] == [1]
    assert "line 3: column 'click_time' is 'now'" in report
