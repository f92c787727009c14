"""kpi on real edits and games against plain Python, in any order of arrival, and on experiments with a known effect."""

import gzip
import json
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from streamcore import StreamEnvironment
from streamcore.apps.kpi.experiment import Effect
from streamcore.apps.kpi.peeking import peek
from streamcore.apps.kpi.report import final, report
from streamcore.apps.kpi.topology import APP, SHIPPED, build
from streamcore.connectors.file_sink import read_jsonl
from streamcore.operators.ab_test import TwoRates

GAMES = Path(__file__).parents[4] / "shared" / "data" / "trending" / "wikispeedia_unfinished_games.tsv.gz"
HOUR, DAY = 3_600_000, 86_400_000
KEY = ("channel", "namespace", "country", "is_robot", "is_anonymous")
STEPS = ["awareness", "activation", "conversion", "retention"]
ACTIVE = ("period", "channel", "period_start")


def run(output, **settings):
    build(env := StreamEnvironment("kpi", parallelism=2, batch_size=settings.pop("batch_size", 16_384)),
          output=str(output), **settings)  # fmt: skip
    env.execute()
    return read(output)


def read(output):
    return {path.name: read_jsonl(path) for path in Path(output).iterdir()}


@pytest.fixture(scope="module")
def edits():
    """The edits as they are in the file, with their time in milliseconds."""
    with gzip.open(SHIPPED, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    for line in lines:
        line["ms"] = round(datetime.fromisoformat(line["time"]).timestamp() * 1000)
    return lines


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    output = tmp_path_factory.mktemp("kpi")
    return run(output), output


def start_of(time, period):
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time)
    at = at.replace(hour=0, minute=0, second=0, microsecond=0)
    days = {"day": 0, "week": at.weekday(), "month": at.day - 1}[period]
    return round((at - timedelta(days=days)).timestamp() * 1000)


def active_users(records):
    """(events, users) by period, channel and start, of (time, user, channel)."""
    count, users = Counter(), defaultdict(set)
    for time, user, channel in records:
        for period in ("day", "week", "month"):
            for name in (channel, "*"):
                count[period, name, start_of(time, period)] += 1
                users[period, name, start_of(time, period)].add(user)
    return {place: (count[place], len(users[place])) for place in count}


def counts(lines, *key):
    return {place: (line["events"], line["users"]) for place, line in final(lines, *key).items()}


def by_key(edits):
    count, users = Counter(), defaultdict(set)
    for edit in edits:
        place = (edit["channel"], edit["namespace"], edit["country"] or "", edit["isRobot"], edit["isAnonymous"])
        place = (*place, start_of(edit["ms"], "day"))
        count[place] += 1
        users[place].add(edit["user"])
    return {place: (count[place], len(users[place])) for place in count}


def funnel(records, within, gap, period):
    """Users per cohort and step: records are (time, user, highest of the first three steps that it is). Any chain
    may begin with each record; steps are taken as early as possible."""
    times = defaultdict(list)
    for time, user, step in sorted(records):
        times[user].append((time, step))
    deepest = Counter()
    for user, taken in times.items():
        first, last = taken[0][0], taken[-1][0]
        in_one = last - first <= within and start_of(first, period) == start_of(last, period)
        for begin, _ in taken[:1] if in_one else taken:  # in one, no chain can get further than one that begins first
            reached, at = 1, begin
            for time, step in taken:
                if begin <= time <= begin + within:
                    while reached < 3 and step > reached:
                        reached, at = reached + 1, time
                    if reached == 3 and time >= at + gap:
                        reached = 4
            place = (user, start_of(begin, period))
            deepest[place] = max(deepest[place], reached)
    found = Counter()
    for (_, cohort), reached in deepest.items():
        found.update((cohort, name) for name in STEPS[:reached])
    return found


def funnel_of_edits(edits):
    def step(edit):
        return 1 if edit["namespace"] != "Main" else 3 if edit["added"] >= 100 else 2

    return funnel([(edit["ms"], edit["user"], step(edit)) for edit in edits], DAY, HOUR, "day")


def test_active_users_are_those_of_sets(edits, shipped):
    lines = shipped[0]["active"]
    found = counts(lines, *ACTIVE)
    assert found == active_users((edit["ms"], edit["user"], edit["channel"]) for edit in edits)
    day = start_of(edits[0]["ms"], "day")
    published = {"#en.wikipedia": (11549, 4343), "#vi.wikipedia": (9747, 57), "#de.wikipedia": (2523, 895)}
    published |= {"#fr.wikipedia": (2099, 787), "#ru.wikipedia": (1386, 579)}
    assert {channel: found["day", channel, day] for channel in published} == published
    overall = [line for line in lines if line["channel"] == "*" and line["period"] == "day"]
    assert sorted(line["revision"] for line in overall) == list(range(1, 25)), "a line an hour"


def test_unique_users_of_five_columns_are_those_of_sets(edits, shipped):
    assert counts(shipped[0]["keys"], *KEY, "period_start") == by_key(edits)


def test_the_funnel_counts_the_users_whose_chain_of_edits_gets_so_far(edits, shipped):
    last = final(shipped[0]["funnel"], "cohort_start", "step")
    users = {place: line["users"] for place, line in last.items()}
    assert Counter(users) == funnel_of_edits(edits)
    day = start_of(edits[0]["ms"], "day")
    for place, name in enumerate(STEPS):
        line = last[day, name]
        assert line["of_previous"] == users[day, name] / users[day, STEPS[max(place - 1, 0)]]
        assert line["of_first"] == users[day, name] / users[day, "awareness"]


def test_the_experiment_is_that_which_was_made(shipped):
    made = [row for row in Effect(20_000, 0.1, 0.02, 1).make(0, 60_000).to_rows() if row.event]
    shown = {row.user: row for row in made if row.event == "impression"}
    done = {event: {row.user for row in made if row.event == event} for event in ("click", "conversion")}
    (line,) = final(shipped[0]["experiment"], "cohort_start").values()
    seen = []
    for variant in "ab":
        users = {user for user, row in shown.items() if row.variant == variant}
        assert (line[f"conversions_{variant}"], line[f"users_{variant}"]) == (
            len(users & done["conversion"]),
            len(users),
        )
        seen += [len(users & done["conversion"]), len(users)]
    test = TwoRates(*seen, scale=0.02)
    assert line["sequential_p_value"] == test.sequential_p_value() < 0.01
    assert (line["low"], line["high"]) == test.interval()
    assert line["sequential_low"] < line["low"] < line["difference"] == test.difference < line["high"]
    clicks = {ad: line for (ad, _), line in final(shipped[0]["click_through"], "ad", "cohort_start").items()}
    for ad, line in clicks.items():
        users = {user for user, row in shown.items() if row.ad == ad}
        assert (line["shown"], line["clicked"]) == (len(users), len(users & done["click"]))
        assert line["low"] < line["rate"] == line["clicked"] / line["shown"] < line["high"]
    assert set(clicks) == {"banner", "search", "video"}


def on_day(edit, days):
    time = datetime.fromisoformat(edit["time"]) + timedelta(days=days)
    return {**edit, "time": time.isoformat(), "ms": edit["ms"] + days * DAY}


@pytest.mark.parametrize("seed", range(3))
def test_the_last_revisions_are_the_same_in_any_order_of_arrival(edits, tmp_path, seed):
    chance = random.Random(seed)
    some = [on_day(edit, chance.randrange(3)) for edit in chance.sample(edits, 400)]
    some.sort(key=lambda edit: edit["ms"] + chance.choice([0, 9 * HOUR, 2 * DAY]))
    path = tmp_path / "shuffled.jsonl"
    path.write_text("".join(json.dumps(edit) + "\n" for edit in some))
    events = [row for row in Effect(300, 0.3, 0.1, seed).make(0, 900).to_rows() if row.event]
    chance.shuffle(events)
    made = tmp_path / "events.csv"
    made.write_text("time,user,ad,variant,event\n" + "".join(",".join(map(str, row)) + "\n" for row in events))
    found = run(
        tmp_path / "out", input=str(path), experiment=str(made), every=86_400.0, batch_size=chance.randint(1, 60)
    )
    assert counts(found["active"], *ACTIVE) == active_users((e["ms"], e["user"], e["channel"]) for e in some)
    assert counts(found["keys"], *KEY, "period_start") == by_key(some)
    last = final(found["funnel"], "cohort_start", "step")
    assert Counter({place: line["users"] for place, line in last.items()}) == funnel_of_edits(some)
    (tested,) = final(found["experiment"], "cohort_start").values()
    shown = {row.user: row.variant for row in events if row.event == "impression"}
    converted = Counter(shown[row.user] for row in events if row.event == "conversion")
    assert (tested["users_a"], tested["users_b"]) == tuple(Counter(shown.values())[v] for v in "ab")
    assert (tested["conversions_a"], tested["conversions_b"]) == (converted["a"], converted["b"])
    assert found["late"] == []
    assert any(line["revision"] > 1 for line in found["keys"]), "records came late, since a slice is a day"


def test_what_comes_after_the_lateness_is_told_per_metric(edits, tmp_path):
    path = tmp_path / "edits.jsonl"
    path.write_text("".join(json.dumps(edit) + "\n" for edit in (on_day(edits[0], 2), *edits[:300])))
    found = run(tmp_path / "out", input=str(path), lateness=0.0, users=10, batch_size=1)
    metrics = Counter(line["metric"] for line in found["late"])
    assert set(metrics) == {"active_day", "active_week", "keys", "funnel"}, "the 13th is a Sunday"
    counted = {place: events for place, (events, _) in counts(found["active"], *ACTIVE).items()}
    day = sum(events for (period, channel, _), events in counted.items() if period == "day" and channel != "*")
    overall = sum(events for (period, channel, _), events in counted.items() if period == "day" and channel == "*")
    assert day + overall + metrics["active_day"] == 2 * 301


@pytest.mark.skipif(not GAMES.is_file(), reason=f"the Wikispeedia games are not distributed; there is no {GAMES}")
def test_games_of_three_years(tmp_path):
    found = run(tmp_path, input=str(GAMES), every=7 * 86_400.0, users=100)
    with gzip.open(GAMES, "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    assert len(rows) == 24_875
    games = [(int(time) * 1000, int(player), path.count(";") + 1, kind) for player, time, _, path, _, kind in rows]
    assert counts(found["active"], *ACTIVE) == active_users((time, user, kind) for time, user, _, kind in games)
    steps = [(time, user, 3 if pages >= 10 else 2 if pages >= 3 else 1) for time, user, pages, _ in games]
    last = final(found["funnel"], "cohort_start", "step")
    users = {place: line["users"] for place, line in last.items() if line["users"]}
    assert Counter(users) == funnel(steps, 30 * DAY, DAY, "month")


def test_peeking_fools_the_p_value_for_one_look_but_not_the_sequential_one():
    none, some = (peek(0.1, effect, runs=1000, scale=0.02, seed=1) for effect in (0.0, 0.02))
    assert none.naive > 0.25
    assert none.sequential <= 0.05
    assert some.sequential > 0.9
    assert 1000 < some.users < 8000
    assert peek(0.1, 0.0, runs=1, scale=0.02, seed=1).users is None


def test_made_experiments_are_pure_and_have_their_rates():
    effect = Effect(60_000, 0.2, 0.1, 3)
    whole = effect.make(0, 180_000)
    assert whole.slice(70, 95) == effect.make(70, 95)
    user, event = whole["user"], np.array(whole["event"].to_pylist())
    variant = np.array(whole["variant"].to_pylist())
    for name, rate in (("a", 0.2), ("b", 0.3)):
        users = set(user[(variant == name) & (event == "impression")].tolist())
        assert 29_000 < len(users) < 31_000
        assert ((event == "conversion") & (variant == name)).sum() / len(users) == pytest.approx(rate, abs=0.01)


def test_the_report_has_every_figure(shipped):
    text = report(APP.settings({"output": str(shipped[1])}))
    assert "active per day: 2015-09-12 10,531 users, 39,244 events  (last: #en.wikipedia 4,343" in text
    assert "9,653 events      9 users  #vi.wikipedia Main - True False" in text
    assert "funnel of 2015-09-12: awareness 10,531 (100%)" in text
    assert "A/B test of 2015-09-01" in text
    assert "click-through: banner" in text
    assert "peeking: 1,000 experiments" in text
    assert "peeking" not in report(APP.settings({"output": str(shipped[1]), "peeking_runs": "0"}))
