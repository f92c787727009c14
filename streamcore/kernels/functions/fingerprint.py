"""What a compiled function depends on, as a digest: its bytecode, constants and defaults, the values of the globals and
outer variables that it reads, and the same of every helper it calls; so a change of any of them is another function.
"""

from __future__ import annotations

import dataclasses
import dis
import hashlib
import importlib.metadata
import inspect
import platform
import types as python_types
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from streamcore.kernels.functions.classes import check_plain, is_record_class, is_tuple_class
from streamcore.kernels.functions.refusal import NotCompilableError
from streamcore.kernels.functions.rewrite import checked_constant


def fingerprint(function: Callable[..., Any], *surroundings: str) -> str:
    """A digest of the function, of `surroundings`, and of the versions of everything that compiles it.

    Raises:
        NotCompilableError: it is no plain function, or it calls itself.
    """
    parts = [*_versions(), *surroundings, *_of_function(function, ())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@cache
def _versions() -> tuple[str, ...]:
    ours = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        ours.update(path.read_bytes())
    packages = [f"{name} {importlib.metadata.version(name)}" for name in ("numba", "llvmlite", "numpy")]
    return (platform.python_implementation(), platform.python_version(), ours.hexdigest(), *packages)


def _of_function(function: Any, callers: tuple[Any, ...]) -> Iterator[str]:
    if not isinstance(function, python_types.FunctionType):
        raise NotCompilableError(f"is a {type(function).__name__}, not a plain Python function")
    if function in callers:
        raise NotCompilableError(f"{function.__qualname__}() calls itself")
    code = function.__code__
    if code.co_flags & 0x02A0:  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR
        raise NotCompilableError(f"{function.__qualname__}() is a generator or coroutine")
    if code.co_flags & 0x0C:  # CO_VARARGS, CO_VARKEYWORDS
        raise NotCompilableError(f"{function.__qualname__}() takes any number of arguments")
    yield from _of_code(code)
    inside = (*callers, function)
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        checked_constant(default, "an argument's default is", None)  # its value becomes part of the machine code
        yield from _of_value("default", default, inside, code)
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:
            raise NotCompilableError(f"the outer variable {name!r} has no value yet") from None
        yield from _of_value(name, value, inside, code)
    for name in _globals_read(code):
        if name in function.__globals__:
            yield from _of_value(name, function.__globals__[name], inside, code)


def describe_class(cls: Any) -> str:
    """What compiled code depends on in a record class."""
    try:
        check_plain(cls)
    except NotCompilableError as refused:
        return f"a class that {refused.reason}"
    kind = "tuple" if is_tuple_class(cls) else "record"
    return f"the {kind} class {cls.__module__}.{cls.__qualname__}{inspect.signature(cls)}"


def _of_code(code: python_types.CodeType) -> Iterator[str]:
    yield f"code {code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars} {code.co_argcount}"
    for constant in code.co_consts:
        if isinstance(constant, python_types.CodeType):
            yield from _of_code(constant)
        else:
            yield f"{type(constant).__name__} {constant!r}"


def _globals_read(code: python_types.CodeType) -> list[str]:
    names = {op.argval for op in dis.get_instructions(code) if op.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, python_types.CodeType):
            names.update(_globals_read(constant))
    return sorted(names)


def _of_value(name: str, value: Any, callers: tuple[Any, ...], code: python_types.CodeType) -> Iterator[str]:
    """A line or more about a value; of one that compiled code can't use, its type is enough."""
    if value is dataclasses.replace:
        yield f"{name} is dataclasses.replace"
    elif isinstance(value, python_types.FunctionType):
        yield f"{name} is a function"
        yield from _of_function(value, callers)
    elif is_record_class(value):
        yield f"{name} is {describe_class(value)}"
    elif isinstance(value, python_types.ModuleType):
        yield f"{name} is the module {value.__name__}"
        if value.__name__ != "math" and value not in callers:  # packages lead to each other and back
            for attribute in code.co_names:
                if hasattr(value, attribute):
                    yield from _of_value(f"{name}.{attribute}", getattr(value, attribute), (*callers, value), code)
    elif type(value) in (int, float, bool, tuple, type(None)):
        yield f"{name} = {value!r} {type(value).__name__}"
    else:
        which = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
        yield f"{name} is a {type(value).__module__}.{type(value).__qualname__} {which}"
