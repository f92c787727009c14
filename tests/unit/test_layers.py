"""Imports go down only; the layers are those of the design."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import streamcore

ROOT = Path(streamcore.__file__).parent

BELOW: dict[str, set[str]] = {
    "errors": set(),
    "logs": {"errors"},
    "time": {"errors"},
    "batch": {"time", "errors"},
    "kernels": {"batch", "time", "errors"},
    "state": {"kernels", "batch", "time", "errors"},
    "checkpoint": {"kernels", "state", "batch", "time", "errors"},
    "connectors": {"kernels", "batch", "time", "errors"},
    "runtime": {"checkpoint", "state", "kernels", "connectors.base", "batch", "time", "errors"},
}
# a plan makes what the runtime runs, and a job runs a plan: api > plan > job > runtime as far as imports go
BELOW["job"] = {"runtime", "connectors.base", "logs"} | BELOW["runtime"]
BELOW["plan"] = {"job", "runtime", "connectors.base"} | BELOW["runtime"]
BELOW["api"] = {"plan", "job", "connectors"} | BELOW["job"]
BELOW["metrics"] = {"job"} | BELOW["job"]
BELOW["snapshots"] = BELOW["runtime"] | {"runtime"}
BELOW["cli"] = {"snapshots", "metrics", "api", "streamcore", "logs", "connectors"} | BELOW["api"]
BELOW["__main__"] = {"cli"}
BELOW["streamcore"] = {"snapshots", "api", "plan", "job", "runtime", "state", "kernels", "batch", "time", "errors"}
BELOW["testing"] = {"streamcore", *BELOW} - {"testing", "cli", "__main__"}
BELOW["operators"] = {"streamcore", "operators"}
BELOW["apps"] = {"streamcore", "operators", "connectors"}


def modules():
    """Every source file of the package, by its name below `streamcore`; the links `operators`, `apps` are followed."""
    for folder in (ROOT, ROOT / "operators", ROOT / "apps"):
        for path in sorted(folder.resolve().rglob("*.py")):
            below = path.relative_to(folder.resolve())
            yield ".".join((folder / below).relative_to(ROOT).with_suffix("").parts), path


def imported(path):
    """(module, line) of every import of ours, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            yield node.module, node.lineno
            if node.module == "streamcore":  # `from streamcore import x`: x may be a package
                for alias in node.names:
                    if (ROOT / alias.name).exists() or (ROOT / f"{alias.name}.py").exists():
                        yield f"streamcore.{alias.name}", node.lineno


def layer_of(name):
    """`batch.columns` → `batch`; the package itself → `streamcore`."""
    return name.split(".")[0] if name != "__init__" else "streamcore"


def is_allowed(target, layer, allowed):
    parts = target.split(".")[1:]
    if not parts:
        return "streamcore" in allowed
    return parts[0] == layer or any(parts[: len(a.split("."))] == a.split(".") for a in allowed)


MODULES = dict(modules())


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_only(name):
    layer = layer_of(name)
    assert layer in BELOW, f"{name} is in no layer of the design"
    wrong = [
        f"{MODULES[name]}:{line}: {layer} imports {target}"
        for target, line in imported(MODULES[name])
        if target.split(".")[0] == "streamcore" and not is_allowed(target, layer, BELOW[layer])
    ]
    assert not wrong, "\n".join(wrong)


def test_the_layers_have_no_cycle():
    order: list[str] = []
    rest = {layer: {a.split(".")[0] for a in below} - {layer} for layer, below in BELOW.items()}
    while rest:
        free = sorted(layer for layer, below in rest.items() if below <= set(order))
        assert free, f"a cycle among {sorted(rest)}"
        order.extend(free)
        for layer in free:
            del rest[layer]
    assert order.index("errors") < order.index("batch") < order.index("runtime") < order.index("api")


def test_the_test_sees_what_it_is_about():
    """Else a renamed folder would make all of the above true of nothing."""
    assert {"errors", "batch.columns", "runtime.gate", "operators.__init__", "apps.__init__"} <= set(MODULES)
    assert len(MODULES) > 80
    assert ("streamcore.errors", 5) not in imported(MODULES["errors"])
    assert any(target == "streamcore.batch" for target, _ in imported(MODULES["runtime.gate"]))
    assert not is_allowed("streamcore.api.stream", "runtime", BELOW["runtime"])
    assert not is_allowed("streamcore.connectors.csv_source", "runtime", BELOW["runtime"])
    assert is_allowed("streamcore.connectors.base", "runtime", BELOW["runtime"])
    assert not is_allowed("streamcore.runtime.spec", "operators", BELOW["operators"])


@pytest.mark.parametrize("module", ["time", "random", "socket", "tempfile"])
def test_the_runtime_s_decisions_touch_no_clock_no_chance_and_no_network(module):
    """Time, chance and the network reach them through `runtime.services`, so a simulation can replace them."""
    pure = (
        "runtime: alignment gate output feedback partition subtask operator_task source_task chain functions",
        "checkpoint: ledger log",
        "job: termination placement",
    )
    names = [f"{layer}.{name}" for layer, _, rest in (line.partition(": ") for line in pure) for name in rest.split()]
    for name in names:
        assert module not in {target for target, _ in imported(MODULES[name])}, f"{name} imports {module}"
