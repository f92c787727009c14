"""One environment per engine under build/bench-envs/NAME, made when it is first needed and kept.

A Python peer gets a virtual environment with pinned versions; the Java job is built with Maven, which fetches the same
Flink from its default repository.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path("build/bench-envs")
JAVA_PROJECT = Path("tests/bench/peers/java")

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "bytewax": ("bytewax==0.21.1",),
    "flink": ("apache-flink==2.3.0",),
    "pathway": ("pathway==0.33.0",),
    "pyspark": ("pyspark==4.3.0", "pandas==2.3.3", "pyarrow", "numpy"),
    "river": ("river==0.26.1",),
}


class NotInstallableError(Exception):
    """An engine can't be installed here; the message says why, in one line."""


def python_of(name: str) -> Path:
    """The Python of that environment; the harness's own for ""."""
    if not name:
        return Path(sys.executable)
    folder = FOLDER / name
    python = folder / "bin" / "python"
    done = folder / "installed"
    wanted = "\n".join(REQUIREMENTS[name])
    if not done.exists() or done.read_text() != wanted:
        print(f"  installing {name} into {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _check([sys.executable, "-m", "venv", str(folder)])
        _check([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]])
        done.write_text(wanted)
    return python.absolute()


def java_class_path() -> str:
    """The class path of the Java job, built when one of its files is newer."""
    target = (FOLDER / "flink-java").absolute()
    jar = target / "jobs.jar"
    sources = [JAVA_PROJECT / "pom.xml", *JAVA_PROJECT.rglob("*.java")]
    if not jar.exists() or jar.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        print(f"  building the Java job into {target}", flush=True)
        maven = ["mvn", "-q", "-B", "-f", str(JAVA_PROJECT / "pom.xml"), f"-Dbuild.folder={target}", "package"]
        _check(maven)
    return f"{jar}:{target}/lib/*"


def _check(command: list[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NotInstallableError(f"{command[0]} is not installed") from error
    if result.returncode:
        lines = [line for line in (result.stderr or result.stdout).splitlines() if line.strip()]
        raise NotInstallableError(f"{' '.join(command[:4])} failed: {lines[-1] if lines else result.returncode}")
