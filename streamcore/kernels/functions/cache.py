"""Where generated loops lie: one file each, named by the digest of all that it depends on. numba keeps its machine
code beside them, so a second start finds both."""

from __future__ import annotations

import os
import stat
import tempfile
from functools import cache
from pathlib import Path

VARIABLE = "STREAMCORE_CACHE_DIR"


def cache_directory() -> Path:
    """The directory of generated loops: `STREAMCORE_CACHE_DIR`, else the user's cache, else a temporary one."""
    return _directory(os.environ.get(VARIABLE), os.environ.get("XDG_CACHE_HOME"))


@cache
def _directory(chosen: str | None, users_cache: str | None) -> Path:
    caches = Path(users_cache) if users_cache else Path("~/.cache").expanduser()
    first = Path(chosen) if chosen else caches / "streamcore" / "kernels"
    shared = Path(tempfile.gettempdir()) / f"streamcore-kernels-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    for directory in (first, shared):
        if _is_ours(directory):
            return directory
    return Path(tempfile.mkdtemp(prefix="streamcore-kernels-"))


def _is_ours(directory: Path) -> bool:
    """Whether we can write there and nobody else can: what lies there is executed."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError:
        return False
    others_write = status.st_mode & stat.S_IWOTH
    return os.access(directory, os.W_OK) and not others_write and (not hasattr(os, "getuid") or _owned(status))


def _owned(status: os.stat_result) -> bool:
    return status.st_uid in (os.getuid(), 0)


def stored(path: Path) -> str | None:
    """The source in a file, if it is there."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def store(path: Path, source: str) -> bool:
    """Writes a file at once and only if it is not there yet: numba's code beside it is tied to its date.

    Returns:
        Whether it is there; not when the disk is full or the directory can't be written any more.
    """
    if stored(path) == source:
        return True
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    except OSError:
        return False
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(source)
            file.flush()
            os.fsync(handle)
        temporary.replace(path)
    except OSError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True
