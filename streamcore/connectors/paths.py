"""Paths, globs and directories as file sources take them, and what all file sources share."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar, get_args

from streamcore.connectors.base import Source, Split
from streamcore.connectors.parts import line_edges, part_of, split_file
from streamcore.errors import ConnectorError, UsageError

T_co = TypeVar("T_co", covariant=True)

PathsLike = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A path, a glob, a directory, or several of them."""

OnError = Literal["fail", "skip", "side_output"]
"""What becomes of a malformed record."""


def expand(paths: PathsLike) -> list[str]:
    """The files that `paths` stands for, sorted, each once, written the way the user wrote them.

    A directory stands for the files right in it but not for hidden ones; so does a glob that matches files.

    Raises:
        ConnectorError: a path isn't there, or a glob or directory has no file.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise ConnectorError("no file to read: the list of paths is empty")
    return sorted({found for path in given for found in _expand_one(os.fspath(path))})


def check_on_error(value: str) -> OnError:
    """`value` if it is one of the three policies.

    Raises:
        UsageError: it is not.
    """
    for known in get_args(OnError):
        if value == known:
            policy: OnError = known
            return policy
    raise UsageError(f"on_error={value!r} is unknown", hint=f"use one of: {', '.join(get_args(OnError))}")


class FileSource(Source[T_co]):
    """A source of files. Each is one split with its path as the id, or is cut into about `splits` of them.

    Raises:
        UsageError: `splits` is less than 1.
    """

    def __init__(self, paths: PathsLike, splits: int = 1) -> None:
        if splits < 1:
            raise UsageError(f"splits={splits} can't be: a file has one part or more")
        self.paths = paths if isinstance(paths, str | os.PathLike) else list(paths)
        self.split_count = splits

    def splits(self) -> Sequence[Split]:
        """The parts of all files, found when the job starts.

        Raises:
            ConnectorError: a file isn't there, or has to be read to be cut and can't be.
        """
        paths = expand(self.paths)
        if self.split_count == 1:
            return [Split(path) for path in paths]
        return [split for path in paths for split in split_file(path, self.edges(path))]

    def edges(self, path: str) -> list[int]:
        """Where the file is cut into parts, from its start to its end; [] when it can't be cut."""
        return line_edges(path, self.split_count)

    def hint_for_lost(self, split_id: str, splits: Sequence[Split]) -> str | None:
        """A part of a file that is cut in another way now."""
        paths = {part_of(split).path for split in splits}
        if split_id in paths or split_id.rpartition("#")[0] in paths:
            return "the file is cut into other parts now: use the same splits= and file as when the snapshot was taken"
        return None


def _expand_one(path: str) -> list[str]:
    place = Path(path)
    if place.is_dir():
        files = [str(place / entry.name) for entry in place.iterdir() if entry.is_file() and entry.name[0] != "."]
        if not files:
            raise ConnectorError(f"no file in the directory {path!r}", hint="hidden files (.name) are not read")
        return files
    if place.exists():
        return [path]
    if not glob.has_magic(path):
        raise ConnectorError(f"no file {path!r}", hint=_missing_hint(place))
    # pathlib's glob would rewrite "./a" to "a" and match hidden files
    matches = [match for match in glob.glob(path, recursive=True) if Path(match).is_file()]  # noqa: PTH207
    if not matches:
        raise ConnectorError(f"no file matches {path!r}", hint=f"the current directory is {Path.cwd()}")
    return matches


def _missing_hint(place: Path) -> str:
    if not place.parent.is_dir():
        return f"there is no directory {str(place.parent)!r}; the current directory is {Path.cwd()}"
    entries = [entry for entry in place.parent.iterdir() if entry.suffix == place.suffix and entry.name[0] != "."]
    names = sorted(entry.name for entry in entries)
    there = f"{str(place.parent)!r} has: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
    return there if names else f"{str(place.parent)!r} has no {place.suffix or 'such'} file"
