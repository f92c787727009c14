"""Records that can't be read are kept apart and told by every app alike; settings out of their limits are refused."""

import json
from importlib import import_module

import pytest

from streamcore import StreamcoreError, StreamEnvironment
from streamcore.apps.conventions import check_setting
from streamcore.connectors.file_sink import read_jsonl

FAR = "9999-01-01T00:00:00Z"


def edit(time="2015-09-12T10:00:00Z", **other):
    fields = {"channel": "x", "page": "p", "namespace": "Main", "user": 1, "country": None, "added": 5}
    return json.dumps({"time": time, **fields, "isAnonymous": False, "isRobot": False, **other})


GAMES = "player\ttimestamp\tseconds\tpath\ttarget\ttype"
INPUTS = {
    # app, name of the file, its lines, and what is said of the first that can't be read
    "no number": ("sensors", "x.csv", ["time,value", "2020-01-01 00:00:00,1", "2020-01-01 00:00:01,warm"], "line 3"),
    "a reading of the far future": (
        "sensors",
        "x.csv",
        ["time,value", "2020-01-01 00:00:00,1", f"{FAR[:-1]},2"],
        "ahead",
    ),
    "no JSON": ("trending", "x.jsonl", [edit(), "not json"], "line 2: JSON"),
    "an edit of the far future": ("trending", "x.jsonl", [edit(), edit(FAR)], "years ahead of the clock"),
    "a user by name": ("kpi", "x.jsonl", [edit(), edit(user="Ada")], "line 2: Expected `int`"),
    "an activity of the far future": ("kpi", "x.jsonl", [edit(), edit(FAR)], "years ahead of the clock"),
    "a game too wide": ("kpi", "x.tsv", [GAMES, "1\t1297054935\t9\ta;b\tc\ttimeout", "2\t3"], "line 3"),
    "a game of the far future": (
        "kpi",
        "x.tsv",
        [GAMES, "1\t1297054935\t9\ta;b\tc\ttimeout", "2\t1297054935000\t9\ta;b\tc\ttimeout"],
        "years ahead of the clock",
    ),
}


def run(app, output, **given):
    found = import_module(f"streamcore.apps.{app}.topology").APP
    settings = found.settings({name: str(value) for name, value in {"output": output, **given}.items()})
    found.make(env := StreamEnvironment(app), settings)
    return found.describe_result(env.execute(), settings)


@pytest.mark.parametrize("what", INPUTS)
def test_what_can_not_be_read_is_kept_apart(tmp_path, what):
    app, name, lines, expected = INPUTS[what]
    path = tmp_path / name
    path.write_text("\n".join([*lines, ""]))
    more = {"users": 10, "peeking_runs": 0} if app == "kpi" else {}
    report = run(app, tmp_path / "out", input=path, **more)
    (told,) = [line for line in report.splitlines() if "could not be read" in line]
    assert told.startswith("1 records")
    assert expected in told
    assert len(read_jsonl(tmp_path / "out" / "malformed")) == 1


def test_events_of_an_experiment_that_can_not_be_read(tmp_path):
    edits, events = tmp_path / "x.jsonl", tmp_path / "events.csv"
    edits.write_text(edit() + "\n")
    events.write_text("time,user,ad,variant,event\n0,1,video,a,impression\nnoon,1,video,a,click\n")
    report = run("kpi", tmp_path / "out", input=edits, experiment=events, peeking_runs=0)
    assert "events.csv, line 3: column 'time' is 'noon'" in report
    assert "a 0.00% of 1," in report
    events.write_text("time,user,ad,variant,event\n")
    assert "click-through" not in run("kpi", tmp_path / "out", input=edits, experiment=events, peeking_runs=0)


def test_events_before_1970(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(edit("1960-09-12T10:00:00Z") + "\n")
    report = run("trending", tmp_path / "out", input=path)
    assert "1960-09-12 10:00 - 1960-09-12 11:00       1  x p 1" in report
    assert "trending at 1960-09-12 10:10: x p 0.89" in report


WRONG = [
    ("sensors", "deviations", "-1"),
    ("sensors", "highest", "-200"),
    ("sensors", "highest", "nan"),
    ("sensors", "half_life_s", "0"),
    ("fraud", "threshold", "5"),
    ("fraud", "at_once", "-1"),
    ("fraud", "payments", "-1"),
    ("fraud", "cards_in_all", "0"),
    ("fraud", "rate", "-1"),
    ("fraud", "kind", "mail"),
    ("trending", "k", "0"),
    ("trending", "half_life", "0"),
    ("kpi", "users", "-1"),
    ("kpi", "rate", "2"),
    ("kpi", "effect", "0.95"),
    ("kpi", "seed", "-1"),
    ("kpi", "scale", "0"),
    ("kpi", "peeking_runs", "-1"),
    ("kpi", "every", "0"),
    ("dial", "rate", "0"),
    ("dial", "seconds", "0"),
]


@pytest.mark.parametrize(("app", "name", "value"), WRONG)
def test_a_setting_out_of_its_limits_is_wrong_usage(tmp_path, app, name, value):
    with pytest.raises(StreamcoreError) as caught:
        run(app, tmp_path / "out", **{name: value})
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_labels_are_looked_at_before_the_run(tmp_path):
    for name, text in (("none.csv", None), ("wrong.csv", "time,value\n1,2\n")):
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        with pytest.raises(StreamcoreError, match=f"{name} has no labels that can be used"):
            run("sensors", tmp_path / "out", labels=path)
    assert not (tmp_path / "out").exists()


def test_limits_are_told():
    with pytest.raises(StreamcoreError, match="setting n can't be 3") as caught:
        check_setting("n", 3, 0, 2)
    assert caught.value.hint == "it is from 0 to 2"
    check_setting("n", 3, 3, 3)
