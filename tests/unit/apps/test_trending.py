"""trending on real edits and on text, against counting in plain Python and the published figures of the data."""

import gzip
import json
import re
from collections import Counter, defaultdict
from datetime import datetime

import pytest

from streamcore import StreamEnvironment
from streamcore.apps.trending.report import report
from streamcore.apps.trending.topology import SHIPPED, build
from streamcore.connectors.file_sink import read_jsonl

HOUR, PERIOD = 3_600_000, 600_000
PER_HOUR = [268, 1144, 1102, 815, 824, 1260, 2120, 2237, 1622, 1704, 1792, 1624]
PER_HOUR += [1709, 2073, 1873, 1965, 1959, 2300, 2170, 2013, 1832, 1766, 1590, 1482]
TOP = [
    ("#en.wikipedia", "Jeremy Corbyn", 18),
    ("#en.wikipedia", "Total Drama Presents: The Ridonculous Race", 15),
    ("#fr.wikipedia", "Chronologie de la Lorraine", 12),
    ("#ru.wikipedia", "Гомосексуальный образ жизни", 12),
    ("#en.wikipedia", "Kim Davis (county clerk)", 11),
]


@pytest.fixture(scope="module")
def edits():
    """(time in milliseconds, channel, page) of every edit."""
    with gzip.open(SHIPPED, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return [(round(datetime.fromisoformat(e["time"]).timestamp() * 1000), e["channel"], e["page"]) for e in lines]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The output of a run with the defaults."""
    output = tmp_path_factory.mktemp("trending")
    build(env := StreamEnvironment("trending", parallelism=2), output=str(output))
    env.execute()
    return output


def run(tmp_path, **settings):
    build(env := StreamEnvironment("trending"), output=str(tmp_path / "out"), **settings)
    env.execute()
    return {name: read_jsonl(tmp_path / "out" / name) for name in ("windows", "totals", "decayed")}


def ranked(lines, value, *key):
    """By the end of each window: the keywords in order of rank, with their value."""
    found = defaultdict(list)
    for line in sorted(lines, key=lambda line: line["rank"]):
        found[line["window_end"]].append((*(line[name] for name in key), line[value]))
        assert line["rank"] == len(found[line["window_end"]])
    return found


def top(counter, k):
    return [(*key, n) for key, n in sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:k]]


def test_the_hours_are_those_of_the_data_and_their_top_pages_those_of_a_counter(edits, shipped):
    totals = sorted(read_jsonl(shipped / "totals"), key=lambda line: line["window_start"])
    assert [line["count"] for line in totals] == PER_HOUR
    hours = defaultdict(Counter)
    for time, channel, page in edits:
        hours[time // HOUR * HOUR + HOUR][channel, page] += 1
    found = ranked(read_jsonl(shipped / "windows"), "count", "channel", "page")
    assert found == {end: top(counter, 10) for end, counter in hours.items()}


def test_decayed_counts_are_sums_of_halving_weights(edits, shipped):
    found = ranked(read_jsonl(shipped / "decayed"), "score", "channel", "page")
    periods = defaultdict(list)
    for time, *page in edits:
        periods[time // PERIOD * PERIOD + PERIOD].append((time, *page))
    scores, last = Counter(), 0
    for end in sorted(periods):
        shrunk = 0.5 ** ((end - last) / HOUR)
        scores = Counter({page: score * shrunk for page, score in scores.items() if score * shrunk >= 0.01})
        for time, *page in periods[end]:
            scores[tuple(page)] += 0.5 ** ((end - time) / HOUR)
        best = sorted(scores.values(), reverse=True)[:10]
        assert [score for *_, score in found[end]] == pytest.approx(best, abs=1e-6)
        assert all(scores[tuple(page)] == pytest.approx(score, abs=1e-6) for *page, score in found[end])
        last = end
    assert set(found) == set(periods)


def test_the_top_articles_of_the_day_are_the_published_ones(tmp_path):
    found = run(tmp_path, window=86_400.0, k=6, namespace="Main")
    (day,) = ranked(found["windows"], "count", "channel", "page").values()
    assert day[:4] == TOP[:4]
    assert set(TOP) < set(day)


def test_sliding_windows(edits, tmp_path):
    found = run(tmp_path, every=1800.0, k=3)
    half_hours = defaultdict(Counter)
    for time, *page in edits:
        end = time // (HOUR // 2) * (HOUR // 2) + HOUR // 2
        half_hours[end][tuple(page)] += 1
        half_hours[end + HOUR // 2][tuple(page)] += 1
    expected = {end: top(counter, 3) for end, counter in half_hours.items()}
    assert ranked(found["windows"], "count", "channel", "page") == expected
    assert sum(line["count"] for line in found["totals"]) == 2 * len(edits)


@pytest.mark.parametrize("compress", [False, True])
def test_words_of_a_text_by_line(tmp_path, compress):
    lines = [f"The end, the {'sea' if n % 3 else 'END'}; it's {n}!" for n in range(25)] + ["", "Déjà vu"]
    path = tmp_path / ("text.txt.gz" if compress else "text.txt")
    text = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(text) if compress else text)
    found = run(tmp_path, input=str(path), window=10.0, period=10.0, k=2)
    expected = defaultdict(Counter)
    for number, line in enumerate(lines):
        expected[number // 10 * 10_000 + 10_000].update((word,) for word in re.findall("[a-z]+", line.lower()))
    assert ranked(found["windows"], "count", "word") == {end: top(words, 2) for end, words in expected.items()}
    assert {line["window_end"]: line["count"] for line in found["totals"]} == {
        end: words.total() for end, words in expected.items()
    }
    assert found["decayed"][0]["word"] == "the"


def test_edits_out_of_order_are_counted_if_they_are_told_to_be(edits, tmp_path):
    path = tmp_path / "edits.jsonl"
    last = [("2015-09-12T11:00:30Z", "b")] * 50
    rows = [("2015-09-12T10:00:00Z", "a"), *last, ("2015-09-12T10:59:00Z", "a"), *last]
    path.write_text("".join(json.dumps({"time": t, "channel": "x", "page": p}) + "\n" for t, p in rows))
    assert [line["count"] for line in run(tmp_path, input=str(path), out_of_order=90.0)["totals"]] == [2, 100]
    assert read_jsonl(tmp_path / "out" / "late") == []
    build(env := StreamEnvironment("trending", batch_size=10), input=str(path), output=str(tmp_path / "out"))
    env.execute()
    assert [line["count"] for line in read_jsonl(tmp_path / "out" / "totals")] == [1, 100]
    late = [{"channel": "x", "page": "a", "time": 1_442_055_540_000}]
    assert read_jsonl(tmp_path / "out" / "late") == late
    assert "1 came after their window's end" in report(str(tmp_path / "out"), is_text=False)


def test_the_report_shows_windows_and_what_trends(shipped, tmp_path):
    text = report(str(shipped), is_text=False)
    assert "24 windows with 39,244 counted keywords" in text
    assert "2015-09-12 18:00 - 2015-09-12 19:00   2,170  #tr.wikipedia Roma Cumhuriyeti 7" in text
    assert "trending at 2015-09-13 00:00: #en.wikipedia 67th Primetime Creative Arts Emmy Awards 3.95" in text
    (tmp_path / "empty.txt").write_text("12\n")
    run(tmp_path, input=str(tmp_path / "empty.txt"))
    assert report(str(tmp_path / "out"), is_text=True).startswith("no keywords were found")
