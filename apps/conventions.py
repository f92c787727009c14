"""What all apps do alike: folders of results, checks of settings, and what they say of records they can not read."""

from __future__ import annotations

import math
from typing import Any

from streamcore import DataStream, UsageError
from streamcore.connectors.file_sink import FileSink, read_jsonl

MALFORMED = "malformed"


def write(stream: DataStream[Any], output: str, name: str) -> None:
    """Writes a stream to the folder `name` of `output`; a new run replaces what an older one has written there."""
    stream.sink(FileSink(f"{output}/{name}", if_exists="replace")).uid(f"{name}-sink")


def about_malformed(output: str) -> list[str]:
    """A line for the report about records that could not be read, with the first of them; no line if all could."""
    bad = read_jsonl(f"{output}/{MALFORMED}")
    if not bad:
        return []
    where = ", ".join(filter(None, (bad[0]["split"], bad[0]["position"])))
    return [f"{len(bad):,} records could not be read ({output}/{MALFORMED}); the first: {where}: {bad[0]['reason']}"]


def check_setting(name: str, value: float, least: float, most: float = math.inf) -> None:
    """Checks a number that has limits.

    Raises:
        UsageError: it isn't from `least` to `most`.
    """
    if not least <= value <= most:
        limits = f"{least:.9g} or more" if most == math.inf else f"from {least:.9g} to {most:.9g}"
        raise UsageError(f"the setting {name} can't be {value:g}", hint=f"it is {limits}")
