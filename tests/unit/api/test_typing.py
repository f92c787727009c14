"""The types that a user's editor sees, by the type checker itself."""

import os
import subprocess
import sys
from pathlib import Path

import streamcore

SNIPPET = """
from streamcore import StreamEnvironment

env = StreamEnvironment()
numbers = env.from_values([1, 2, 3])
reveal_type(numbers)
texts = numbers.map(lambda n: str(n))
reveal_type(texts)
reveal_type(texts.filter(lambda t: t.startswith("1")))
reveal_type(numbers.flat_map(lambda n: [n * 0.5]))
keyed = texts.key_by(lambda t: len(t))
reveal_type(keyed)
reveal_type(keyed.reduce(lambda a, b: a + b))
reveal_type(keyed.scan(0, lambda total, t: (total + len(t), (t, total))))
reveal_type(texts.execute_and_collect())
numbers.map(lambda n: n.upper())
"""
EXPECTED = [
    "DataStream[int]",
    "DataStream[str]",
    "DataStream[str]",
    "DataStream[float]",
    "KeyedStream[int, str]",
    "DataStream[str]",
    "DataStream[tuple[str, int]]",
    "list[str]",
]


def test_generics_reach_the_user(tmp_path):
    (tmp_path / "snippet.py").write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "snippet.py"]
    environment = {**os.environ, "MYPYPATH": str(Path(streamcore.__file__).parents[1])}
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False).stdout
    revealed = [line.split('"')[1].replace("streamcore.api.stream.", "").replace("streamcore.api.keyed.", "")
                for line in shown.splitlines() if "Revealed type" in line]  # fmt: skip
    assert [text.replace("builtins.", "") for text in revealed] == EXPECTED, shown
    assert 'snippet.py:16: error: "int" has no attribute "upper"' in shown
