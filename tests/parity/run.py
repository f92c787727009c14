"""The same random streams through Apache Flink and through streamcore, compared record by record.

    python -m tests.parity.run [--seeds 3] [--only NAME]

Flink is the one of the Python package `apache-flink`, whose jars hold all of it; `Parity.java` has its side of a case.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.bench.environments import NotInstallableError, python_of
from tests.parity.cases import CASES, IN_TIME, run
from tests.parity.streams import BOUND_MS, random_stream, write

PROGRAM = Path("tests/parity/Parity.java")
CLASSES = Path("build/parity")
SHOWN = 5


def class_path() -> str:
    """Flink's jars and the compiled program.

    Raises:
        NotInstallableError: there is no Flink to be had, or no Java compiler.
    """
    libraries = sorted(python_of("flink").parents[1].glob("lib/python3*/site-packages/pyflink/lib"))
    CLASSES.mkdir(parents=True, exist_ok=True)
    jars = f"{libraries[0]}/*"
    command = ["javac", "-nowarn", "-cp", jars, "-d", str(CLASSES), str(PROGRAM)]
    try:
        made = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise NotInstallableError("javac isn't there: install a JDK, 17 or newer") from error
    if made.returncode:
        raise NotInstallableError(f"{PROGRAM} can't be compiled:\n{made.stderr}")
    return f"{CLASSES}:{jars}"


def on_flink(path: str, stream: Path, output: Path, names: list[str]) -> None:
    """Runs cases on Flink; each leaves its lines in a file of its name."""
    opened = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("util", "lang", "time")]
    command = ["java", *opened, "-cp", path, "Parity", str(stream), str(output), str(BOUND_MS), *names]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"Flink failed:\n{done.stderr[:3000]}")


def compare(seed: int, path: str, only: str) -> tuple[int, int, int]:
    """One seed's comparisons, records and differences."""
    comparisons = records = differences = 0
    for late in (True, False):
        names = [name for name in CASES if only in name and name.startswith(IN_TIME) is not late]
        if not names:
            continue
        events = random_stream(seed, late=late)
        with tempfile.TemporaryDirectory() as folder:
            write(events, stream := Path(folder) / "stream.csv")
            on_flink(path, stream, Path(folder), names)
            flink = {name: Counter((Path(folder) / f"{name}.txt").read_text().splitlines()) for name in names}
        for name in names:
            for way, case in CASES[name].items():
                ours = Counter(run(case, events))
                missing, extra = flink[name] - ours, ours - flink[name]
                comparisons += 1
                records += flink[name].total()
                differences += missing.total() + extra.total()
                if missing or extra:
                    print(f"seed {seed}, {name} on {way}: Flink has {flink[name].total()} records, and")
                    for what, lines in (("only Flink", missing), ("only streamcore", extra)):
                        print(f"  {what} ({lines.total()}): {'  '.join(sorted(lines)[:SHOWN])}")
    return comparisons, records, differences


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="the cases whose name has this in it")
    options = parser.parse_args()
    try:
        path = class_path()
    except NotInstallableError as error:
        print(error)
        return 1
    totals = [compare(seed, path, options.only) for seed in range(options.seeds)]
    comparisons, records, differences = (sum(column) for column in zip(*totals, strict=True))
    print(f"flink-parity: {comparisons} comparisons, {records:,} records of Flink's, {differences} differences")
    return 1 if differences or not comparisons else 0


if __name__ == "__main__":
    sys.exit(main())
