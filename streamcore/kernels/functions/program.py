"""A user's function as a program over columns: compiled before the first record, loaded from the cache by workers."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import pickle
import threading
import time
import types as python_types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from streamcore.batch import Schema
from streamcore.kernels.functions import cache, loops
from streamcore.kernels.functions.checked import truth
from streamcore.kernels.functions.fingerprint import describe_class, fingerprint
from streamcore.kernels.functions.layout import Layout
from streamcore.kernels.functions.loops import NO_RESULTS, Results
from streamcore.kernels.functions.pipeline import exact, forget_exact
from streamcore.kernels.functions.records import maker, numba_type
from streamcore.kernels.functions.refusal import NotCompilableError, forget_refusals, last_refusal
from streamcore.kernels.functions.stores import from_uint64, storing

log = logging.getLogger("streamcore.compile")

_lock = threading.RLock()
_loaded: dict[Path, Any] = {}
_RESULTS = "# results: "
_total = [0.0]


def compile_seconds() -> float:
    """The time that this process has spent on compiling functions and on loading them from the cache."""
    return _total[0]


@dataclasses.dataclass(frozen=True)
class Program:
    """A function, the columns it reads and writes, and the generated loop that runs it. Goes to workers as it is:
    they find the machine code in the cache, or compile it again.

    Attributes:
        kind: map, filter, scan, reduce or fold.
        columns: the schema of the batches.
        record, state: what the function is called with; no state for a map or filter.
        out: the schema of the results, if there are any.
        results: where their columns come from.
        source: of the loop.
        path: the file of the source, beside which the machine code lies.
    """

    kind: str
    function: Callable[..., Any]
    columns: Schema
    record: Layout
    state: Layout | None
    out: Schema | None
    results: Results
    source: str
    path: Path

    def load(self) -> Any:
        """The compiled loop; one in a process for all functions that are the same."""
        with _lock:
            if self.path not in _loaded:
                with _timed(self.kind, self.function) as timed:
                    _loaded[self.path] = timed.loop = self._compile()
            return _loaded[self.path]

    def _compile(self) -> Any:
        is_stored = cache.store(self.path, self.source)
        scope: dict[str, Any] = {
            "__name__": __name__,  # numba imports it when it loads machine code from the cache
            "np": np,
            "function": exact(self.function),
            "make_record": maker(self.record),
            "truth": truth,
            "from_uint64": from_uint64,
        }
        if self.state is not None:
            scope["make_state"] = maker(self.state)
        if self.out is not None:
            for i, (name, _) in enumerate(self.results.stored):
                scope[f"store_{i}"] = storing(self.out.by_name[name])
        exec(compile(self.source, str(self.path), "exec"), scope)  # noqa: S102 - the source that we generated
        arguments = loops.signature(self.kind, self.record, self.columns, self.state, self.results, self.out)
        if not is_stored:
            return numba.njit([arguments], nogil=True)(scope["loop"])
        try:
            return numba.njit([arguments], cache=True, nogil=True)(scope["loop"])
        except (EOFError, OSError, pickle.UnpicklingError, AttributeError, ImportError, ValueError):
            # what lies in the cache is damaged, or the disk is full
            return numba.njit([arguments], nogil=True)(scope["loop"])


class _timed:  # noqa: N801 - used like a function
    """Adds up and logs how long a function took to compile or load; the outermost block counts."""

    depth = 0

    def __init__(self, kind: str, function: Any) -> None:
        self._what = f"{kind} {describe(function)}"
        self.loop: Any = None

    def __enter__(self) -> _timed:
        self._started = time.perf_counter()
        _timed.depth += 1
        return self

    def __exit__(self, *error: object) -> None:
        _timed.depth -= 1
        if _timed.depth:
            return
        seconds = time.perf_counter() - self._started
        _total[0] += seconds
        if self.loop is not None:
            origin = "loaded from the cache" if self.loop.stats.cache_hits else "compiled"
            log.info("%s %s in %.2f s", self._what, origin, seconds)


def describe(function: Any) -> str:
    """`name (file.py:12)` of a function, as messages show it."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", None) or repr(function)
    return f"{name} ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else name


def build(
    kind: str,
    function: Callable[..., Any],
    columns: Schema,
    record: Layout,
    *,
    state: Layout | None = None,
    out: Schema | None = None,
) -> Program:
    """Compiles a function, or loads what an earlier run has compiled.

    Raises:
        NotCompilableError: the function's results might not be those of the interpreter; with the reason.
    """
    surroundings = [kind, str(columns), str(out), *(_describe_layout(layout) for layout in (record, state))]
    digest = fingerprint(function, *surroundings)
    path = cache.cache_directory() / f"{kind}_{digest}.py"
    with _lock, _timed(kind, function) as timed:
        forget_exact()
        source = cache.stored(path)
        if source is None or not source.startswith(_RESULTS):  # the second: cut off by a crash
            results = _infer(kind, function, columns, record, state, out)
            source = f"{_RESULTS}{results.as_text()}\n" + _source(kind, columns, record, state, results)
        else:
            results = Results.from_text(source.partition("\n")[0].removeprefix(_RESULTS))
        program = Program(kind, function, columns, record, state, out, results, source, path)
        is_new = path not in _loaded
        with _explained(function):
            loop = program.load()
        timed.loop = loop if is_new else None
    return program


def _describe_layout(layout: Layout | None) -> str:
    if layout is None:
        return "no state"
    cls = describe_class(layout.cls) if layout.cls else ""
    return f"{layout.shape} {layout.names} {layout.kinds} {cls}"


def _infer(
    kind: str, function: Callable[..., Any], columns: Schema, record: Layout, state: Layout | None, out: Schema | None
) -> Results:
    arguments = [numba_type(record)] if state is None else [numba_type(state), numba_type(record)]
    arguments += _defaults(function, arguments)
    with _explained(function):
        dispatcher = exact(function)
        dispatcher.compile(tuple(arguments))
        returned = dispatcher.overloads[tuple(arguments)].signature.return_type
    if kind == "filter":
        return NO_RESULTS
    if state is not None:
        new = returned
        if kind == "scan":
            if not isinstance(returned, numba.types.BaseTuple) or len(returned) != 2:
                raise NotCompilableError("returns no pair (state, result)")
            new, returned = returned.types
        loops.check_state(new, state)
    return NO_RESULTS if out is None else loops.plan_results(returned, columns, out)


def _defaults(function: Callable[..., Any], given: list[Any]) -> list[Any]:
    """The types of the arguments that are not given."""
    parameters = list(inspect.signature(function).parameters.values())
    try:
        inspect.signature(function).bind(*given)
    except TypeError as error:
        shown = "(record)" if len(given) == 1 else "(state, record)"
        raise NotCompilableError(f"can't be called with {shown}: {error}") from None
    return [numba.types.Omitted(parameter.default) for parameter in parameters[len(given) :]]


def _source(kind: str, columns: Schema, record: Layout, state: Layout | None, results: Results) -> str:
    if kind == "map":
        return loops.map_source(record, columns, results)
    if kind == "filter":
        return loops.filter_source(record, columns)
    assert state is not None, f"a {kind} has a state"
    return loops.keyed_source(kind, record, columns, state, results)


class _explained:  # noqa: N801 - used like a function
    """Turns what numba raises, its own failures included, into the reason of a NotCompilableError."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __enter__(self) -> None:
        forget_refusals()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: python_types.TracebackType | None) -> None:
        if error is None or not isinstance(error, Exception):
            return
        if isinstance(error, NotCompilableError):
            raise NotCompilableError(error.reason, error.line) from None
        refusal = last_refusal()
        if refusal is not None:
            raise NotCompilableError(refusal.reason, refusal.line) from error
        raise NotCompilableError(_first_lines(str(error))) from error


def _first_lines(text: str) -> str:
    """What a message of numba's is about: its lines up to where it shows code and gives advice."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("Failed in", "During", "File", ">>>", "^"))]
    return kept[0] if kept else text
