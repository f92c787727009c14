from __future__ import annotations

import sys

import pytest

import streamcore
from streamcore import App, StreamEnvironment
from streamcore.cli.targets import app_names, build_topology, load_app
from streamcore.errors import TopologyError, UsageError


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    """The path and the modules as they were, after each test."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def apps(tmp_path, monkeypatch):
    """A package `streamcore.apps` of two apps, as setup.py installs one."""
    root = tmp_path / "installed"
    for name, text in {
        "fine": "from streamcore import App\nAPP = App('fine', lambda env: None, summary='does nothing')\n",
        "broken": "import no_such_module\n",
        "empty": "",
    }.items():
        (root / "apps" / name).mkdir(parents=True)
        (root / "apps" / name / "__init__.py").write_text("")
        (root / "apps" / name / "topology.py").write_text(text)
    (root / "apps" / "__init__.py").write_text("")
    (root / "apps" / "notes").mkdir()
    monkeypatch.setattr(streamcore, "__path__", [str(root)])
    known = [name for name in sys.modules if name.startswith("streamcore.apps")]
    for name in known:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(streamcore, "apps", raising=False)


def write(tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(target):
    with pytest.raises(UsageError) as caught:
        load_app(str(target))
    return str(caught.value)


def test_a_function_of_a_file_becomes_an_app(tmp_path):
    path = write(tmp_path, "tt_fine.py", "from tt_help import K\ndef build(env, *, n: int = 2): env.n = n * K\n")
    write(tmp_path, "tt_help.py", "K = 10\n")
    app = load_app(f"{path}:build")
    assert app.name == "tt_fine"
    env = StreamEnvironment()
    build_topology(app, env, app.settings({"n": "3"}))
    assert env.n == 30


def test_a_file_can_be_imported_by_name_as_workers_do(tmp_path):
    path = write(tmp_path, "tt_named.py", "def build(env): pass\n")
    app = load_app(f"{path}:build")
    assert sys.path[0] == str(tmp_path)
    assert sys.modules["tt_named"].build is app.build


def test_an_app_of_a_file_is_taken_as_it_is(tmp_path):
    path = write(tmp_path, "tt_app.py", "from streamcore import App\nTHE_APP = App('given', lambda env: None)\n")
    assert load_app(f"{path}:THE_APP").name == "given"


def test_a_file_is_loaded_once(tmp_path):
    path = write(tmp_path, "tt_once.py", "def build(env): pass\n")
    assert load_app(f"{path}:build").build is load_app(f"{path}:build").build


def test_a_missing_file_is_named(tmp_path):
    assert f"there is no file {tmp_path}/nowhere.py" in refused(tmp_path / "nowhere.py:build")


def test_a_missing_function_lists_the_candidates(tmp_path):
    text = "from json import dumps\ndef build(env): pass\ndef other(env): pass\ndef _hidden(env): pass\nN = 1\n"
    path = write(tmp_path, "tt_functions.py", text)
    message = refused(f"{path}:biuld")
    assert "has no function 'biuld'; did you mean 'build'?" in message
    assert message.endswith("it has: build, other")
    assert "has no function 'N'" in refused(f"{path}:N")


def test_a_file_alone_lists_the_candidates(tmp_path):
    path = write(tmp_path, "tt_alone.py", "def build(env): pass\n")
    assert f"write {path}:NAME; it has: build" in refused(path)


def test_a_function_without_parameters_is_refused(tmp_path):
    path = write(tmp_path, "tt_bare.py", "def build(): pass\n")
    assert "takes no environment" in refused(f"{path}:build")


@pytest.mark.parametrize("name", ["json.py", "zipimport.py", "wave.py", "sys.py"])
def test_a_name_of_another_module_is_refused(tmp_path, name):
    path = write(tmp_path, name, "def build(env): pass\n")
    sys.modules.pop("wave", None)
    message = refused(f"{path}:build")
    assert "that is the name of another module" in message
    assert "rename the file" in message


def test_a_package_of_the_same_name_is_refused(tmp_path):
    path = write(tmp_path, "tt_twice.py", "def build(env): pass\n")
    write(tmp_path, "tt_twice/__init__.py", "")
    assert str(tmp_path / "tt_twice" / "__init__.py") in refused(f"{path}:build")


def test_a_plain_directory_of_the_same_name_is_no_clash(tmp_path):
    path = write(tmp_path, "sub/tt_folder.py", "def build(env): pass\n")
    (tmp_path / "tt_folder").mkdir()
    sys.path.insert(0, str(tmp_path))
    assert load_app(f"{path}:build").name == "tt_folder"


def test_a_name_with_a_dot_is_refused(tmp_path):
    path = write(tmp_path, "tt.v2.py", "def build(env): pass\n")
    assert "its name has a dot" in refused(f"{path}:build")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("def build(env): pass\nprint(1 / 0)\n", "print(1 / 0)"),
        ("def build(env:\n", "SyntaxError"),
        ("import tt_not_there\n", "No module named 'tt_not_there'"),
        ("from streamcore import NoSuchName\n", "cannot import name 'NoSuchName'"),
    ],
)
def test_an_import_that_fails_shows_the_users_lines_alone(tmp_path, text, shown):
    path = write(tmp_path, "tt_raises.py", text)
    message = refused(f"{path}:build")
    assert shown in message
    frames = [line for line in message.splitlines() if line.lstrip().startswith('File "')]
    assert frames
    assert all("tt_raises.py" in frame for frame in frames)


def test_a_build_that_raises_shows_the_users_lines_alone(tmp_path):
    path = write(tmp_path, "tt_build.py", "def helper():\n    return {}['k']\ndef build(env):\n    helper()\n")
    app = load_app(f"{path}:build")
    with pytest.raises(UsageError) as caught:
        build_topology(app, StreamEnvironment(), {})
    message = str(caught.value)
    assert message.startswith("the topology of tt_build raised KeyError:\n")
    assert [line.strip() for line in message.splitlines() if "File" not in line and "^" not in line][1:] == [
        "helper()", "return {}['k']", "KeyError: 'k'"
    ]  # fmt: skip
    assert message.count("File ") == 2


def test_an_error_of_streamcore_passes_through(tmp_path):
    def build(env):
        raise TopologyError("wrong graph")

    with pytest.raises(TopologyError, match=r"^wrong graph$"):
        build_topology(App("a", build), StreamEnvironment(), {})


def test_a_bug_of_the_engine_is_not_blamed_on_the_user(monkeypatch):
    def build(env):
        env.name.no_such_method()

    monkeypatch.setattr("streamcore.cli.targets.is_engine_file", lambda filename: filename == __file__)
    with pytest.raises(AttributeError):
        build_topology(App("a", build), StreamEnvironment(), {})


def test_installed_apps_are_found_without_importing_them(apps):
    assert app_names() == ["broken", "empty", "fine"]
    assert "streamcore.apps.fine" not in sys.modules


def test_an_app_is_loaded_by_name(apps):
    app = load_app("fine")
    assert (app.name, app.summary) == ("fine", "does nothing")
    assert "streamcore.apps.empty" not in sys.modules


def test_an_unknown_app_gets_a_suggestion_and_the_list(apps):
    message = refused("fin")
    assert "there is no app 'fin'; did you mean 'fine'?" in message
    assert "the apps are: broken, empty, fine" in message


def test_without_apps_none_are_listed(monkeypatch):
    monkeypatch.setitem(sys.modules, "streamcore.apps", None)
    assert app_names() == []


def test_an_app_that_cant_be_imported_says_why(apps):
    assert "No module named 'no_such_module'" in refused("broken")


def test_an_app_without_app_is_refused(apps):
    assert "has no APP" in refused("empty")


def test_the_command_lists_good_apps_beside_broken_ones(apps):
    from click.testing import CliRunner

    from streamcore.cli.main import cli

    lines = CliRunner().invoke(cli, ["apps"]).stdout.splitlines()
    assert lines[2] == "fine    does nothing"
    assert lines[0].startswith("broken  the app broken raised ModuleNotFoundError")
