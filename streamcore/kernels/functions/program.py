"""A user's function as a program over columns: compiled before the first record, loaded from the cache by workers."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import types as python_types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.errors import NumbaError

from streamcore.batch import Schema
from streamcore.kernels.functions import cache, loops
from streamcore.kernels.functions.checked import truth
from streamcore.kernels.functions.fingerprint import fingerprint
from streamcore.kernels.functions.layout import Layout
from streamcore.kernels.functions.loops import NO_RESULTS, Results
from streamcore.kernels.functions.pipeline import exact
from streamcore.kernels.functions.records import maker, numba_type
from streamcore.kernels.functions.refusal import NotCompilableError, forget_refusals, last_refusal
from streamcore.kernels.functions.stores import from_uint64, storing

log = logging.getLogger("streamcore.compile")

_lock = threading.RLock()
_loaded: dict[tuple[Path, Any], Any] = {}
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
        """The compiled loop."""
        with _lock:
            key = (self.path, self.function)
            if key not in _loaded:
                _loaded[key] = self._compile()
            return _loaded[key]

    def _compile(self) -> Any:
        started = time.perf_counter()
        cache.store(self.path, self.source)
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
        loop = numba.njit([arguments], cache=True, nogil=True)(scope["loop"])
        seconds = time.perf_counter() - started
        _total[0] += seconds
        origin = "loaded from the cache" if loop.stats.cache_hits else "compiled"
        log.info("%s %s %s in %.2f s", self.kind, describe(self.function), origin, seconds)
        return loop


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
    surroundings = [kind, str(columns), repr(record), repr(state), str(out)]
    digest = fingerprint(function, *surroundings)
    path = cache.cache_directory() / f"{kind}_{digest}.py"
    with _lock:
        started = time.perf_counter()
        source = cache.stored(path)
        if source is None:
            results = _infer(kind, function, columns, record, state, out)
            source = f"# results: {results.as_text()}\n" + _source(kind, columns, record, state, results)
        else:
            results = Results.from_text(source.partition("\n")[0].removeprefix("# results: "))
        _total[0] += time.perf_counter() - started
        program = Program(kind, function, columns, record, state, out, results, source, path)
        with _explained(function):
            program.load()
    return program


def _infer(
    kind: str, function: Callable[..., Any], columns: Schema, record: Layout, state: Layout | None, out: Schema | None
) -> Results:
    arguments = [numba_type(record)] if state is None else [numba_type(state), numba_type(record)]
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


def _source(kind: str, columns: Schema, record: Layout, state: Layout | None, results: Results) -> str:
    if kind == "map":
        return loops.map_source(record, columns, results)
    if kind == "filter":
        return loops.filter_source(record, columns)
    assert state is not None, f"a {kind} has a state"
    return loops.keyed_source(kind, record, columns, state, results)


class _explained:  # noqa: N801 - used like a function
    """Turns what numba raises into the reason of a NotCompilableError."""

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
        if isinstance(error, NumbaError | NotImplementedError):
            raise NotCompilableError(_first_lines(str(error))) from error


def _first_lines(text: str) -> str:
    """What a message of numba's is about: its lines up to where it shows code and gives advice."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("Failed in", "During", "File", ">>>", "^"))]
    return kept[0] if kept else text
