from __future__ import annotations

from pathlib import Path

import pytest

from streamcore.connectors.paths import expand
from streamcore.errors import ConnectorError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.csv", "a.csv", "c.txt", ".hidden.csv", "sub/d.csv", "empty/.keep"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    return tmp_path


def test_files_globs_directories_and_lists(folder, monkeypatch):
    def names(*given):
        return [str(Path(path).relative_to(folder)) for path in expand(*given)]

    assert names(str(folder / "a.csv")) == ["a.csv"]
    assert names(folder / "a.csv") == ["a.csv"]
    assert names(str(folder / "*.csv")) == ["a.csv", "b.csv"]
    assert names(str(folder / "**" / "*.csv")) == ["a.csv", "b.csv", "sub/d.csv"]
    assert names(folder) == ["a.csv", "b.csv", "c.txt"]
    assert names([folder / "c.txt", str(folder / "*.csv"), folder / "a.csv"]) == ["a.csv", "b.csv", "c.txt"]
    monkeypatch.chdir(folder)
    assert expand("./a.csv") == ["./a.csv"]
    assert expand("./*.csv") == ["./a.csv", "./b.csv"]
    (folder / "odd[1].csv").write_text("x")
    assert expand("odd[1].csv") == ["odd[1].csv"]


def test_what_is_not_there(folder):
    with pytest.raises(ConnectorError, match=r"no file '.*x\.csv'\n  hint: .* has: a\.csv, b\.csv"):
        expand(folder / "x.csv")
    with pytest.raises(ConnectorError, match=r"no file '.*'\n  hint: .* has no \.json file"):
        expand(folder / "x.json")
    with pytest.raises(ConnectorError, match=r"there is no directory '.*gone'"):
        expand(folder / "gone" / "x.csv")
    with pytest.raises(ConnectorError, match=r"no file matches '.*\*\.json'"):
        expand(str(folder / "*.json"))
    with pytest.raises(ConnectorError, match=r"no file in the directory '.*empty'"):
        expand(folder / "empty")
    with pytest.raises(ConnectorError, match="the list of paths is empty"):
        expand([])
