"""What `streamcore run` can run: an app of the package `streamcore.apps`, or a function of a file."""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from streamcore.api.app import App
from streamcore.api.environment import StreamEnvironment
from streamcore.errors import StreamcoreError, UsageError
from streamcore.runtime.failures import is_engine_file

_APPS = "streamcore.apps"


def load_app(target: str) -> App:
    """The app that a target names: `NAME` of an app, or `FILE.py:FUNCTION`.

    Raises:
        UsageError: there is no such app, file or function, or the user's file can't be loaded.
    """
    path, colon, function = target.rpartition(":")
    if not colon:
        path, function = target, ""
    if path.endswith(".py"):
        return _from_file(Path(path), function)
    names = app_names()
    if target not in names:
        known = f"the apps are: {', '.join(names)}" if names else "no apps are installed"
        raise UsageError(
            f"there is no app {target!r}{_did_you_mean(target, names)}",
            hint=f"{known}; a topology of your own is FILE.py:FUNCTION",
        )
    with user_code(f"the app {target}"):
        module = importlib.import_module(f"{_APPS}.{target}.topology")
    app = getattr(module, "APP", None)
    if not isinstance(app, App):
        raise UsageError(f"the app {target} has no APP in {module.__file__}", hint="define APP = App(...) there")
    return app


def app_names() -> list[str]:
    """The installed apps, sorted; nothing of them is imported."""
    try:
        package = importlib.import_module(_APPS)
    except ModuleNotFoundError as error:
        if error.name != _APPS:
            raise
        return []  # a source tree that isn't installed
    return sorted(found.name for found in pkgutil.iter_modules(package.__path__) if found.ispkg)


def build_topology(app: App, env: StreamEnvironment, settings: Mapping[str, Any]) -> None:
    """Builds the app's topology in `env`.

    Raises:
        UsageError: the user's function raised, or the topology is wrong.
    """
    with user_code(f"the topology of {app.name}"):
        app.make(env, settings)


@contextmanager
def user_code(what: str, kind: type[StreamcoreError] = UsageError) -> Iterator[None]:
    """Turns an exception of the user's code into an error of a kind, with the user's frames.

    One that was raised by the engine's own code is a bug and passes through as it is.
    """
    try:
        yield
    except StreamcoreError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if is_engine_file(frames[-1].filename):
            raise
        own = [frame for frame in frames if not (is_engine_file(frame.filename) or _is_machinery(frame.filename))]
        shown = "".join([*traceback.format_list(own), *traceback.format_exception_only(error)]).rstrip()
        raise kind(f"{what} raised {type(error).__name__}:\n{shown}") from error


def _is_machinery(filename: str) -> bool:
    library = (importlib.__file__, importlib.util.__file__, __file__)
    return filename.startswith("<frozen ") or filename in library


def _from_file(path: Path, function: str) -> App:
    if not path.is_file():
        raise UsageError(f"there is no file {path}", hint=f"paths are relative to {Path.cwd()}")
    module = _load_file(path.resolve())
    candidates = _candidates(module)
    listed = f"it has: {', '.join(candidates)}" if candidates else "it defines no function"
    if not function:
        raise UsageError(f"{path} needs the name of a function", hint=f"write {path}:NAME; {listed}")
    found = getattr(module, function, None)
    if isinstance(found, App):
        return found
    if not callable(found):
        raise UsageError(f"{path} has no function {function!r}{_did_you_mean(function, candidates)}", hint=listed)
    if not inspect.signature(found).parameters:
        raise UsageError(
            f"{path}:{function} takes no environment",
            hint=f"its first parameter is the StreamEnvironment: def {function}(env, ...)",
        )
    return App(name=path.stem, build=found)


def _load_file(path: Path) -> ModuleType:
    """Imports a file by its stem, with its directory first on the path.

    Worker processes get this process' path and import the user's functions by name, so the name must lead to
    this file there too, and must not hide a module that others import by it.
    """
    stem, directory = path.stem, str(path.parent)
    if "." in stem:
        raise UsageError(f"{path.name} can't be imported: its name has a dot", hint="rename the file")
    importlib.invalidate_caches()
    _check_free(stem, path)
    if sys.path[0] != directory:
        sys.path.insert(0, directory)
    _check_free(stem, path)
    with user_code(str(path)):
        return importlib.import_module(stem)


def _check_free(stem: str, path: Path) -> None:
    if stem in sys.modules:
        origin = getattr(sys.modules[stem], "__file__", None) or "built-in"
    else:
        spec = importlib.util.find_spec(stem)
        # a directory without __init__.py gives way to a file on the path
        origin = spec.origin if spec is not None else None
    if origin is not None and Path(origin).resolve() != path:
        raise UsageError(
            f"{path} can't be imported as {stem!r}: that is the name of another module ({origin})",
            hint="rename the file",
        )


def _candidates(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, App)
        or (inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"))
    ]


def _did_you_mean(given: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
