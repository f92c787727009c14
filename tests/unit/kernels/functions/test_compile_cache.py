"""Compiled loops are found again by a second process, and only where nothing has changed."""

from __future__ import annotations

import cmath
import math
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from streamcore.batch import Columns, Schema
from streamcore.kernels.functions import cache
from streamcore.kernels.functions.build import compile_map
from streamcore.kernels.functions.fingerprint import fingerprint
from streamcore.kernels.functions.program import compile_seconds
from streamcore.kernels.functions.refusal import NotCompilableError
from streamcore.kernels.functions.run import MapLoop

JOB = """
import logging, sys
from typing import NamedTuple
import numba.core.event as events
from streamcore.batch import Columns
from streamcore.kernels.functions.build import compile_map, compile_scan
from streamcore.kernels.functions.program import compile_seconds
from streamcore.kernels.functions.run import MapLoop
from streamcore import Schema
import numpy as np

class Count(events.Listener):
    compiled = 0
    def on_start(self, event):
        if "streamcore" not in type(event.data["dispatcher"].py_func).__module__:
            Count.compiled += 1
    def on_end(self, event):
        pass

events.register("numba:compile", Count())
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
OFFSET = {offset}

def helper(x):
    return x {operator} OFFSET

def convert(r):
    return (helper(r.x) ** 0.5,)

X = Schema.of(x=float)
loop = MapLoop(compile_map(convert, X, X))
print(Count.compiled, loop.run(Columns(X, {{"x": np.array([4.0, 9.0])}}))["x"].tolist(), compile_seconds() > 0)
"""


def run(directory, offset="0.0", operator="+"):
    """Runs the job in a process of its own; its lines."""
    code = textwrap.dedent(JOB).format(offset=offset, operator=operator)
    path = directory / "job.py"
    path.write_text(code)
    variables = {**os.environ, "STREAMCORE_CACHE_DIR": str(directory / "kernels")}
    done = subprocess.run([sys.executable, str(path)], env=variables, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_second_process_compiles_nothing_and_a_change_is_seen(tmp_path):
    first = run(tmp_path)
    assert first[0].startswith("map convert (job.py:")
    assert " compiled in " in first[0]
    assert first[1] != "0 [2.0, 3.0] True"
    assert first[1].endswith("[2.0, 3.0] True")
    second = run(tmp_path)
    assert " loaded from the cache in " in second[0]
    assert second[1] == "0 [2.0, 3.0] True"
    changed_global = run(tmp_path, offset="12.0")
    assert " compiled in " in changed_global[0]
    assert changed_global[1].endswith(f"[4.0, {21.0**0.5}] True")
    changed_helper = run(tmp_path, operator="*", offset="4.0")
    assert " compiled in " in changed_helper[0]
    assert changed_helper[1].endswith("[4.0, 6.0] True")


def test_damaged_machine_code_is_compiled_again(tmp_path):
    run(tmp_path)
    damaged = list((tmp_path / "kernels").rglob("*.nb?"))
    assert damaged
    for path in damaged:
        path.write_bytes(b"rubbish")
    assert run(tmp_path)[1].endswith("[2.0, 3.0] True")


def test_a_source_file_that_was_cut_off_is_written_again(tmp_path):
    run(tmp_path)
    for path in (tmp_path / "kernels").glob("*.py"):
        path.write_text("")
    assert run(tmp_path)[1].endswith("[2.0, 3.0] True")


def make(code, **names):
    scope = {"__name__": "somewhere", **names}
    exec(code, scope)
    return scope["f"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (make("def f(r): return r.x + 1"), make("def f(r): return r.x + 2")),
        (make("def f(r): return r.x + 1"), make("def f(r): return r.x + 1.0")),
        (make("def f(r): return r.x + A", A=1), make("def f(r): return r.x + A", A=True)),
        (make("def f(r): return r.x + A", A=0.0), make("def f(r): return r.x + A", A=-0.0)),
        (make("def f(r, k=1): return r.x + k"), make("def f(r, k=2): return r.x + k")),
        (make("def f(r): return r.x"), make("def f(r): return r.y")),
        (
            make("def f(r): return g(r)", g=make("def f(r): return r.x")),
            make("def f(r): return g(r)", g=make("def f(r): return -r.x")),
        ),
        (
            make("def f(r): return sqrt(r)", sqrt=math.sqrt),
            make("def f(r): return sqrt(r)", sqrt=cmath.sqrt),
        ),
        (
            make("def f(a):\n def g(r): return r.x + a\n return g")(1),
            make("def f(a):\n def g(r): return r.x + a\n return g")(2),
        ),
    ],
)
def test_functions_that_differ_have_other_fingerprints(one, other):
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one, "schema") != fingerprint(one)


def test_the_directory_falls_back_where_it_cant_be_written(tmp_path, monkeypatch):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(in_the_way / "kernels"))
    assert cache.cache_directory() != in_the_way / "kernels"
    assert cache.cache_directory().is_dir()
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "own"))
    assert cache.cache_directory() == tmp_path / "own"
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    monkeypatch.setenv(cache.VARIABLE, str(open_to_all))
    assert cache.cache_directory() != open_to_all, "others could write code there that we would run"


def test_equal_functions_share_one_loop_and_time_is_added_up(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    schema, before = Schema.of(x=float), compile_seconds()
    programs = [compile_map(make("def f(r): return (r.x * 7.25,)"), schema, schema) for _ in range(2)]
    assert compile_seconds() > before
    assert programs[0].load() is programs[1].load()
    assert [path.name for path in tmp_path.glob("*.py")] == [programs[0].path.name]


def test_one_function_is_compiled_again_when_its_global_has_changed(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    schema, names = Schema.of(x=float), {"A": 1.5}
    function = make("def g(x): return x + A\ndef f(r): return (g(r.x),)", **names)
    batch = Columns(schema, {"x": np.array([1.0])})
    assert MapLoop(compile_map(function, schema, schema)).run(batch)["x"].tolist() == [2.5]
    function.__globals__["A"] = 4.5
    assert MapLoop(compile_map(function, schema, schema)).run(batch)["x"].tolist() == [5.5]


def test_a_cache_that_has_gone_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMCORE_CACHE_DIR", str(tmp_path / "kernels"))
    compile_map(make("def f(r): return (r.x * 1.5,)"), Schema.of(x=float), Schema.of(x=float))
    shutil.rmtree(tmp_path / "kernels")
    program = compile_map(make("def f(r): return (r.x * 2.5,)"), Schema.of(x=float), Schema.of(x=float))
    assert MapLoop(program).run(Columns(Schema.of(x=float), {"x": np.array([2.0])}))["x"].tolist() == [5.0]


@pytest.mark.parametrize("default", [np.float64(0.5), np.array([1.0]), np.bool_(True), "text"])
def test_defaults_whose_value_is_no_part_of_the_fingerprint_are_refused(default):
    function = make("def f(r, k=default): return (r.x * k,)", default=default)
    with pytest.raises(NotCompilableError, match="default"):
        compile_map(function, Schema.of(x=float), Schema.of(x=float))


def test_modules_that_lead_to_each_other_end():
    function = make("def f(r): return (float(len(os.path.basename('x'))),)", os=os)
    with pytest.raises(NotCompilableError):
        compile_map(function, Schema.of(x=float), Schema.of(x=float))
