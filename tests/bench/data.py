"""The benchmark's input files, made once into build/bench-data/ROWS/ from seeded NumPy.

Three data sets, each as CSV with a header, CSV without (some engines can't skip one), and Parquet of several row
groups; each as one file and as two, `NAME-0` and `NAME-1`, which keep the order of the whole:

- `words`: word; Zipf 1.1 over 100,000 words. The two files hold the even and the odd rows.
- `timed-words`: time (int64 ms), word; the same words, 10,000 a second of event time, out of order by less than 1 s.
- `sensors`: sensor (0..999), time (int64 ms, 10,000 rows a second, out of order by less than 5 s), value (three
  decimals). The two files hold the even and the odd sensors, as two gateways would: one key is in one file only.

    python -m tests.bench.data [--rows 10000000]
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

FOLDER = Path("build/bench-data")
VOCABULARY = 100_000
ZIPF = 1.1
SENSORS = 1_000
ROWS_PER_SECOND = 10_000
SENSOR_DISORDER_MS = 5_000
WORD_DISORDER_MS = 1_000
START_MS = 1_700_000_000_000
_ROW_GROUPS = 10
DATA_SETS = ("words", "timed-words", "sensors")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of one size."""

    folder: Path
    rows: int

    def paths(self, data_set: str, kind: str, *, files: int = 1, header: bool = True) -> list[Path]:
        """The files of a data set; `kind` is csv or parquet, `files` 1 or 2."""
        suffix = "parquet" if kind == "parquet" else "csv" if header else "plain.csv"
        names = [data_set] if files == 1 else [f"{data_set}-{part}" for part in range(files)]
        return [self.folder / f"{name}.{suffix}" for name in names]


def make(rows: int, folder: Path = FOLDER) -> Inputs:
    """The input files of that many rows; those that are there already are kept."""
    inputs = Inputs(folder / str(rows), rows)
    done = inputs.folder / "complete"
    if not done.exists():
        inputs.folder.mkdir(parents=True, exist_ok=True)
        readings, timed = sensors(rows), timed_words(rows)
        _write(inputs, "sensors", readings, readings["sensor"].to_numpy() % 2)
        _write(inputs, "timed-words", timed, np.arange(rows) % 2)
        _write(inputs, "words", timed.select(["word"]), np.arange(rows) % 2)
        done.touch()
    return inputs


def sensors(rows: int) -> pa.Table:
    """sensor, time, value of that many readings."""
    chance = np.random.default_rng(41)
    return pa.table(
        {
            "sensor": chance.integers(0, SENSORS, rows),
            "time": _times(rows, SENSOR_DISORDER_MS, chance),
            "value": np.round(chance.normal(20, 5, rows), 3),
        }
    )


def timed_words(rows: int) -> pa.Table:
    """time, word of that many words."""
    chance = np.random.default_rng(42)
    weights = np.cumsum(1 / np.arange(1, VOCABULARY + 1) ** ZIPF)
    ranks = np.searchsorted(weights, chance.random(rows) * weights[-1])
    spelling = chance.permutation(VOCABULARY)  # common words are not the first in the alphabet
    words = pa.array(_vocabulary()).take(pa.array(spelling[np.minimum(ranks, VOCABULARY - 1)]))
    return pa.table({"time": _times(rows, WORD_DISORDER_MS, chance), "word": words})


def _times(rows: int, disorder_ms: int, chance: np.random.Generator) -> np.ndarray:
    arrival = np.arange(rows) * 1000 // ROWS_PER_SECOND
    return START_MS + np.maximum(arrival - chance.integers(0, disorder_ms, rows), 0)


def _vocabulary() -> list[str]:
    syllables = [consonant + vowel for consonant in "bcdfghjklmnpqrstvwxz" for vowel in "aeiou"]
    triples = itertools.product(syllables, repeat=3)
    return ["".join(triple) for triple in itertools.islice(triples, 0, len(syllables) ** 3, 10)][:VOCABULARY]


def _write(inputs: Inputs, data_set: str, table: pa.Table, parts: np.ndarray) -> None:
    _write_all(inputs, data_set, table, 1, 0)
    for part in range(2):
        _write_all(inputs, data_set, table.filter(pa.array(parts == part)), 2, part)


def _write_all(inputs: Inputs, data_set: str, table: pa.Table, files: int, part: int) -> None:
    for header in (True, False):
        path = inputs.paths(data_set, "csv", files=files, header=header)[part]
        pacsv.write_csv(table, path, pacsv.WriteOptions(include_header=header, quoting_style="none"))
    path = inputs.paths(data_set, "parquet", files=files)[part]
    pq.write_table(table, path, row_group_size=max(len(table) // _ROW_GROUPS, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    for path in sorted(make(parser.parse_args().rows).folder.iterdir()):
        print(f"{path.stat().st_size / 1e6:9.1f} MB  {path}")


if __name__ == "__main__":
    main()
