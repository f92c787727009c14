"""What a disk may have after a crash of the machine, by what was done to it and synced.

A file's content is sure once the file was synced, and a name once its directory was synced after it was made, changed
or removed; of what was not synced, any part may be there. That is all that POSIX promises.
"""

import itertools
import os
import stat
from pathlib import Path


class Disk:
    """Records what is done below a directory (through the functions of `os`, which `pathlib` calls too), and says what
    may be left of it if the machine crashed now. `on_step` is called after each step."""

    def __init__(self, root, monkeypatch, on_step=lambda what: None):
        self.on_step = on_step
        self._root = str(root)
        self._held = []  # so that no number of a file is given away again
        self._sure = {self._number(self._root): {}}  # directory → name → file, as synced
        self._pending = {}  # directory → [(name, file or None)], in order, not synced yet
        self._contents = {}  # file → bytes, as synced
        real = {name: getattr(os, name) for name in ("fsync", "mkdir", "link", "replace", "unlink", "rmdir")}

        def fsync(descriptor):
            real["fsync"](descriptor)
            path, found = Path(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                self._sync_directory(found.st_ino)
            else:
                self._contents[found.st_ino] = path.read_bytes()
            self.on_step(f"sync {path.readlink()}")

        def mkdir(path, *rest):
            real["mkdir"](path, *rest)
            self._sure[self._number(path)] = {}
            self._change(path, self._number(path))

        def link(source, target, **options):
            real["link"](source, target, **options)
            self._change(target, self._number(target))

        def replace(source, target):
            number = self._number(source)
            real["replace"](source, target)
            self._change(target, number)

        def unlink(path):
            real["unlink"](path)
            self._change(path, None)

        def rmdir(path):
            real["rmdir"](path)
            self._change(path, None)

        for function in (fsync, mkdir, link, replace, unlink, rmdir):
            monkeypatch.setattr(os, function.__name__, function)

    def close(self):
        for descriptor in self._held:
            os.close(descriptor)

    def after_crash(self):
        """Every tree that may be there: path → content, None if the content was not synced."""
        choices = [
            [chosen for n in range(len(changes) + 1) for chosen in itertools.combinations(changes, n)]
            for changes in self._pending.values()
        ]
        for chosen in itertools.product(*choices):
            names = {directory: dict(entries) for directory, entries in self._sure.items()}
            for directory, changes in zip(self._pending, chosen, strict=True):
                for name, number in changes:
                    _set(names[directory], name, number)
            yield dict(self._walk(names, next(iter(self._sure)), ""))

    def _walk(self, names, directory, prefix):
        for name, number in names[directory].items():
            if number in names:
                yield from self._walk(names, number, f"{prefix}{name}/")
            else:
                yield f"{prefix}{name}", self._contents.get(number)

    def _sync_directory(self, directory):
        entries = self._sure[directory]
        for name, number in self._pending.pop(directory, []):
            if number is None:
                self._pending.pop(entries.get(name), None)  # of a directory that is gone for good
            _set(entries, name, number)

    def _change(self, path, number):
        directory, _, name = os.fspath(path).rpartition("/")
        if directory.startswith(self._root):
            self._pending.setdefault(self._number(directory), []).append((name, number))
            self.on_step(f"{'remove' if number is None else 'make'} {path}")

    def _number(self, path):
        self._held.append(os.open(path, os.O_RDONLY))
        return os.fstat(self._held[-1]).st_ino


def _set(entries, name, number):
    if number is None:
        entries.pop(name, None)
    else:
        entries[name] = number
